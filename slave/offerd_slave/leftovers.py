"""What ended tasks have left in the sandboxes of executors that live on: tasks' directories, and results of calls.

What of it goes when says `offerd_slave.core.retention`. A task that leaves a file named `KEEP_FILE` in its directory keeps that
for its framework (MapReduce does: outputs of maps are read to the job's end).

Everything here was made by somebody who may wish us ill: no link is followed, and no name is a path.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress

from offerd.ids import ContainerID
from offerd_slave.core.retention import Bounds, Leftover, leftovers_to_remove

TASKS = "tasks"
RESULTS = "results"
"""Directories of a sandbox whose entries are named by tasks: see `offerd_executors`."""
KEEP_FILE = ".offerd-keep"
MOST_SEEN = 20_000
"""Entries of one directory that are looked at in one go: when some have gone, others are seen."""
ENTRIES_AT_ONCE = 500
PAUSE_S = 0.005
"""Between so many: the slave's loop shares the interpreter with us."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def collect(
    containers: str,
    container_id: ContainerID,
    living: Container[str],
    free_fraction: float,
    bounds: Bounds,
    remove: Callable[[int, str], object],
) -> None:
    """Remove what is to go of a living container's; `remove` takes a directory's descriptor and a name in it. `living`: its
    tasks that run, or whose ends their scheduler has not acknowledged. Raises `OSError` if there is no such container.
    """
    sandbox = os.open(f"{containers}/{container_id}/sandbox", _DIRECTORY)
    try:
        for place in (TASKS, RESULTS):
            with suppress(OSError):  # there is none, or what has the name is no directory
                directory = os.open(place, _DIRECTORY, dir_fd=sandbox)
                try:
                    found = list(_found(directory, living))
                    for each in leftovers_to_remove(found, time.time(), free_fraction, bounds):
                        remove(directory, each.name)
                finally:
                    os.close(directory)
    finally:
        os.close(sandbox)


def _found(directory: int, living: Container[str]) -> Iterator[Leftover]:
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries, 1):
            if number % ENTRIES_AT_ONCE == 0:
                time.sleep(PAUSE_S)
            if number > MOST_SEEN:
                return
            if entry.name in living:
                continue
            with suppress(OSError):  # it has gone
                status = entry.stat(follow_symlinks=False)
                # Of the last change to the entry itself, which its owner cannot date otherwise. Executors touch it at the end.
                yield Leftover(entry.name, status.st_ctime, _is_kept(directory, entry.name, status))


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
