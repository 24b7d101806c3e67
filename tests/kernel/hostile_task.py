"""Run as a task of user nobody: tries every way out of its cgroup and its user's rights; prints what succeeded, as JSON.

Arguments: pids, as `executor=1 shim=2 spawner=3 other=4` (`other`: of another user's task), and files not to be read.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable

ROOT = "/sys/fs/cgroup"
PTRACE_ATTACH = 16
SYS_CLONE3 = 435
CLONE_INTO_CGROUP = 0x200000000
DELEGATED = ("cgroup.procs", "cgroup.subtree_control")
libc = ctypes.CDLL(None, use_errno=True)
could: list[str] = []
tried = 0


def attempt(what: str, act: Callable[..., object], *arguments: object) -> None:
    """Note it if nothing refuses it."""
    global tried
    tried += 1
    try:
        act(*arguments)
    except (OSError, ValueError):
        return
    could.append(what)


def open_for_writing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def trace(pid: int) -> None:
    if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read(path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        file.read(1)


def read_memory(pid: int) -> None:
    with open(f"/proc/{pid}/maps") as maps:
        begin = int(maps.readline().partition("-")[0], 16)
    fd = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    os.pread(fd, 8, begin)


def clone_into(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    arguments = (ctypes.c_uint64 * 11)(CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, directory)
    pid = libc.syscall(ctypes.c_long(SYS_CLONE3), arguments, ctypes.c_size_t(88))
    if pid == 0:
        os._exit(0)
    os.close(directory)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "refused")
    os.waitpid(pid, 0)


def main() -> None:
    pids = {name: int(pid) for name, _, pid in (word.partition("=") for word in sys.argv[1:5])}
    with open("/proc/self/cgroup") as file:
        own = ROOT + file.read().strip().removeprefix("0::")
    places = [path for path, _, _ in os.walk(ROOT)]
    for place in places:
        for name in os.listdir(place):
            path = f"{place}/{name}"
            if os.path.isdir(path) or (place == own and name in DELEGATED):
                continue
            attempt(f"open {path}", open_for_writing, path)
        if place != own:
            attempt(f"move to {place}", write, f"{place}/cgroup.procs", str(os.getpid()))
            attempt(f"be born in {place}", clone_into, place)
            attempt(f"mkdir in {place}", os.mkdir, f"{place}/mine")
            attempt(f"chmod {place}", os.chmod, place, 0o777)
        attempt(f"rmdir {place}", os.rmdir, place)
    for name, pid in pids.items():
        attempt(f"trace {name}", trace, pid)
        attempt(f"memory of {name}", read_memory, pid)
        attempt(f"descriptors of {name}", os.listdir, f"/proc/{pid}/fd")
        attempt(f"environment of {name}", read, f"/proc/{pid}/environ")
        if name != "executor":  # it is our user's: see docs/isolation.md
            attempt(f"kill {name}", os.kill, pid, signal.SIGKILL)
    for path in sys.argv[5:]:
        attempt(f"read {path}", read, path)
    attempt("be root", os.setuid, 0)
    secrets = [
        name for name in ("OFFERD_TOKEN", "OFFERD_SLAVE_SOCKET", "OFFERD_SPAWNER") if name in os.environ
    ]
    inherited = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
    nested = f"{own}/nested"
    os.mkdir(nested)  # what it may do
    os.rmdir(nested)
    json.dump({"could": could, "tried": tried, "secrets": secrets, "fds": len(inherited)}, sys.stdout)


main()
