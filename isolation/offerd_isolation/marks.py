"""The marks by which the processes of a container are known, and what names a container's shim.

Imports next to nothing: a part of every shim.
"""

from __future__ import annotations

import os

from offerd_linux.process_ids import ProcessID

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


def mark_prefix(work_dir: str | os.PathLike[str]) -> str:
    """How the marks of all containers of one slave begin. Two slaves never share a work directory (it is locked), so its name
    and inode tell their containers apart.
    """
    import hashlib  # not for every shim

    identity = f"{os.path.realpath(work_dir)}:{os.stat(work_dir).st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16] + "/"


def recorded_shim(container_dir: os.PathLike[str]) -> ProcessID | None:
    """The shim that has written down who it is, in a directory where only the slave and its shims can write. None if there is
    no such file, or the host lost power before it was on the disk: anything may be in it then."""
    import json  # nor this

    try:
        with open(os.path.join(container_dir, SHIM_FILE), "rb") as file:
            said = json.loads(file.read(4096))
        return ProcessID(str(said["boot_id"]), int(said["pid"]), int(said["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
