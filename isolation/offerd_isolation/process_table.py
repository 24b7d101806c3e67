"""Processes as /proc shows them: whose children they are, what they use, what they carry in their environment.

Imports next to nothing: a part of every shim. What names processes across time stands in `procfs`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from offerd import pidfds

CONTAINER_MARK = "OFFERD_CONTAINER_MARK"
"""Variable that every process of a container carries: `WORK_DIR_HASH/CONTAINER_ID`. Not OFFERD_CONTAINER_ID, which is
for the executor to read: two slaves of one host, or of one test run, may use the same container ids."""
TASK_MARK = "OFFERD_TASK_ID"
"""Variable that an executor puts into the environment of a task's processes."""
SHIM_MARK = "OFFERD_SHIM"
"""Variable that shims carry, with their own pid (a child shows its parent's until it has one of its own). Shims end by
themselves when all else in their container has ended."""
SHIM_FILE = "shim"
"""In a container's directory: who its one shim is, JSON. Whoever makes it is that."""

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROC = "/proc"


class Process(NamedTuple):
    """One line of /proc/PID/stat, as far as we need it."""

    pid: int
    state: str
    ppid: int
    session: int
    threads: int
    start_ticks: int  # after boot; with the boot and the pid, this names one process for ever
    cpu_ticks: int  # user and system, its own
    reaped_cpu_ticks: int  # ... and of the children it has waited for, with theirs
    rss_bytes: int
    group: int = 0

    @property
    def is_dead(self) -> bool:
        """Nothing but an entry in the process table. (A leader may be a zombie while other threads of it still run.)"""
        return self.state in "ZX" and self.threads <= 1


def mark_prefix(work_dir: str | os.PathLike[str]) -> str:
    """How the marks of all containers of one slave begin. Two slaves never share a work directory (it is locked), so its name
    and inode tell their containers apart.
    """
    import hashlib  # not for every shim

    identity = f"{os.path.realpath(work_dir)}:{os.stat(work_dir).st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16] + "/"


@cache
def boot_id(proc: str = PROC) -> str:
    """The kernel's name for this boot."""
    with open(f"{proc}/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read(pid: int) -> Process | None:
    """The process of this pid now, or None."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb", buffering=0) as file:
            line = file.read(4096)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, also blanks and parentheses: fields are counted from the last one.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        ppid=int(fields[1]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        reaped_cpu_ticks=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * PAGE_BYTES,
        group=int(fields[2]),
    )


def processes() -> list[Process]:
    """All processes of the host, in no order."""
    found = (read(int(name)) for name in os.listdir(PROC) if name.isdigit())
    return [process for process in found if process is not None]


def children(pid: int) -> list[int]:
    """Pids of the children of all threads of a process. Exact only while none of them dies: look again afterwards."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for thread in threads:
        try:
            with open(f"{PROC}/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                while data := file.read(64 << 10):
                    found.extend(map(int, data.split()))
        except FileNotFoundError:
            if os.path.exists(f"{PROC}/{pid}/task/{thread}"):  # a kernel without CONFIG_PROC_CHILDREN
                return [other.pid for other in processes() if other.ppid == pid]
        except ProcessLookupError:
            continue
    return found


def descendants(pid: int) -> list[Process]:
    """Everything below a process, parents before children, without what is dead already."""
    found: list[Process] = []
    seen: set[int] = set()
    waiting = [pid]
    for parent in waiting:  # grows while we go
        for child in children(parent):
            if child not in seen and (process := read(child)) is not None:
                seen.add(child)
                waiting.append(child)
                if not process.is_dead:
                    found.append(process)
    return found


class TooManyProcesses(Exception):
    """More than can be looked at while others wait."""


def few_descendants(pid: int, most: int) -> list[Process]:
    """The same, dead ones counted; raises `TooManyProcesses` before it looks at more than `most`."""
    found: list[Process] = []
    waiting, seen = [pid], 0
    for parent in waiting:  # grows while we go
        below = children(parent)
        seen += len(below)
        if seen > most:
            raise TooManyProcesses
        for child in below:
            if (process := read(child)) is not None:
                waiting.append(child)
                if not process.is_dead:
                    found.append(process)
    return found


def with_descendants(roots: list[Process], everyone: list[Process]) -> list[Process]:
    """`roots` and all below them, out of `everyone`."""
    by_parent: dict[int, list[Process]] = {}
    for each in everyone:
        by_parent.setdefault(each.ppid, []).append(each)
    found = {each.pid: each for each in roots}
    waiting = list(roots)
    while waiting:
        for child in by_parent.get(waiting.pop().pid, ()):
            if child.pid not in found:
                found[child.pid] = child
                waiting.append(child)
    return list(found.values())


def environment(pid: int) -> bytes:
    """The environment a process shows, `NAME=VALUE` each ended by a zero byte; empty if it is gone or not ours to read."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb", buffering=0) as file:
            return file.read(1 << 20)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def variable(environ: bytes, name: str) -> str | None:
    """One variable out of what `environment` gave."""
    key = name.encode() + b"="
    start = 0 if environ.startswith(key) else environ.find(b"\0" + key) + 1
    if start == 0 and not environ.startswith(key):
        return None
    value, _, _ = environ[start + len(key) :].partition(b"\0")
    return value.decode(errors="replace")


def uids(pid: int) -> tuple[int, int, int] | None:
    """Real, effective and saved uid; None if it is gone."""
    try:
        with open(f"{PROC}/{pid}/status", "rb", buffering=0) as file:
            text = file.read(4096)
    except (FileNotFoundError, ProcessLookupError):
        return None
    real, effective, saved = text.partition(b"\nUid:")[2].split(None, 3)[:3]
    return int(real), int(effective), int(saved)


def open_pidfd(pid: int, start_ticks: int) -> int | None:
    """A pidfd of exactly this process of this boot (a zombie too); None if it is gone. The caller closes it."""
    pidfd = pidfds.open_pidfd(pid)
    if pidfd is None:
        return None
    # While we hold the pidfd its pid is nobody else's: what stands under it in /proc now is what the pidfd means. The
    # other way round (look, then open) a stranger could slip in.
    found = read(pid)
    if found is None or found.start_ticks != start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def kill(pid: int, start_ticks: int, number: int = signal.SIGKILL) -> bool:
    """Signal exactly this process of this boot; False if it is gone. Raises `PermissionError`."""
    pidfd = open_pidfd(pid, start_ticks)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill_groups(targets: Iterable[Process], spared_sessions: set[int]) -> None:
    """SIGKILL to the process groups of these, each group at one moment: who forks and ends faster than we can look is hit all
    the same, as long as it stays in its group. Groups never reach beyond their session; those of `spared_sessions` are left
    alone. Raises `PermissionError`.
    """
    for group in {each.group for each in targets if each.session not in spared_sessions and each.group > 1}:
        try:
            # A number is not given away while a process of the group lives; one did, a moment ago.
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_all(targets: Iterable[Process]) -> None:
    """SIGKILL to each, if it still is the one that was seen. Raises `PermissionError`."""
    for target in targets:
        kill(target.pid, target.start_ticks)
