"""Guarantees and limits: what a framework may hold without losing a task, and what it may hold at all.

They work around any allocation module: frameworks under their guarantee are ranked before all others, and limits cut what is
offered.

An operator's *policy* gives the *terms* of roles and frameworks: weight, priority, guarantee, limit. What guarantee and limit
mean for one framework are its *entitlements*. A *claim* is one guarantee with the frameworks that share it; a *ceiling* is one
limit with the frameworks under it.

A framework belongs to one claim: that of its name, or else of the nearest role around it that has one. The frameworks of a
claim have equal parts of it; of a role's claim only what is not guaranteed to roles within it. When the cluster has less of a
resource than is guaranteed in all, all guarantees of it shrink in proportion. So all can always be met at the same time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator, RevocableTask
from offerd_master.allocation.policy import Policy, paths

Quantities = dict[str, int]
Needs = tuple[tuple[str, int], ...]
"""The least amount of each scalar in an offer of a slave; slaves of one kind have the same."""


class _Claim:
    """An amount that is guaranteed to its frameworks together."""

    __slots__ = ("amount", "members")

    def __init__(self, amount: Quantities) -> None:
        self.amount = amount
        self.members: dict[FrameworkID, None] = {}


class _Ceiling:
    """An amount that its frameworks may hold together, and what they hold.

    `holds_back` are the needs for which it had no room when a framework could have been offered. `cut_to` is the smallest room
    to which an offer was cut and then not wanted.
    """

    __slots__ = ("cut_to", "held", "holds_back", "limit", "members")

    def __init__(self, limit: Mapping[str, int]) -> None:
        self.limit = limit
        self.held: Quantities = {}
        self.members: set[FrameworkID] = set()
        self.holds_back: set[Needs] = set()
        self.cut_to: Quantities = {}

    def room(self) -> Quantities:
        held = self.held
        return {name: max(0, limit - held.get(name, 0)) for name, limit in self.limit.items()}

    def has_room(self, needs: Needs) -> bool:
        limit, held = self.limit, self.held
        return all(limit[name] - held.get(name, 0) >= amount for name, amount in needs if name in limit)


def with_entitlements(module: Allocator, policy: Policy) -> Allocator:
    """The module with guarantees and limits around it; the module itself if there are none."""
    terms = [*policy.roles.values(), *policy.frameworks.values()]
    if any(t.guarantee or t.limit is not None for t in terms):
        return Entitlements(module, policy)
    return module


class Entitlements(Allocator):
    """Takes the module's place: passes everything on to it, and keeps accounts of the frameworks with entitlements."""

    def __init__(self, module: Allocator, policy: Policy) -> None:
        self.module = module
        self._total: Quantities = {}
        self._claims: dict[str, _Claim] = {}
        self._ceilings: dict[str, _Ceiling] = {}
        for kind, entries in (("role ", policy.roles), ("framework ", policy.frameworks)):
            for name, terms in entries.items():
                if terms.guarantee:
                    self._claims[kind + name] = _Claim(dict(terms.guarantee.scalars))
                if terms.limit is not None:
                    self._ceilings[kind + name] = _Ceiling(terms.limit.scalars)
        self._keep_parts_apart(policy)
        self._claim_of: dict[FrameworkID, _Claim] = {}
        self._ceilings_of: dict[FrameworkID, list[_Ceiling]] = {}
        self._wanting: set[FrameworkID] = set()
        self._guaranteed: dict[FrameworkID, Quantities] = {}
        self._under: set[FrameworkID] = set()
        # Frameworks under their guarantee that want offers, by the fraction of it that they hold.
        self._order: list[tuple[float, FrameworkID]] = []
        self._place: dict[FrameworkID, tuple[float, FrameworkID]] = {}
        self._is_stale = False
        self._held_back: dict[Needs, set[FrameworkID]] = {}
        self._reopened: dict[Needs, set[FrameworkID]] = {}

    def _keep_parts_apart(self, policy: Policy) -> None:
        """What is guaranteed to a role within another is taken out of the outer role's claim."""
        for role, terms in policy.roles.items():
            around = policy.guarantor(role)
            if around is not None:
                left = self._claims[f"role {around}"].amount
                for name, amount in terms.guarantee.scalars.items():
                    if name in left:
                        left[name] -= amount

    # -- Questions ----------------------------------------------------------------------------------------------------

    @property
    def has_guarantees(self) -> bool:
        return bool(self._claims)

    def guaranteed(self, framework_id: FrameworkID) -> Mapping[str, int]:
        """What the framework may hold without losing a task. Resources not named have no guarantee; empty: none has."""
        self._refresh()
        return self._guaranteed.get(framework_id, {})

    def is_under(self, framework_id: FrameworkID) -> bool:
        """Whether it holds, offers included, less than its guarantee of every guaranteed resource."""
        self._refresh()
        return framework_id in self._under

    def under_and_wanting(self) -> list[FrameworkID]:
        """The frameworks under their guarantee that want offers; the one with the smallest fraction of it first."""
        self._refresh()
        return [framework_id for _, framework_id in self._order]

    def shrunk(self) -> dict[str, tuple[int, int]]:
        """The resources of which more is guaranteed than there is, as (guaranteed, there)."""
        return {
            name: (amount, self._total.get(name, 0))
            for name, amount in self._sum().items()
            if amount > self._total.get(name, 0)
        }

    def room(self, framework_id: FrameworkID) -> Mapping[str, int] | None:
        """How much more of each limited resource the framework may hold; None if none is limited."""
        ceilings = self._ceilings_of.get(framework_id)
        if not ceilings:
            return None
        room: Quantities = {}
        for ceiling in ceilings:
            for name, left in ceiling.room().items():
                room[name] = min(left, room.get(name, left))
        return room

    def too_low(self, framework_id: FrameworkID, wanted: Mapping[str, int]) -> list[_Ceiling]:
        """The limits that have no room for so much more: only frameworks under them can make some by giving up tasks."""
        return [
            ceiling
            for ceiling in self._ceilings_of.get(framework_id, ())
            if any(
                limit - ceiling.held.get(name, 0) < wanted.get(name, 0)
                for name, limit in ceiling.limit.items()
            )
        ]

    def under_its_limits(self, framework_id: FrameworkID) -> set[FrameworkID]:
        """All frameworks whose holdings count under limits of this framework, itself included."""
        return {member for ceiling in self._ceilings_of.get(framework_id, ()) for member in ceiling.members}

    def is_under_all(self, framework_id: FrameworkID, ceilings: Iterable[_Ceiling]) -> bool:
        """Whether this framework makes room under each of these limits by giving something up."""
        mine = self._ceilings_of.get(framework_id, ())
        return all(ceiling in mine for ceiling in ceilings)

    def has_room(self, framework_id: FrameworkID, needs: Needs) -> bool:
        """Whether limits leave the framework enough for an offer of a slave with these needs."""
        ceilings = self._ceilings_of.get(framework_id)
        return ceilings is None or all(ceiling.has_room(needs) for ceiling in ceilings)

    def held_back(self, needs: Needs) -> AbstractSet[FrameworkID]:
        """The frameworks that are known to have no room for these needs. Others may have none either."""
        found = self._held_back.get(needs)
        if found is None:
            found = self._held_back[needs] = set()
        return found

    def hold_back(self, framework_id: FrameworkID, needs: Needs) -> None:
        """The framework was not offered what was free, for want of room: it is to be asked again when there is room."""
        for ceiling in self._ceilings_of[framework_id]:
            if not ceiling.has_room(needs):
                ceiling.holds_back.add(needs)
                self._held_back[needs] |= ceiling.members

    def note_cut(self, framework_id: FrameworkID) -> None:
        """The framework did not want as little of a slave as its limits leave: it is to be asked again when they leave more."""
        for ceiling in self._ceilings_of[framework_id]:
            for name, left in ceiling.room().items():
                ceiling.cut_to[name] = min(left, ceiling.cut_to.get(name, left))

    @property
    def has_reopened(self) -> bool:
        """Whether a limit that has held frameworks back has room again."""
        return bool(self._reopened)

    def pop_reopened(self) -> dict[Needs, set[FrameworkID]]:
        """The frameworks to ask again, by the needs of slaves. The caller owns the result."""
        reopened, self._reopened = self._reopened, {}
        return {needs: wanting for needs, members in reopened.items() if (wanting := members & self._wanting)}

    def ranked(self) -> Iterable[FrameworkID]:
        self._refresh()
        return self._first_those_under() if self._order else self.module.ranked()

    def _first_those_under(self) -> Iterator[FrameworkID]:
        for _, framework_id in self._order:
            yield framework_id
        for framework_id in self.module.ranked():
            if framework_id not in self._place:
                yield framework_id

    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        return self.module.held(framework_id)

    def revocation_order(
        self, framework_id: FrameworkID, tasks: Iterable[RevocableTask]
    ) -> Iterable[RevocableTask]:
        return self.module.revocation_order(framework_id, tasks)

    def share(self, framework_id: FrameworkID) -> float:
        return self.module.share(framework_id)

    def fair_shares(self) -> Mapping[FrameworkID, float]:
        return self.module.fair_shares()

    # -- Accounts -----------------------------------------------------------------------------------------------------

    def add_total(self, resources: Resources) -> None:
        self.module.add_total(resources)
        _add(self._total, resources, 1)
        self._is_stale = True

    def remove_total(self, resources: Resources) -> None:
        self.module.remove_total(resources)
        _add(self._total, resources, -1)
        self._is_stale = True

    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        self.module.add_framework(framework_id, role, name)
        scopes = [f"framework {name}", *(f"role {path}" for path in reversed(list(paths(role))))]
        claim = next((self._claims[scope] for scope in scopes if scope in self._claims), None)
        if claim is not None:
            claim.members[framework_id] = None
            self._claim_of[framework_id] = claim
            self._is_stale = True
        if ceilings := [self._ceilings[scope] for scope in scopes if scope in self._ceilings]:
            self._ceilings_of[framework_id] = ceilings
            for ceiling in ceilings:
                ceiling.members.add(framework_id)

    def forgo_guarantee(self, framework_id: FrameworkID) -> None:
        """The framework has ended and its tasks are being killed: its part goes to the others of its role."""
        claim = self._claim_of.pop(framework_id, None)
        if claim is not None:
            del claim.members[framework_id]
            self._is_stale = True

    def remove_framework(self, framework_id: FrameworkID) -> None:
        self.module.remove_framework(framework_id)
        self.forgo_guarantee(framework_id)
        for ceiling in self._ceilings_of.pop(framework_id, ()):
            ceiling.members.remove(framework_id)
        for held_back in self._held_back.values():
            held_back.discard(framework_id)
        self._wanting.discard(framework_id)

    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        self.module.set_wanting(framework_id, is_wanting)
        if is_wanting:
            self._wanting.add(framework_id)
        else:
            self._wanting.discard(framework_id)
        self._put_in_order(framework_id)

    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        self.module.charge(framework_id, resources)
        self._note(framework_id, resources, 1)

    def offer(self, framework_id: FrameworkID, resources: Resources) -> None:
        self.module.offer(framework_id, resources)
        self._note(framework_id, resources, 1)

    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        self.module.refund(framework_id, resources)
        self._note(framework_id, resources, -1)

    def _note(self, framework_id: FrameworkID, resources: Resources, sign: int) -> None:
        for ceiling in self._ceilings_of.get(framework_id, ()):
            _add(ceiling.held, resources, sign)
            if sign < 0 and (ceiling.holds_back or ceiling.cut_to):
                self._reopen(ceiling)
        if framework_id in self._guaranteed:
            self._compare(framework_id)

    def _reopen(self, ceiling: _Ceiling) -> None:
        """There is more room under the ceiling. If it is enough for some of those held back, note them."""
        again = [needs for needs in ceiling.holds_back if ceiling.has_room(needs)]
        ceiling.holds_back.difference_update(again)
        for needs in again:
            self._held_back[needs] -= ceiling.members
        if any(left > ceiling.cut_to.get(name, left) for name, left in ceiling.room().items()):
            ceiling.cut_to.clear()
            again = list(self._held_back)
        for needs in again:
            self._reopened.setdefault(needs, set()).update(ceiling.members)

    def _compare(self, framework_id: FrameworkID) -> None:
        held = self.module.held(framework_id)
        if all(held.get(name, 0) < amount for name, amount in self._guaranteed[framework_id].items()):
            self._under.add(framework_id)
        else:
            self._under.discard(framework_id)
        self._put_in_order(framework_id)

    def _put_in_order(self, framework_id: FrameworkID) -> None:
        """Put the framework in its place among those under their guarantee that want offers, if it is one."""
        place = self._place.pop(framework_id, None)
        if place is not None:
            del self._order[bisect_left(self._order, place)]
        if framework_id in self._under and framework_id in self._wanting:
            place = self._place[framework_id] = (self._fulfilled(framework_id), framework_id)
            insort(self._order, place)

    def _fulfilled(self, framework_id: FrameworkID) -> float:
        held = self.module.held(framework_id)
        return max(held.get(name, 0) / amount for name, amount in self._guaranteed[framework_id].items())

    def _refresh(self) -> None:
        """Compute what each claim comes to, after slaves or frameworks have come or gone."""
        if not self._is_stale:
            return
        self._is_stale = False
        short = self.shrunk()
        self._guaranteed = {}
        self._under = set()
        self._order = []
        self._place = {}
        for claim in self._claims.values():
            for framework_id in claim.members:
                parts = {}
                for name, amount in claim.amount.items():
                    whole, there = short.get(name, (1, 1))
                    if self._total.get(name):  # no slave has it, so nothing of it can be guaranteed
                        parts[name] = amount * there // (whole * len(claim.members))
                if any(parts.values()):
                    self._guaranteed[framework_id] = parts
                    self._compare(framework_id)

    def _sum(self) -> Quantities:
        whole: Quantities = {}
        for claim in self._claims.values():
            for name, amount in claim.amount.items():
                whole[name] = whole.get(name, 0) + amount
        return whole


def _add(account: Quantities, resources: Resources, sign: int) -> None:
    for name, amount in resources.quantities().items():
        account[name] = account.get(name, 0) + sign * amount
