"""Mutable amounts of resources. The accounts change with every task, and a new `Resources` each time would cost too much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from offerd.resources import MAX_QUANTITY, NOTHING, Resources
from offerd.values import ranges as rng
from offerd.values.bounds import MAX_LISTS, MAX_NAMES, MAX_PIECES, MAX_WORDS

WELL_KNOWN = frozenset({"cpus", "mem", "disk", "gpus", "ports"})

T = TypeVar("T")


class Pool:
    """An amount that can be taken from and given to.

    A scalar falls below zero when a slave returns smaller than what runs on it. Then nothing of that name is free until the
    debt is paid. Ranges and sets hold only what is really there.
    """

    __slots__ = ("rest", "scalars")

    def __init__(self, start: Resources = NOTHING) -> None:
        self.scalars = dict(start.scalars)
        self.rest = Resources({}, start.ranges, start.sets) if start.ranges or start.sets else NOTHING

    def covers(self, wanted: Resources) -> bool:
        """Whether `wanted` can be taken without a debt."""
        mine = self.scalars
        for name, amount in wanted.scalars.items():
            if mine.get(name, 0) < amount:
                return False
        if wanted.ranges or wanted.sets:
            return self.rest.covers(Resources({}, wanted.ranges, wanted.sets))
        return True

    def part_of(self, amount: Resources) -> Resources:
        """As much of `amount` as is in the pool."""
        if self.covers(amount):
            return amount
        mine = self.scalars
        scalars = {
            name: least for name, a in amount.scalars.items() if (least := min(a, mine.get(name, 0))) > 0
        }
        rest = _without(amount, _without(amount, self.rest))
        return Resources(scalars, rest.ranges, rest.sets)

    def take(self, amount: Resources) -> None:
        """Remove the amount. A scalar may become a debt; members of ranges and sets that are not in the pool are skipped."""
        mine = self.scalars
        for name, quantity in amount.scalars.items():
            mine[name] = mine.get(name, 0) - quantity
        if amount.ranges or amount.sets:
            self.rest = _without(self.rest, amount)

    def settle(self, other: Pool) -> None:
        """Remove the contents of another pool, and add its debts."""
        for name, quantity in other.scalars.items():
            self.scalars[name] = self.scalars.get(name, 0) - quantity
        if other.rest:
            self.rest = _without(self.rest, other.rest)

    def give(self, amount: Resources, within: Resources | None = None) -> None:
        """Add the amount. Members of ranges and sets that are not in `within` are skipped."""
        mine = self.scalars
        for name, quantity in amount.scalars.items():
            mine[name] = mine.get(name, 0) + quantity
        if amount.ranges or amount.sets:
            grown = self.rest + Resources({}, amount.ranges, amount.sets)
            self.rest = grown if within is None else _without(grown, _without(grown, within))

    def freeze(self) -> Resources:
        """The contents as a value: debts count as nothing."""
        scalars = {name: min(amount, MAX_QUANTITY) for name, amount in self.scalars.items() if amount > 0}
        return Resources(scalars, self.rest.ranges, self.rest.sets)

    def take_all(self, total: Resources = NOTHING) -> Resources:
        """Remove and return everything that fits into a message (see `cut`); debts stay. If the contents are `total`, that very
        object is returned.
        """
        if self.scalars == total.scalars and not (total.ranges or total.sets or self.rest):
            self.scalars = {}
            return total
        everything = self.freeze()
        self.scalars = {name: amount for name, amount in self.scalars.items() if amount < 0}
        if self.rest:
            whole, everything = everything, cut(everything)
            self.rest = NOTHING if everything is whole else _without(self.rest, everything)
        return everything

    def take_up_to(self, room: Mapping[str, int]) -> Resources:
        """Like `take_all`, but of each scalar that `room` names at most that much."""
        everything = self.take_all()
        over = {
            name: amount - room[name]
            for name, amount in everything.scalars.items()
            if amount > room.get(name, amount)
        }
        self.give(Resources(over))
        return everything - Resources(over)


def pool_of(amounts: Iterable[Resources]) -> Pool:
    """The sum of many amounts."""
    pool = Pool()
    for amount in amounts:
        pool.give(amount)
    return pool


def cut(amount: Resources) -> Resources:
    """The amount, cut to what a message may hold. Tasks that take every other port leave a slave in many pieces, and slaves may
    invent names. Well-known names are kept first.
    """
    pieces = sum(map(len, amount.ranges.values())) + sum(map(len, amount.sets.values()))
    names = max(len(amount.ranges), len(amount.sets))
    if pieces <= MAX_WORDS and len(amount.scalars) <= MAX_NAMES and names <= MAX_LISTS:
        return amount
    return Resources(
        {name: amount.scalars[name] for name in _first(amount.scalars, MAX_NAMES)},
        _cut_lists(amount.ranges, MAX_PIECES),
        _cut_lists(amount.sets, MAX_WORDS),
    )


def _cut_lists(lists: Mapping[str, list[T]], room: int) -> dict[str, list[T]]:
    kept: dict[str, list[T]] = {}
    for name in _first(lists, MAX_LISTS):
        if part := lists[name][:room]:
            kept[name] = part
            room -= len(part)
    return kept


def _first(names: Iterable[str], count: int) -> list[str]:
    return sorted(names, key=lambda name: name not in WELL_KNOWN)[:count]


def cut_quantities(amounts: Mapping[str, int]) -> dict[str, int]:
    """These amounts, cut to what a message may hold; zeros and debts are left out."""
    first = _first((name for name, amount in amounts.items() if amount > 0), MAX_NAMES)
    return {name: min(amounts[name], MAX_QUANTITY) for name in first}


def _without(whole: Resources, taken: Resources) -> Resources:
    """The ranges and sets of `whole` without those of `taken`, which may hold more."""
    spans = {name: rng.subtract(mine, taken.ranges.get(name, [])) for name, mine in whole.ranges.items()}
    sets = {name: sorted(set(mine) - set(taken.sets.get(name, ()))) for name, mine in whole.sets.items()}
    return Resources(
        {},
        {name: left for name, left in spans.items() if left},
        {name: left for name, left in sets.items() if left},
    )
