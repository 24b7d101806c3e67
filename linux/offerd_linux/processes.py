"""Processes as /proc shows them: parents and children, resource use, environments; and signals to exactly those processes that
were seen.

This imports almost nothing, as every shim imports it. `process_ids` identifies processes across restarts and boots.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from offerd_linux import pidfds

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROC = "/proc"
_LIST_BYTES = 4096
"""Buffer for a list of children. Small, because executors read such a list for every batch of deaths."""
_ENDED = (FileNotFoundError, ProcessLookupError)


class Process(NamedTuple):
    """The fields of /proc/PID/stat that are needed."""

    pid: int
    state: str
    ppid: int
    session: int
    threads: int
    start_ticks: int  # clock ticks after boot; with boot and pid, this identifies a process for ever
    cpu_ticks: int  # user and system, its own
    reaped_cpu_ticks: int  # ... and of the children it has waited for, with theirs
    rss_bytes: int
    group: int = 0

    @property
    def is_dead(self) -> bool:
        """Only an entry in the process table is left. (A leader may be a zombie while other threads still run.)"""
        return self.state in "ZX" and self.threads <= 1


class TooManyProcesses(Exception):
    """There are more processes than can be looked at without delaying others."""


@cache
def boot_id(proc: str = PROC) -> str:
    """The kernel's identifier of this boot."""
    with open(f"{proc}/sys/kernel/random/boot_id") as file:
        return file.read().strip()


# -- one process -----------------------------------------------------------------------------------------------------------


def stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on (the state; proc(5)); None if there is no such process, or none that we
    may see (proc mounted with hidepid=1 refuses access, with hidepid=2 hides it).
    """
    try:
        with open(f"{PROC}/{pid}/stat", "rb", buffering=0) as file:
            line = file.read(4096)
    except (*_ENDED, PermissionError):
        return None
    # The name in parentheses may hold anything, also blanks and parentheses: fields are counted from the last `)`.
    return line[line.rindex(b")") + 2 :].split()


def read(pid: int) -> Process | None:
    """The process with this pid now; None if there is none, or none that we may see."""
    fields = stat_fields(pid)
    if fields is None:
        return None
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


def status(pid: int, name: str) -> str:
    """One line of /proc/PID/status, without its name; empty if the kernel has none. Raises `OSError` if the process is gone."""
    text = _read_file(pid, "status")
    return text.partition(b"\n%s:" % name.encode())[2].partition(b"\n")[0].decode().strip()


def uids(pid: int) -> tuple[int, int, int] | None:
    """Real, effective and saved uid; None if the process is gone."""
    try:
        real, effective, saved = status(pid, "Uid").split()[:3]
    except _ENDED:
        return None
    return int(real), int(effective), int(saved)


def name(pid: int) -> str:
    """The name that `ps` shows, which the process chooses itself; empty if it is gone, or we may not see it."""
    return _content(pid, "comm").decode(errors="replace").strip()


def environment(pid: int) -> bytes:
    """The environment that a process shows, each `NAME=VALUE` ended by a zero byte; empty if it is gone, dead, in the middle of
    an exec, or we may not read it."""
    return _content(pid, "environ")


def read_environment(pid: int) -> bytes:
    """The same; raises `PermissionError` if we may not read it."""
    try:
        return _read_file(pid, "environ")
    except _ENDED:
        return b""


def command_line(pid: int) -> bytes:
    """Its arguments, each ended by a zero byte; empty in the same cases as `environment`."""
    return _content(pid, "cmdline")


def program(pid: int) -> os.stat_result:
    """The file that it executes, whatever its name is now, and in which namespace. Raises `OSError`."""
    return os.stat(f"{PROC}/{pid}/exe")


def variable(environ: bytes, name: str) -> str | None:
    """The value of one variable in the result of `environment`."""
    key = name.encode() + b"="
    start = 0 if environ.startswith(key) else environ.find(b"\0" + key) + 1
    if start == 0 and not environ.startswith(key):
        return None
    value, _, _ = environ[start + len(key) :].partition(b"\0")
    return value.decode(errors="replace")


def _content(pid: int, name: str) -> bytes:
    try:
        return _read_file(pid, name)
    except (*_ENDED, PermissionError):  # another user's, or a set-uid program's
        return b""


def _read_file(pid: int, name: str) -> bytes:
    with open(f"{PROC}/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()


# -- trees -----------------------------------------------------------------------------------------------------------------


def everyone() -> list[Process]:
    """All processes of the host that we may see, in no particular order."""
    found = (read(int(name)) for name in os.listdir(PROC) if name.isdigit())
    return [process for process in found if process is not None]


def children(pid: int) -> list[int]:
    """Pids of the children of all threads of a process, including dead ones that are not reaped. Exact only if none of them
    dies meanwhile: look again afterwards.
    """
    found = _listed_children(pid)
    return [each.pid for each in everyone() if each.ppid == pid] if found is None else found


def own_children() -> list[int]:
    """The same for this process, if its first thread starts the children: orphans are given to that thread, too."""
    own = os.getpid()
    try:
        return _list_of(own, own)
    except FileNotFoundError:
        return children(own)


def descendants(pids: int | Iterable[int], most: int | None = None) -> list[Process]:
    """All living processes below a process, or several, parents before children. Raises `TooManyProcesses` before it looks at
    more than `most`, including dead ones."""
    roots = [pids] if isinstance(pids, int) else list(pids)
    found: list[Process] = []
    waiting, seen = [*roots], {*roots}
    number = 0
    for parent in waiting:  # grows in this loop
        below = _listed_children(parent)
        if below is None:
            return _scanned_descendants(roots, most)
        number += len(below)
        if most is not None and number > most:
            raise TooManyProcesses
        for child in below:
            # With any other parent, it has the number of a process that has ended since it was listed.
            if child not in seen and (process := read(child)) is not None and process.ppid in seen:
                seen.add(child)
                waiting.append(child)
                if not process.is_dead:
                    found.append(process)
    return found


def with_descendants(roots: Iterable[Process], all_processes: Iterable[Process]) -> list[Process]:
    """`roots` and all processes below them, out of `all_processes`; parents first."""
    by_parent: dict[int, list[Process]] = {}
    for each in all_processes:
        by_parent.setdefault(each.ppid, []).append(each)
    found = {each.pid: each for each in roots}
    waiting = list(found.values())
    for parent in waiting:  # grows in this loop
        for child in by_parent.get(parent.pid, ()):
            if child.pid not in found:
                found[child.pid] = child
                waiting.append(child)
    return list(found.values())


def _listed_children(pid: int) -> list[int] | None:
    """From the kernel's lists, one for each thread; None if there are none (no CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
    except _ENDED:
        return found
    for thread in threads:
        try:
            found += _list_of(pid, thread)
        except FileNotFoundError:
            if os.path.exists(f"{PROC}/{pid}/task/{thread}"):
                return None
    return found


def _list_of(pid: int, thread: int | str) -> list[int]:
    """The children of a thread. Raises `FileNotFoundError` if there is no such list or no such thread."""
    try:
        fd = os.open(f"{PROC}/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    except ProcessLookupError:
        return []
    try:
        text = part = os.read(fd, _LIST_BYTES)
        while part:  # procfs returns less than asked for if the next entry does not fit
            part = os.read(fd, _LIST_BYTES)
            text += part
    except ProcessLookupError:
        return []
    finally:
        os.close(fd)
    return list(map(int, text.split()))


def _scanned_descendants(pids: Iterable[int], most: int | None) -> list[Process]:
    """The same from one look at all processes of the host."""
    roots = {pid: process for pid in pids if (process := read(pid)) is not None}
    found = [each for each in with_descendants(roots.values(), everyone()) if each.pid not in roots]
    if most is not None and len(found) > most:
        raise TooManyProcesses
    return [each for each in found if not each.is_dead]


# -- signals ---------------------------------------------------------------------------------------------------------------


def open_pidfd(pid: int, start_ticks: int) -> int | None:
    """A pidfd of exactly this process of this boot (a zombie, too); None if it is gone. The caller closes it."""
    pidfd = pidfds.open_pidfd(pid)
    if pidfd is None:
        return None
    # While the pidfd is open, its pid cannot be reused: what /proc shows under it now is the pidfd's process. The other way
    # round (look, then open), another process could take the pid in between.
    found = read(pid)
    if found is None or found.start_ticks != start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def kill(pid: int, start_ticks: int, *numbers: int) -> bool:
    """Signal exactly this process of this boot, with SIGKILL or with these signals, in order; False if it is gone.

    Raises `PermissionError`.
    """
    pidfd = open_pidfd(pid, start_ticks)
    if pidfd is None:
        return False
    try:
        for number in numbers or (signal.SIGKILL,):
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill_groups(targets: Iterable[Process], spared_sessions: set[int]) -> None:
    """Send SIGKILL to the process groups of these, to each group at once: this reaches processes that fork and end faster than
    we can look, as long as they stay in their group. A group never extends beyond its session; groups of `spared_sessions` are
    left alone. Raises `PermissionError`.
    """
    for group in {each.group for each in targets if each.session not in spared_sessions and each.group > 1}:
        try:
            # A group's number is not reused while a process of the group lives, and one did, a moment ago.
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_all(targets: Iterable[Process]) -> None:
    """Send SIGKILL to each, if it is still the process that was seen. Raises `PermissionError`."""
    for target in targets:
        kill(target.pid, target.start_ticks)
