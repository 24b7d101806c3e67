"""Adds a view's replica up from the beginning, in another way than the view does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.core.view import ClusterView, Tally


def check_sums(view: ClusterView) -> None:
    """Raise `AssertionError` where the view's sums are not those of its replica."""
    everything: dict[tuple[str, str, object], int] = defaultdict(int)
    for whom, kind, what, amount in _holdings(view):
        for one in whom:
            everything[one, kind, what] += amount
    wanted = {key: amount for key, amount in everything.items() if amount}
    got = dict(_sums("", view.everything))
    for framework_id, tally in view.by_framework.items():
        assert not tally.is_empty, "who has nothing is not kept"
        got.update(_sums(f"framework {framework_id}", tally))
    for slave_id, tally in view.by_slave.items():
        assert not tally.is_empty, "who has nothing is not kept"
        got.update(_sums(f"slave {slave_id}", tally))
    assert got == wanted


def _holdings(view: ClusterView) -> Iterator[tuple[tuple[str, str, str], str, object, int]]:
    replica = view.replica
    for (framework_id, _), task in replica.tasks.items():
        whom = "", f"framework {framework_id}", f"slave {task.slave_id}"
        yield whom, "tasks", task.state, 1
        if task.state is not TaskState.UNREACHABLE:
            yield from ((whom, "held", name, amount) for name, amount in _amounts(task.resources))
    for slave_id, slave in replica.slaves.items():
        things: list[tuple[str, Any]] = [
            *(("held", each) for each in slave.executors),
            *(("offered", each) for each in slave.offers),
        ]
        for kind, thing in things:
            whom = "", f"framework {thing.framework_id}", f"slave {slave_id}"
            yield from ((whom, kind, name, amount) for name, amount in _amounts(thing.resources))


def _amounts(resources: Resources) -> Iterator[tuple[str, int]]:
    yield from resources.scalars.items()
    for name, spans in resources.ranges.items():
        yield name, 1000 * len({number for first, last in spans for number in range(first, last + 1)})
    for name, words in resources.sets.items():
        yield name, 1000 * len(set(words))


def _sums(whom: str, tally: Tally) -> Iterator[tuple[tuple[str, str, object], int]]:
    counters: dict[str, Counter[Any]] = {"held": tally.held, "offered": tally.offered, "tasks": tally.tasks}
    for kind, counter in counters.items():
        for what, amount in counter.items():
            if amount:
                yield (whom, kind, what), amount
