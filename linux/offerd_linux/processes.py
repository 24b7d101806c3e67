"""Processes as /proc shows them: whose children they are, what they use, what they carry in their environment; and signals to
exactly those that were seen.

Imports next to nothing: a part of every shim. What names a process across restarts and boots stands in `process_ids`.
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
"""Of a list of children, read at once: cheap to allocate, as executors read one for every batch of deaths."""
_ENDED = (FileNotFoundError, ProcessLookupError)


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


class TooManyProcesses(Exception):
    """More than can be looked at while others wait."""


@cache
def boot_id(proc: str = PROC) -> str:
    """The kernel's name for this boot."""
    with open(f"{proc}/sys/kernel/random/boot_id") as file:
        return file.read().strip()


# -- one process -----------------------------------------------------------------------------------------------------------


def stat_fields(pid: int) -> list[bytes] | None:
    """Of /proc/PID/stat, from field 3 of proc(5), the state, on; None if there is no such process, or none that we may see
    (proc mounted with hidepid=1 refuses to show it, with 2 denies that it is there)."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb", buffering=0) as file:
            line = file.read(4096)
    except (*_ENDED, PermissionError):
        return None
    # The name in parentheses may hold anything, also blanks and parentheses: fields are counted from the last one.
    return line[line.rindex(b")") + 2 :].split()


def read(pid: int) -> Process | None:
    """The process of this pid now; None if there is none, or none that we may see."""
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
    """One line of /proc/PID/status, without its name; empty where the kernel has none. Raises `OSError` if it is gone."""
    text = _read_file(pid, "status")
    return text.partition(b"\n%s:" % name.encode())[2].partition(b"\n")[0].decode().strip()


def uids(pid: int) -> tuple[int, int, int] | None:
    """Real, effective and saved uid; None if it is gone."""
    try:
        real, effective, saved = status(pid, "Uid").split()[:3]
    except _ENDED:
        return None
    return int(real), int(effective), int(saved)


def name(pid: int) -> str:
    """As `ps` shows it, which whoever it is has chosen; empty if it is gone, or not ours to see."""
    return _content(pid, "comm").decode(errors="replace").strip()


def environment(pid: int) -> bytes:
    """The environment a process shows, `NAME=VALUE` each ended by a zero byte; empty if it is gone, dead, in the middle of an
    exec, or not ours to read."""
    return _content(pid, "environ")


def read_environment(pid: int) -> bytes:
    """The same; raises `PermissionError` where it is not ours to read."""
    try:
        return _read_file(pid, "environ")
    except _ENDED:
        return b""


def command_line(pid: int) -> bytes:
    """Its arguments, each ended by a zero byte; empty as `environment` is."""
    return _content(pid, "cmdline")


def program(pid: int) -> os.stat_result:
    """The file that it executes, whatever that file's name is now, and in whose namespace. Raises `OSError`."""
    return os.stat(f"{PROC}/{pid}/exe")


def variable(environ: bytes, name: str) -> str | None:
    """One variable out of what `environment` gave."""
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
    """All processes of the host that we may see, in no order."""
    found = (read(int(name)) for name in os.listdir(PROC) if name.isdigit())
    return [process for process in found if process is not None]


def children(pid: int) -> list[int]:
    """Pids of the children of all threads of a process, dead ones that nobody has waited for among them. Exact only while none
    of them dies: look again afterwards."""
    found = _listed_children(pid)
    return [each.pid for each in everyone() if each.ppid == pid] if found is None else found


def own_children() -> list[int]:
    """The same of this process, if its first thread is the one that starts others: orphans come to that, too."""
    own = os.getpid()
    try:
        return _list_of(own, own)
    except FileNotFoundError:
        return children(own)


def descendants(pids: int | Iterable[int], most: int | None = None) -> list[Process]:
    """Everything below a process, or several, parents before children, without what is dead already. Raises `TooManyProcesses`
    before it looks at more than `most`, dead ones counted."""
    roots = [pids] if isinstance(pids, int) else list(pids)
    found: list[Process] = []
    waiting, seen = [*roots], {*roots}
    number = 0
    for parent in waiting:  # grows while we go
        below = _listed_children(parent)
        if below is None:
            return _scanned_descendants(roots, most)
        number += len(below)
        if most is not None and number > most:
            raise TooManyProcesses
        for child in below:
            # Whose parent is none of these has the number of one that has ended since it was listed.
            if child not in seen and (process := read(child)) is not None and process.ppid in seen:
                seen.add(child)
                waiting.append(child)
                if not process.is_dead:
                    found.append(process)
    return found


def with_descendants(roots: Iterable[Process], all_processes: Iterable[Process]) -> list[Process]:
    """`roots` and all below them, out of `all_processes`; parents first."""
    by_parent: dict[int, list[Process]] = {}
    for each in all_processes:
        by_parent.setdefault(each.ppid, []).append(each)
    found = {each.pid: each for each in roots}
    waiting = list(found.values())
    for parent in waiting:  # grows while we go
        for child in by_parent.get(parent.pid, ()):
            if child.pid not in found:
                found[child.pid] = child
                waiting.append(child)
    return list(found.values())


def _listed_children(pid: int) -> list[int] | None:
    """By the kernel's lists, one for each thread; None where it keeps none (no CONFIG_PROC_CHILDREN)."""
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
    """The children of a thread. Raises `FileNotFoundError` where there is no such list, or no such thread."""
    try:
        fd = os.open(f"{PROC}/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    except ProcessLookupError:
        return []
    try:
        text = part = os.read(fd, _LIST_BYTES)
        while part:  # procfs stops short of the size where an entry does not fit
            part = os.read(fd, _LIST_BYTES)
            text += part
    except ProcessLookupError:
        return []
    finally:
        os.close(fd)
    return list(map(int, text.split()))


def _scanned_descendants(pids: Iterable[int], most: int | None) -> list[Process]:
    """The same by one look at all processes of the host."""
    roots = {pid: process for pid in pids if (process := read(pid)) is not None}
    found = [each for each in with_descendants(roots.values(), everyone()) if each.pid not in roots]
    if most is not None and len(found) > most:
        raise TooManyProcesses
    return [each for each in found if not each.is_dead]


# -- signals ---------------------------------------------------------------------------------------------------------------


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


def kill(pid: int, start_ticks: int, *numbers: int) -> bool:
    """Signal exactly this process of this boot, with SIGKILL or with these, one after the other; False if it is gone.

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
