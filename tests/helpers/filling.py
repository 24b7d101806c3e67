"""Algorithm 1 of the DRF paper, progressive filling, with an allocation module, as a master does with one large slave."""

from __future__ import annotations

from collections.abc import Mapping

from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator


def fill(
    module: Allocator,
    total: Resources,
    demands: Mapping[FrameworkID, Resources],
    limits: Mapping[FrameworkID, int] | None = None,
) -> list[FrameworkID]:
    """Give one task to the first in the module's order whose task still fits, until none fits; returns the picks. A framework
    whose task does not fit is skipped. Ties go to the lower id, as no offers are noted.
    """
    left = total
    picks: list[FrameworkID] = []
    while True:
        for framework_id in module.ranked():
            demand = demands[framework_id]
            is_done = limits is not None and picks.count(framework_id) >= limits.get(framework_id, 1 << 30)
            if left.covers(demand) and not is_done:
                break
        else:
            return picks
        left -= demand
        module.charge(framework_id, demand)
        picks.append(framework_id)


def pair(cpus: int, mem: int) -> Resources:
    """Two resources in bare numbers, as the paper writes them."""
    return Resources({name: amount for name, amount in (("cpus", cpus), ("mem", mem)) if amount})
