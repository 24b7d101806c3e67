"""How soon frameworks have their fair share, and how long they take, as the master measures it."""

from __future__ import annotations

import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import FrameworkID
from offerd.messages import Reason, TaskState


def shown(cluster: ClusterHarness, framework: FrameworkPeer) -> om.FrameworkSummary:
    operator = cluster.operator()
    operator.send(om.GetFrameworks(ended=True))
    found = {summary.framework_id: summary for summary in operator.take(om.Frameworks).frameworks}
    return found[framework.framework_id]


def launch(framework: FrameworkPeer, *names: str) -> None:
    framework.accept(framework.offer(), tasks=[task(name, "cpus=1,mem=1G") for name in names])


def test_a_new_framework_has_ramped_up_when_its_tasks_hold_its_fair_share() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6, offer_timeout_s=1e6)
    slave = cluster.slave("cpus=4,mem=4G")
    old = cluster.framework("old")
    cluster.advance(2)
    launch(old, "a", "b", "c", "d")
    assert shown(cluster, old).ramp_up_s == 2.0, "all was due to it"
    new = cluster.framework("new")
    for name, at in (("a", 10.0), ("b", 5.0)):
        cluster.advance(at)
        assert shown(cluster, new).ramp_up_s is None
        slave.finish(old, name)
        cluster.advance(0)
        launch(new, f"new-{name}")
    assert shown(cluster, new).ramp_up_s == 15.0
    assert shown(cluster, old).ramp_up_s == 2.0


def test_the_share_is_reached_when_one_more_task_would_exceed_it() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    cluster.slave("cpus=5,mem=5G")
    other, framework = cluster.framework("other"), cluster.framework()
    launch(other, "t1", "t2", "t3")
    assert shown(cluster, other).ramp_up_s == 0.0
    cluster.advance(2)
    launch(framework, "t1")
    assert shown(cluster, framework).ramp_up_s is None
    cluster.advance(1)
    launch(framework, "t2")
    assert shown(cluster, framework).ramp_up_s == 3.0, "two of five, and half is due"


def test_a_framework_that_wants_no_more_has_ramped_up() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    cluster.slave("cpus=8,mem=8G")
    framework = cluster.framework(registers=False)
    framework.send(m.RegisterFramework(framework.info, needs_offers=False))
    framework.framework_id = framework.take(m.FrameworkRegistered).framework_id
    cluster.advance(100)
    framework.send(m.SetNeedsOffers(True))
    cluster.advance(1)
    launch(framework, "only")
    assert shown(cluster, framework).ramp_up_s is None
    cluster.advance(1)
    framework.send(m.SetNeedsOffers(False))
    assert shown(cluster, framework).ramp_up_s == 2.0, "from its first wish on"


def test_many_frameworks_are_looked_at_rarely_and_none_is_forgotten() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    cluster.slave("cpus=40,mem=40G")
    for number in range(20):
        cluster.framework(f"silent{number}", registers=False).send(
            m.RegisterFramework(m.FrameworkInfo(f"silent{number}"), needs_offers=False)
        )
    framework = cluster.framework()
    cluster.advance(1)
    launch(framework, *(f"t{n}" for n in range(20)))
    launch(framework, *(f"more{n}" for n in range(20)))  # at the same time
    assert shown(cluster, framework).ramp_up_s is None, "it was looked at a moment ago"
    cluster.advance(1)
    assert shown(cluster, framework).ramp_up_s == pytest.approx(1 + 0.0002 * 21)


def test_open_offers_do_not_count_for_the_ramp_up() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    cluster.slave("cpus=8,mem=8G")
    framework = cluster.framework()
    assert framework.offers()
    launch_nothing_s = 5.0
    cluster.advance(launch_nothing_s)
    assert shown(cluster, framework).ramp_up_s is None


def test_completion_is_from_the_registration_to_the_end() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    framework = cluster.framework()
    cluster.advance(90)
    assert shown(cluster, framework).completion_s is None
    framework.send(m.TeardownFramework())
    cluster.advance(1000)
    assert shown(cluster, framework).completion_s == 90.0


def test_the_ramp_up_of_a_framework_of_an_earlier_master_is_not_known_but_its_completion_is() -> None:
    cluster = ClusterHarness(ping_interval_s=1e6)
    slave = cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework(registers=False)
    framework.info = m.FrameworkInfo("old", FrameworkID("F-1-0001"), executors=[EXECUTOR])
    framework.send(m.RegisterFramework(framework.info, was_active=True, since_s=60.0))
    framework.framework_id = framework.take(m.FrameworkRegistered).framework_id
    cluster.advance(10)
    launch(framework, "t")
    slave.status(framework, "t", TaskState.KILLED, reason=Reason.TASK_TIMEOUT)
    framework.send(m.TeardownFramework())
    assert shown(cluster, framework).ramp_up_s is None
    assert shown(cluster, framework).completion_s == 70.0
