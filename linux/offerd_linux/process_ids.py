"""Identifies processes for a long time: a pid alone may belong to another process at the second look.

Everything here takes a `ProcessID` (boot, pid, start time) and reads, or signals, exactly that process.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from offerd_linux import processes
from offerd_linux.processes import Process


class ProcessID(NamedTuple):
    """A process that cannot be mistaken for another one: pids are reused, (boot, pid, start time) is not."""

    boot_id: str
    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat: clock ticks after boot


def identify(pid: int) -> ProcessID | None:
    """The identity of the process that has this pid now."""
    process = processes.read(pid)
    return None if process is None else ProcessID(processes.boot_id(), pid, process.start_ticks)


def find(process: ProcessID) -> Process | None:
    """What /proc says about the process; None if it is gone (or another one has its pid)."""
    if process.boot_id != processes.boot_id():
        return None
    found = processes.read(process.pid)
    return found if found is not None and found.start_ticks == process.start_ticks else None


def open_pidfd(process: ProcessID) -> int | None:
    """A pidfd of the process, also if it is a zombie; None if it is gone. The caller closes it."""
    if process.boot_id != processes.boot_id():
        return None
    return processes.open_pidfd(process.pid, process.start_ticks)


def send(process: ProcessID, number: int = signal.SIGKILL) -> bool:
    """Signal the process; False if it is gone. Raises `PermissionError`."""
    if process.boot_id != processes.boot_id():
        return False
    return processes.kill(process.pid, process.start_ticks, number)
