"""The reason given for a slave and a framework agrees with the next turn of allocation, in any state that events can cause.

Around each turn the reasons of all frameworks for all slaves are compared:

* for every offer of the turn, the reason just before the turn was `not_yet`;
* the first offer goes to the first framework, in the module's order, for which the reason was `not_yet`;
* a slave for which some reason was `not_yet` is offered, unless all those frameworks reach a limit in the same turn;
* after the turn no reason is `not_yet`, except for slaves in their batch window;
* every other reason is true of the state in which it was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, ClassVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from helpers.random_events import RandomEvents, World, index, rarely
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import SlaveID
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.core import offers
from offerd_master.core.cluster import Cluster
from offerd_master.core.eligibility import REASONS, reason_against
from offerd_master.core.state import Framework, Slave, SlaveState

EXAMPLES = int(os.environ.get("OFFERD_ELIGIBILITY_EXAMPLES", "15"))
Pair = tuple[Framework, Slave]


class ExplainedTurns(RandomEvents):
    """Random events; each turn must agree with the reasons."""

    def __init__(self) -> None:
        self._allocate = offers.allocate
        self._patch = mock.patch.object(offers, "allocate", self._explained)
        self._patch.start()
        super().__init__()

    def teardown(self) -> None:
        self._patch.stop()

    def _explained(self, c: Cluster, now: float) -> None:
        """A turn, with the reasons before and after it."""
        before = reasons(c, now)
        on_its_way: dict[Slave, list[Framework]] = {}
        for (framework, slave), why in before.items():
            if why == "not_yet" and not slave.is_in_batch_window(now):
                on_its_way.setdefault(slave, []).append(framework)
        ranked = list(c.allocator.ranked()) if now >= c.hold_until else []
        known = set(c.offers)
        self._allocate(c, now)
        made = [
            (offer.framework, offer.slave) for offer_id, offer in c.offers.items() if offer_id not in known
        ]
        after = reasons(c, now)
        for framework, slave in made:
            assert framework in on_its_way.get(slave, ()), f"offered, though {before[framework, slave]}"
        if made:
            framework, slave = made[0]
            first = min(on_its_way[slave], key=lambda each: ranked.index(each.framework_id))
            assert framework is first, "somebody was before it"
        for slave, frameworks in on_its_way.items():
            is_offered = any(offered is slave for _, offered in made)
            assert is_offered or all(_is_at_its_limit(c, each, slave) for each in frameworks)
        for (_, slave), why in after.items():
            assert why != "not_yet" or slave.offer_again_at > now, "on its way, and the turn is over"

    # -- more events ----------------------------------------------------------------------------------------------------

    @rule(which=index, number=st.integers(0, 5), asks=st.integers(1, 8))
    def filter_slaves(self, which: int, number: int, asks: int) -> None:
        """By attributes or amounts; some filters exclude all slaves."""
        framework = self.some_framework(which)
        filters = [
            m.Filters(),
            m.Filters(slave_ids=[self.pick(which).peer.slave_id]),
            m.Filters(slave_ids=[SlaveID("S-none")]),
            m.Filters(attributes={"disk": "ssd"}),
            m.Filters(attributes_match={"disk": "*s*"}, minimum=Resources.of(cpus=asks)),
            m.Filters(minimum=Resources.of(cpus=asks)),
        ]
        framework.send(m.SetFilters(filters[number]))
        self.settle()

    @rule(cpus=st.integers(1, 8), minimum=st.integers(0, 2))
    @precondition(lambda self: len(self.slaves) < 5)
    def register_slave_with_attributes(self, cpus: int, minimum: int) -> None:
        least = Resources.of(cpus=min(cpus, minimum))
        peer = self.cluster.slave(f"cpus={cpus},mem={cpus}G", attributes={"disk": "ssd"}, minimum_offer=least)
        self.slaves.append(World(peer))
        self.settle()

    @rule(which=index, mode=st.sampled_from(["active", "active", "deactivated", "draining"]))
    def an_operator_changes_a_slaves_mode(self, which: int, mode: str) -> None:
        self.cluster.operator().send(om.ChangeSlaveMode(self.pick(which).peer.slave_id, mode))
        self.settle()

    @rule(which=index, answers=st.booleans())
    def slave_repeats_its_registration(self, which: int, answers: bool) -> None:
        """It has not read the answer, and may not read other messages now."""
        world = self.pick(which)
        world.peer.answers_pings = answers
        self.slave_returns(which, forgets=False, breaks=False)

    @rule(which=index, answers=st.booleans())
    def scheduler_repeats_its_registration(self, which: int, answers: bool) -> None:
        framework = self.some_framework(which)
        framework.answers_pings = answers
        info = self.cluster.again(framework).info
        framework.send(m.RegisterFramework(info))
        self.settle()

    @rule(which=index, really=rarely)
    def scheduler_goes(self, which: int, really: bool) -> None:
        """Its framework waits for another scheduler for a while."""
        if really:
            self.cluster.lose_peer(self.some_framework(which))

    @rule(cpus=st.integers(1, 8))
    @precondition(lambda self: len(self.slaves) < 5)
    def slave_of_an_earlier_master_comes(self, cpus: int) -> None:
        """If there is a quiet time, offers are held back because of it."""
        self.serial += 1
        peer = self.cluster.slave(registers=False)
        peer.info = m.SlaveInfo("host", Resources.of(cpus=cpus, mem="1G"), SlaveID(f"S-9-{self.serial:04d}"))
        peer.register()
        self.slaves.append(World(peer))
        self.settle()


class ExplainedBatches(ExplainedTurns):
    """With batch windows, a minimum for all offers, a new master's quiet time, and limits that are soon reached."""

    more_settings: ClassVar[dict[str, Any]] = {
        "batch_window_s": 0.4,
        "minimum_offer": Resources.of(cpus=1),
        "recovery_quiet_s": 0.5,
        "recovery_window_s": 1e6,
        "policy": Policy({"*": Terms(limit=Resources.of(cpus=5)), "gold": Terms(limit=Resources.of(cpus=3))}),
    }


def reasons(c: Cluster, now: float) -> dict[Pair, str]:
    """The reasons of all pairs; each must be true."""
    found = {}
    for slave in c.slaves.values():
        for framework in c.frameworks.values():
            why = found[framework, slave] = reason_against(c, framework, slave, now)
            assert why == "not_yet" or IS_TRUE[why](c, framework, slave, now), why
    return found


def _room(c: Cluster, framework: Framework) -> dict[str, int]:
    room = c.entitlements.room(framework.framework_id) if c.entitlements is not None else None
    return dict(room or {})


def _is_filtered(framework: Framework, slave: Slave) -> bool:
    filters, attributes = framework.filters.filters, slave.info.attributes
    return (
        (bool(filters.slave_ids) and slave.slave_id not in filters.slave_ids)
        or any(name not in attributes for name in filters.attributes_exist)
        or any(attributes.get(name) != value for name, value in filters.attributes.items())
        or any(
            not fnmatchcase(attributes.get(name, ""), like) for name, like in filters.attributes_match.items()
        )
        or not slave.total.covers(filters.minimum)
    )


def _is_at_its_limit(c: Cluster, framework: Framework, slave: Slave) -> bool:
    least = framework.filters.filters.minimum.scalars
    return any(
        left < max(1, least.get(name, 0), dict(slave.needs).get(name, 0))
        for name, left in _room(c, framework).items()
    )


def _is_declined(framework: Framework, slave: Slave, now: float) -> bool:
    refusal = framework.refusals.get(slave.slave_id)
    return refusal is not None and refusal.until > now


def _is_under_its_minimum(slave: Slave) -> bool:
    least = dict(slave.minimum_offer)
    return any(slave.free.scalars.get(name, 0) < amount for name, amount in least.items())


def _is_offered_to(framework: Framework, slave: Slave) -> bool:
    return any(offer.framework is framework for offer in slave.offers.values())


IS_TRUE: dict[str, Callable[[Cluster, Framework, Slave, float], bool]] = {
    "ended": lambda c, framework, slave, now: framework.ended,
    "unreachable": lambda c, framework, slave, now: (
        slave.state is not SlaveState.ACTIVE or slave.peer is None or slave.is_unresponsive
    ),
    "disk_full": lambda c, framework, slave, now: slave.is_disk_full,
    "offered": lambda c, framework, slave, now: _is_offered_to(framework, slave),
    "filtered": lambda c, framework, slave, now: _is_filtered(framework, slave),
    "offered_to_others": lambda c, framework, slave, now: (
        bool(slave.offers) and not _is_offered_to(framework, slave) and not slave.is_worth_offering()
    ),
    "in_use": lambda c, framework, slave, now: not slave.free.freeze(),
    "minimum_offer_not_free": lambda c, framework, slave, now: _is_under_its_minimum(slave),
    "filters_ask_for_more": lambda c, framework, slave, now: (
        not slave.free.freeze().covers(framework.filters.filters.minimum)
    ),
    "limit_reached": lambda c, framework, slave, now: _is_at_its_limit(c, framework, slave),
    "no_scheduler": lambda c, framework, slave, now: framework.peer is None,
    "scheduler_unresponsive": lambda c, framework, slave, now: framework.is_unresponsive,
    "long_task_cap_reached": lambda c, framework, slave, now: (
        _is_declined(framework, slave, now)
        and any(slave.long_used.get(name, 0) >= cap for name, cap in slave.long_cap.items())
    ),
    "no_offer_fits": lambda c, framework, slave, now: _is_declined(framework, slave, now),
    "wants_nothing": lambda c, framework, slave, now: not framework.needs_offers,
    "offers_held_back": lambda c, framework, slave, now: now < c.hold_until,
}


@pytest.mark.parametrize("machine", [ExplainedTurns, ExplainedBatches])
def test_an_offer_is_announced_exactly_where_the_next_turn_makes_one(
    machine: type[ExplainedTurns],
) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None)
    )


def test_every_reason_has_a_check() -> None:
    assert set(IS_TRUE) | {"not_yet"} == set(REASONS)
