"""Which allocation module a master uses: one of its own, or one that another package installs."""

from __future__ import annotations

from offerd.daemons.chosen_modules import Kind, load
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.policy import Policy

KIND = Kind(
    "allocation module",
    "offerd.allocators",
    {
        "drf": "offerd_master.allocation.drf:DrfAllocator",
        "lottery": "offerd_master.allocation.lottery:LotteryAllocator",
        "priority": "offerd_master.allocation.priority:PriorityAllocator",
    },
)


def load_allocator(name: str, policy: Policy) -> Allocator:
    """The module of this name. Raises `BadInput` naming those there are, or what is wrong with it."""
    allocator: Allocator = load(KIND, name, Allocator)(policy)
    return allocator
