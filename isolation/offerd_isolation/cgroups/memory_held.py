"""What memory a cgroup holds that nobody can take away from its processes, and how far its limit may be lowered for that.

The kernel kills for a limit that is written below what is held. What is not held, the page cache, it frees in that very write.
Used for cgroups of v2, and through `docker.v1` for those of v1.
"""

from __future__ import annotations

from dataclasses import replace

from offerd_isolation.cgroups.controllers import FileMissing, Memory
from offerd_isolation.cgroups.limits import Limits, whole_pages

LOWERED_AT_ONCE_BYTES = 64 << 20
"""By how much a limit is lowered into the page cache at once."""
SPARE_BYTES = 16 << 20
"""What stays free above what is held: it may grow between the look and the write."""


def as_far_as_safe(memory: Memory, wanted: Limits, before: Limits | None) -> Limits:
    """Of what is `wanted`, what may be written now, where `before` was written last (None: not known).

    More is written at once. Less only so far that nobody is killed for it, and in small parts: whoever calls this does so
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
        lowest = min(lowest, highest)  # who holds nearly all is not given more
    return replace(wanted, mem_bytes=max(wanted.mem_bytes, whole_pages(lowest)))
