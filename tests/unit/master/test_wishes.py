"""The offers that a scheduler wants by its registration: they hold for the very first offers."""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer
from offerd import messages as m
from offerd.messages import Reason
from offerd.resources import Resources

SSD = m.Filters(attributes={"disk": "ssd"})
LARGE = m.Filters(minimum=Resources.of(cpus=64))


def register(framework: FrameworkPeer, **more: object) -> None:
    framework.send(m.RegisterFramework(framework.info, **more))  # type: ignore[arg-type]
    answer = framework.take(m.FrameworkRegistered)
    framework.framework_id = answer.framework_id
    assert answer.heeds_wishes


def test_a_framework_that_needs_no_offers_gets_none() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = cluster.framework(registers=False)
    register(framework, needs_offers=False)
    assert framework.inbox == []
    framework.send(m.SetNeedsOffers(True))
    framework.offer()


def test_filters_hold_for_the_first_offers() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    good = cluster.slave(attributes={"disk": "ssd"})
    framework = cluster.framework(registers=False)
    register(framework, filters=SSD)
    assert framework.offer().slave_id == good.slave_id


def test_a_repeated_registration_changes_the_wishes() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = cluster.framework(registers=False)
    register(framework, filters=LARGE)
    register(framework)
    framework.offer()


def test_a_promoted_standby_is_offered_what_it_asked_for_while_it_waited() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    active = cluster.framework(failover_timeout_s=60.0)
    active.offer()
    standby = cluster.again(active)
    for filters in (m.Filters(), LARGE):
        standby.send(m.RegisterFramework(standby.info, stands_by=True, filters=filters))
        standby.take(m.FrameworkStandsBy)
    cluster.lose_peer(active)
    assert standby.take(m.FrameworkRegistered).heeds_wishes
    assert standby.inbox == []
    standby.send(m.SetFilters(m.Filters()))
    standby.offer()


@pytest.mark.parametrize("stands_by", [False, True])
def test_filters_that_cannot_be_used_refuse_the_registration(stands_by: bool) -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    bad = m.Filters(attributes_match={"rack": "*" * 300})
    framework.send(m.RegisterFramework(framework.info, stands_by=stands_by, filters=bad))
    assert framework.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_INVALID
