"""The lottery of the paper (Mesos, NSDI 2011, section 4.3): what became free is offered to framework i with probability
s_i / sum of s_j over the frameworks that want something. s_i is its intended allocation: the part that its weights give it.

If frameworks prefer p slots, and together want more, each comes to hold p * s_i / sum of s_j.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from offerd.errors import BadInput
from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy

MAX_BLIND_DRAWS = 8
"""How often a draw may hit a framework that was drawn before; then the rest is put into order one by one."""


class LotteryAllocator(DrfAllocator):
    """The allocation module `lottery`. Takes weights, and the option `seed` (default 0): the same seed gives the same order.

    `draw` returns numbers from 0 to 1; by default it is a generator made from the seed.
    """

    def __init__(self, policy: Policy, draw: Callable[[], float] | None = None) -> None:
        policy.refuse_options(("seed",))
        seed = policy.options.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise BadInput("[allocation.options]: the seed must be a whole number")
        super().__init__(Policy(policy.roles, policy.frameworks))
        self._draw = draw if draw is not None else random.Random(seed).random
        self._tickets_changed = True
        self._players: list[FrameworkID] = []
        self._parts: list[float] = []
        self._tickets: list[float] = []  # cumulative sums

    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        super().add_framework(framework_id, role, name)
        self._tickets_changed = True

    def remove_framework(self, framework_id: FrameworkID) -> None:
        super().remove_framework(framework_id)
        self._tickets_changed = True

    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        super().set_wanting(framework_id, is_wanting)
        self._tickets_changed = True

    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        self._note_if_idle(framework_id)
        super().charge(framework_id, resources)

    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        super().refund(framework_id, resources)
        self._note_if_idle(framework_id)

    def _note_if_idle(self, framework_id: FrameworkID) -> None:
        """A framework that wants nothing counts among the tickets while it holds something: it begins or ceases to do so."""
        leaf = self._leaves[framework_id]
        if not leaf.listed and not any(leaf.held.values()):
            self._tickets_changed = True

    def ranked(self) -> Iterable[FrameworkID]:
        """A draw without replacement, made only as far as it is read."""
        if self._tickets_changed:
            self._tickets_changed = False
            self._settle()
            parts = self._tree.fair_shares()
            self._players = [framework_id for framework_id, leaf in self._leaves.items() if leaf.listed]
            self._parts = [parts[framework_id] for framework_id in self._players]
            self._tickets = list(accumulate(self._parts))
        return self._lots()

    def _lots(self) -> Iterator[FrameworkID]:
        players, tickets, draw = self._players, self._tickets, self._draw
        drawn: set[FrameworkID] = set()
        blind = 0
        while len(drawn) < len(players) and blind < MAX_BLIND_DRAWS:
            winner = players[min(bisect_right(tickets, draw() * tickets[-1]), len(players) - 1)]
            if winner in drawn:
                blind += 1
                continue
            drawn.add(winner)
            yield winner
        yield from self._rest(drawn)

    def _rest(self, drawn: set[FrameworkID]) -> Iterator[FrameworkID]:
        """The frameworks not drawn yet, each with the probability of its tickets among theirs: in the order of exponential
        times whose rates are their tickets (Efraimidis and Spirakis, 2006). That takes one random number each.
        """
        times = [
            (-math.log(1.0 - self._draw()) / max(self._parts[number], sys.float_info.min), number)
            for number, player in enumerate(self._players)
            if player not in drawn
        ]
        heapq.heapify(times)
        while times:
            yield self._players[heapq.heappop(times)[1]]
