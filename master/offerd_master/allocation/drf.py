"""Weighted Dominant Resource Fairness (Ghodsi et al., NSDI 2011, algorithm 1 and section 4.3).

A framework's dominant share is the largest part it holds of any resource. What becomes free goes to the role with the
lowest share over weight, and within it to the framework with the lowest share. Ties go to the least recently offered,
then to the lower id, so that equals take turns and every run is repeatable.

Shares are computed when somebody asks, and only for frameworks that were charged or refunded since: a thousand tasks
that end between two offers cost one computation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator, Mapping

from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator

Key = tuple[float, int, FrameworkID]
"""Sorts frameworks: share, number of the last offer, id."""


class _Client:
    """A framework. `key` is its place in its role's order; `counted` what of `held` its role's sum contains."""

    __slots__ = ("changed", "counted", "framework_id", "held", "key", "last_offer", "role")

    def __init__(self, framework_id: FrameworkID, role: _Role) -> None:
        self.framework_id = framework_id
        self.role = role
        self.held: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.last_offer = 0
        self.key: Key = (0.0, 0, framework_id)
        self.changed = False


class _Role:
    __slots__ = ("held", "last_offer", "name", "order", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.held: dict[str, int] = {}
        self.order: list[Key] = []
        self.last_offer = 0


class DrfAllocator(Allocator):
    """The allocation module `drf`."""

    def __init__(self, role_weights: Mapping[str, float]) -> None:
        self._weights = dict(role_weights)
        self._total: dict[str, int] = {}
        self._clients: dict[FrameworkID, _Client] = {}
        self._roles: dict[str, _Role] = {}
        self._changed: list[_Client] = []
        self._total_changed = False
        self._offers = 0

    # -- accounts ---------------------------------------------------------------------------------------------------

    def add_total(self, resources: Resources) -> None:
        _add(self._total, resources.quantities(), 1)
        self._total_changed = True

    def remove_total(self, resources: Resources) -> None:
        _add(self._total, resources.quantities(), -1)
        self._total_changed = True

    def add_framework(self, framework_id: FrameworkID, role: str) -> None:
        group = self._roles.get(role)
        if group is None:
            group = self._roles[role] = _Role(role, self._weights.get(role, 1.0))
            self._total_changed = True  # sums of roles are kept only while there are several: count everybody
        client = self._clients[framework_id] = _Client(framework_id, group)
        insort(group.order, client.key)

    def remove_framework(self, framework_id: FrameworkID) -> None:
        self._settle()
        client = self._clients.pop(framework_id)
        role = client.role
        del role.order[bisect_left(role.order, client.key)]
        _add(role.held, client.counted, -1)
        if not role.order:
            del self._roles[role.name]

    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        client = self._clients[framework_id]
        held = client.held
        for name, amount in resources.quantities().items():
            held[name] = held.get(name, 0) + amount
        if not client.changed:
            client.changed = True
            self._changed.append(client)

    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        client = self._clients[framework_id]
        held = client.held
        for name, amount in resources.quantities().items():
            held[name] -= amount
        if not client.changed:
            client.changed = True
            self._changed.append(client)

    def offered(self, framework_id: FrameworkID) -> None:
        self._offers += 1
        client = self._clients[framework_id]
        client.last_offer = client.role.last_offer = self._offers
        if not client.changed:
            client.changed = True
            self._changed.append(client)

    # -- answers ----------------------------------------------------------------------------------------------------

    def ranked(self, candidates: Container[FrameworkID]) -> Iterable[FrameworkID]:
        self._settle()
        if len(self._roles) == 1:
            (only,) = self._roles.values()
            return _among(only.order, candidates)
        roles = sorted(
            self._roles.values(),
            key=lambda role: (self._dominant(role.held) / role.weight, role.last_offer, role.name),
        )
        return (framework_id for role in roles for framework_id in _among(role.order, candidates))

    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        return self._clients[framework_id].held

    def share(self, framework_id: FrameworkID) -> float:
        return self._dominant(self._clients[framework_id].held)

    @property
    def total(self) -> Mapping[str, int]:
        """The quantities of all slaves together."""
        return self._total

    def _dominant(self, held: Mapping[str, int]) -> float:
        """The largest part of any resource; of a resource that no slave has any more the part is 0."""
        total = self._total
        share = 0.0
        for name, amount in held.items():
            whole = total.get(name, 0)
            if whole > 0 and (part := amount / whole) > share:
                share = part
        return share

    def _settle(self) -> None:
        """Put into order what changed since somebody asked."""
        if self._total_changed:
            self._total_changed = False
            changed: Iterable[_Client] = self._clients.values()
        elif self._changed:
            changed = self._changed
        else:
            return
        for client in changed:
            client.changed = False
            role = client.role
            if len(self._roles) > 1 or role.held or client.counted:
                _add(role.held, client.counted, -1)
                client.counted = dict(client.held)
                _add(role.held, client.counted, 1)
            key = (self._dominant(client.held), client.last_offer, client.framework_id)
            if key != client.key:
                order = role.order
                del order[bisect_left(order, client.key)]
                insort(order, key)
                client.key = key
        self._changed = []


def _among(order: list[Key], candidates: Container[FrameworkID]) -> Iterator[FrameworkID]:
    for key in order:
        if key[2] in candidates:
            yield key[2]


def _add(account: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    """Add or take away; what comes to zero leaves the account."""
    for name, amount in amounts.items():
        if left := account.get(name, 0) + sign * amount:
            account[name] = left
        else:
            account.pop(name, None)
