"""Strict priority (Mesos, NSDI 2011, section 3.3): the highest priority goes first; equals share by DRF.

A framework of a lower priority is offered only what all frameworks above it do not want. It may wait for ever; guarantees help
against that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy


class PriorityAllocator(Allocator):
    """The allocation module `priority`: one DRF for each priority. Takes priorities and weights; has no options."""

    def __init__(self, policy: Policy) -> None:
        policy.refuse_options(())
        self._policy = policy
        self._total: dict[str, int] = {}
        self._bands: dict[int, DrfAllocator] = {}
        self._band_of: dict[FrameworkID, DrfAllocator] = {}

    def add_total(self, resources: Resources) -> None:
        for name, amount in resources.quantities().items():
            self._total[name] = self._total.get(name, 0) + amount
        for band in self._bands.values():
            band.add_total(resources)

    def remove_total(self, resources: Resources) -> None:
        for name, amount in resources.quantities().items():
            self._total[name] -= amount
        for band in self._bands.values():
            band.remove_total(resources)

    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        priority = self._policy.priority(role, name)
        band = self._bands.get(priority)
        if band is None:
            band = DrfAllocator(self._policy)
            band.add_total(Resources({n: amount for n, amount in self._total.items() if amount}))
            self._bands = dict(sorted([*self._bands.items(), (priority, band)], reverse=True))
        band.add_framework(framework_id, role, name)
        self._band_of[framework_id] = band

    def remove_framework(self, framework_id: FrameworkID) -> None:
        self._band_of.pop(framework_id).remove_framework(framework_id)

    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        self._band_of[framework_id].set_wanting(framework_id, is_wanting)

    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        self._band_of[framework_id].charge(framework_id, resources)

    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        self._band_of[framework_id].refund(framework_id, resources)

    def offer(self, framework_id: FrameworkID, resources: Resources) -> None:
        self._band_of[framework_id].offer(framework_id, resources)

    def ranked(self) -> Iterable[FrameworkID]:
        return (framework_id for band in self._bands.values() for framework_id in band.ranked())

    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        return self._band_of[framework_id].held(framework_id)

    def share(self, framework_id: FrameworkID) -> float:
        return self._band_of[framework_id].share(framework_id)

    def fair_shares(self) -> Mapping[FrameworkID, float]:
        """All of the cluster is due to the highest priority at which a framework wants something; nothing to those below."""
        parts: dict[FrameworkID, float] = {}
        is_taken = False
        for band in self._bands.values():
            for framework_id, part in band.fair_shares().items():
                parts[framework_id] = 0.0 if is_taken else part
            is_taken = is_taken or any(True for _ in band.ranked())
        return parts
