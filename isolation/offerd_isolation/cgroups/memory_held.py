"""How far a cgroup's memory limit may be lowered, with the memory that it holds.

Held memory cannot be reclaimed. If a limit is written below it, the kernel kills. The page cache is not held: the kernel
frees it during the write. Used for cgroup v2, and through `docker.v1` for v1.
"""

from __future__ import annotations

from dataclasses import replace

from offerd_isolation.cgroups.controllers import FileMissing, Memory
from offerd_isolation.cgroups.limits import Limits, whole_pages

LOWERED_AT_ONCE_BYTES = 64 << 20
"""How much of the page cache is freed by one write at most."""
SPARE_BYTES = 16 << 20
"""Kept free above the held memory, which may grow between the look and the write."""


def as_far_as_safe(memory: Memory, wanted: Limits, before: Limits | None) -> Limits:
    """The limits that may be written now on the way to those `wanted`; `before` was written last (None: not known).

    A higher limit is written at once. A lower one only so far that nothing is killed, and in small steps: the caller calls
    again until all is as wanted.
    """
    if wanted.mem_bytes is None:
        return wanted
    if before is not None and before.mem_bytes is not None and before.mem_bytes <= wanted.mem_bytes:
        return wanted
    try:
        current = memory.current
        if current <= wanted.mem_bytes:
            return wanted
        held = memory.held_bytes(with_kernel=True)
        highest = memory.max if before is None else before.mem_bytes
    except FileMissing:
        return wanted  # it is gone
    lowest = max(held + SPARE_BYTES, current - LOWERED_AT_ONCE_BYTES)
    if highest is not None:
        lowest = min(lowest, highest)  # a container that holds nearly all of its memory is not given more
    return replace(wanted, mem_bytes=max(wanted.mem_bytes, whole_pages(lowest)))
