"""Mutable amounts of resources: the accounts that change with every task, where `Resources` would be made anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from offerd import ranges as rng
from offerd.resources import MAX_QUANTITY, NOTHING, Resources

MAX_PIECES = 4096
"""Ranges and words in what is offered or shown at once; about 80 KB of ranges."""


class Pool:
    """An amount that is taken from and given to.

    Scalars may fall below zero (a slave that came back smaller than what runs on it): then nothing of that name is
    free until the debt is paid. Ranges and sets hold only what is really there.
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

    def take(self, amount: Resources) -> None:
        """Remove it; scalars may become a debt, members of ranges and sets that are not here are passed over."""
        mine = self.scalars
        for name, quantity in amount.scalars.items():
            mine[name] = mine.get(name, 0) - quantity
        if amount.ranges or amount.sets:
            self.rest = _without(self.rest, amount)

    def give(self, amount: Resources, within: Resources | None = None) -> None:
        """Add it. Members of ranges and sets that are not in `within` are passed over."""
        mine = self.scalars
        for name, quantity in amount.scalars.items():
            mine[name] = mine.get(name, 0) + quantity
        if amount.ranges or amount.sets:
            grown = self.rest + Resources({}, amount.ranges, amount.sets)
            self.rest = grown if within is None else _without(grown, _without(grown, within))

    def freeze(self) -> Resources:
        """What is here, as a value: debts count as nothing."""
        scalars = {name: min(amount, MAX_QUANTITY) for name, amount in self.scalars.items() if amount > 0}
        return Resources(scalars, self.rest.ranges, self.rest.sets)

    def take_all(self, total: Resources = NOTHING) -> Resources:
        """Remove everything that fits into a message (see `cut`) and return it; debts stay. `total`, if that is what is
        here, is returned itself.
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
        """Remove and return the same, but of each scalar that `room` names at most so much."""
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
    """The same, or its first ranges and words if it has too many to be sent: tasks that take every other port leave
    a slave in as many pieces as they please.
    """
    if sum(map(len, amount.ranges.values())) + sum(map(len, amount.sets.values())) <= MAX_PIECES:
        return amount
    room = MAX_PIECES
    spans, sets = {}, {}
    for name, pieces in amount.ranges.items():
        if kept := pieces[:room]:
            spans[name] = kept
            room -= len(kept)
    for name, words in amount.sets.items():
        if kept_words := words[:room]:
            sets[name] = kept_words
            room -= len(kept_words)
    return Resources(amount.scalars, spans, sets)


def _without(whole: Resources, taken: Resources) -> Resources:
    """The ranges and sets of `whole` without those of `taken`, whether or not all of these are in it."""
    spans = {name: rng.subtract(mine, taken.ranges.get(name, [])) for name, mine in whole.ranges.items()}
    sets = {name: [w for w in mine if w not in taken.sets.get(name, ())] for name, mine in whole.sets.items()}
    return Resources(
        {},
        {name: left for name, left in spans.items() if left},
        {name: left for name, left in sets.items() if left},
    )
