"""The marks by which a container's processes are recognized, and the file that names its shim.

Imports next to nothing, as every shim imports it.
"""

from __future__ import annotations

import os

from offerd_linux.process_ids import ProcessID

CONTAINER_MARK = "OFFERD_CONTAINER_MARK"
"""Variable that every process of a container carries: `WORK_DIR_HASH/CONTAINER_ID`. OFFERD_CONTAINER_ID, which the executor
reads, would not do: two slaves of one host, or of one test run, may use the same container ids."""
TASK_MARK = "OFFERD_TASK_ID"
"""Variable that an executor puts into the environment of a task's processes."""
SHIM_MARK = "OFFERD_SHIM"
"""Variable that a shim carries, with its own pid: its children inherit the variable, but have another pid. A shim ends by
itself when everything else in its container has ended."""
SHIM_FILE = "shim"
"""File in a container's directory that names its only shim, as JSON. The process that creates it is the shim."""


def mark_prefix(work_dir: str | os.PathLike[str]) -> str:
    """The prefix of the marks of all containers of one slave. Two slaves never share a work directory (it is locked), so its
    name and inode tell their containers apart.
    """
    import hashlib  # not for every shim

    identity = f"{os.path.realpath(work_dir)}:{os.stat(work_dir).st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16] + "/"


def recorded_shim(container_dir: os.PathLike[str]) -> ProcessID | None:
    """The shim that has recorded itself in a directory where only the slave and its shims can write. None if there is
    no such file, or if it is damaged: it may hold anything if the host lost power before it was on the disk."""
    import json  # not for every shim

    try:
        with open(os.path.join(container_dir, SHIM_FILE), "rb") as file:
            record = json.loads(file.read(4096))
        return ProcessID(str(record["boot_id"]), int(record["pid"]), int(record["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
