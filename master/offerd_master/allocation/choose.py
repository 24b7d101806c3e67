"""Which allocation module a master uses: one of its own, or one that another package installs."""

from __future__ import annotations

from offerd.daemons.chosen_modules import load, names
from offerd.errors import BadInput
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.policy import Policy

GROUP = "offerd.allocators"
OWN = {
    "drf": "offerd_master.allocation.drf:DrfAllocator",
    "lottery": "offerd_master.allocation.lottery:LotteryAllocator",
    "priority": "offerd_master.allocation.priority:PriorityAllocator",
}


def load_allocator(name: str, policy: Policy) -> Allocator:
    """The module of this name. Raises `BadInput` naming those there are, or what is wrong with it."""
    try:
        module = load(GROUP, OWN, name, "allocation module")
    except LookupError:
        there = ", ".join(names(GROUP, OWN))
        raise BadInput(f"there is no allocation module {name!r}; installed: {there}") from None
    if not (isinstance(module, type) and issubclass(module, Allocator)):
        raise BadInput(
            f"allocation module {name!r} is not a subclass of offerd_master.allocation.base.Allocator"
        )
    if missing := ", ".join(sorted(module.__abstractmethods__)):
        raise BadInput(
            f"allocation module {name!r} lacks methods of offerd_master.allocation.base.Allocator: {missing}"
        )
    return module(policy)
