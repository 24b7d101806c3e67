"""When the disk counts as full: a slave that may soon be unable to write down what it runs takes nothing new.

It is full below the floor, and has room again at twice the floor, so that what a task writes and removes does not have the
cluster offer and rescind in turn.
"""

from __future__ import annotations

from offerd_slave.core.events import DiskLooked

FLOOR_BYTES = 64 << 20
FLOOR_PART = 100
"""Unless a floor is set, it is `FLOOR_BYTES`, or a `FLOOR_PART`th of the disk where that is less."""


def is_full(looked: DiskLooked, floor_bytes: int | None, *, was_full: bool) -> bool:
    """Also a disk with room, if it cannot be written."""
    if floor_bytes is None:
        floor_bytes = min(FLOOR_BYTES, looked.size_bytes // FLOOR_PART)
    return bool(looked.fault) or looked.free_bytes < (2 * floor_bytes if was_full else floor_bytes)
