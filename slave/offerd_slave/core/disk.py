"""When the disk counts as full: a slave that may soon be unable to write its journal takes no new tasks.

The disk is full below the floor, and has room again at twice the floor, so that files which tasks write and remove do not
make the master offer and rescind in turn.
"""

from __future__ import annotations

from offerd_slave.core.events import DiskMeasured

FLOOR_BYTES = 64 << 20
FLOOR_PART = 100
"""The default floor is `FLOOR_BYTES`, or a `FLOOR_PART`th of the disk if that is less."""


def is_full(looked: DiskMeasured, floor_bytes: int | None, *, was_full: bool) -> bool:
    """Whether the disk counts as full. A disk that cannot be written counts as full, too."""
    if floor_bytes is None:
        floor_bytes = min(FLOOR_BYTES, looked.size_bytes // FLOOR_PART)
    return bool(looked.fault) or looked.free_bytes < (2 * floor_bytes if was_full else floor_bytes)
