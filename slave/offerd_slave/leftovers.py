"""Files that ended tasks have left in the sandboxes of running executors: tasks' directories, and results of calls.

`offerd_slave.retention` decides when they are removed. A task that leaves a file named `KEEP_FILE` in its directory keeps
the directory for its framework (as MapReduce does: the outputs of maps are read until the job ends).

The files may have been made with bad intent: no link is followed, and no name is used as a path.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Container
from contextlib import suppress

from offerd.ids import ContainerID
from offerd.tasks.sandbox_layout import KEEP_FILE, RESULTS, TASKS
from offerd_slave.directory_walk import ENTRIES_AT_ONCE, OPEN_DIRECTORY, PAUSE_S
from offerd_slave.retention import Bounds, Leftover, leftovers_to_remove

MOST_SEEN = 20_000
"""Entries of one directory that one call looks at. When some are removed, the next call sees others."""


def collect(
    containers: str,
    container_id: ContainerID,
    living: Container[str],
    known_s: float,
    free_fraction: float,
    bounds: Bounds,
    remove: Callable[[int, str], object],
) -> bool:
    """Remove old leftovers in a running container. `remove` takes a directory's descriptor and a name in it. `living`: the
    tasks that ran at the time `known_s`, or whose ends were not acknowledged then; younger entries are not touched. Returns
    whether there is more to look at. Raises `OSError` if there is no such container.
    """
    has_more = False
    sandbox = os.open(f"{containers}/{container_id}/sandbox", OPEN_DIRECTORY)
    try:
        for place in (TASKS, RESULTS):
            with suppress(OSError):  # it does not exist, or is no directory
                directory = os.open(place, OPEN_DIRECTORY, dir_fd=sandbox)
                try:
                    found, is_all = _found(directory, living, known_s)
                    going = leftovers_to_remove(found, time.time(), free_fraction, bounds)
                    for each in going:
                        remove(directory, each.name)
                    has_more |= bool(going) and not is_all
                finally:
                    os.close(directory)
    finally:
        os.close(sandbox)
    return has_more


def _found(directory: int, living: Container[str], known_s: float) -> tuple[list[Leftover], bool]:
    """The leftovers in a directory, and whether these are all."""
    found: list[Leftover] = []
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries, 1):
            if number % ENTRIES_AT_ONCE == 0:
                time.sleep(PAUSE_S)
            if number > MOST_SEEN:
                return found, False
            if entry.name in living:
                continue
            with suppress(OSError):  # it is gone
                status = entry.stat(follow_symlinks=False)
                # The ctime, which its owner cannot set. Executors touch the entry when the task ends.
                if status.st_ctime < known_s:
                    is_kept = _is_kept(directory, entry.name, status)
                    found.append(Leftover(entry.name, status.st_ctime, is_kept))
    return found, True


def _is_kept(directory: int, name: str, status: os.stat_result) -> bool:
    if not stat.S_ISDIR(status.st_mode):
        return False
    try:
        below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        os.stat(KEEP_FILE, dir_fd=below, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(below)
    return True
