"""Processes that are the same ones later: a pid alone names nobody, it may be a stranger's by the second look.

Everything here takes a `ProcessID` (boot, pid, start time) and asks about, or signals, exactly that process.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from offerd_isolation import process_table
from offerd_isolation.base import ProcessID
from offerd_isolation.process_table import SHIM_FILE, Process


def identify(pid: int) -> ProcessID | None:
    """The identity of the process that has this pid now."""
    process = process_table.read(pid)
    return None if process is None else ProcessID(process_table.boot_id(), pid, process.start_ticks)


def find(process: ProcessID) -> Process | None:
    """What /proc says about it; None if it is gone (or another has its pid)."""
    if process.boot_id != process_table.boot_id():
        return None
    found = process_table.read(process.pid)
    return found if found is not None and found.start_ticks == process.start_ticks else None


def open_pidfd(process: ProcessID) -> int | None:
    """A pidfd of it, also if it is a zombie; None if it is gone. The caller closes it."""
    if process.boot_id != process_table.boot_id():
        return None
    return process_table.open_pidfd(process.pid, process.start_ticks)


def recorded_shim(container_dir: Path) -> ProcessID | None:
    """The shim that has written down who it is, in a directory where only the slave and its shims can write. None if there is
    no such file, or the host lost power before it was on the disk: anything may be in it then."""
    try:
        with open(container_dir / SHIM_FILE, "rb") as file:
            said = json.loads(file.read(4096))
        return ProcessID(str(said["boot_id"]), int(said["pid"]), int(said["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def send(process: ProcessID, number: int = signal.SIGKILL) -> bool:
    """Signal it; False if it is gone. Raises `PermissionError`."""
    if process.boot_id != process_table.boot_id():
        return False
    return process_table.kill(process.pid, process.start_ticks, number)
