"""Several schedulers of one framework: which is active, which stand by, and what each is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import FrameworkID, TaskID
from offerd.messages import Reason, TaskState


def with_a_task(**info: Any) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework(**info)
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.take(m.RunTasks)
    slave.status(framework, "t1", TaskState.RUNNING)
    framework.inbox.clear()
    return cluster, slave, framework


def standby_of(cluster: ClusterHarness, active: FrameworkPeer, scheduler_id: str = "") -> FrameworkPeer:
    standby = cluster.again(active)
    standby.send(m.RegisterFramework(standby.info, stands_by=True, scheduler_id=scheduler_id))
    return standby


def test_a_second_scheduler_that_stands_by_is_sent_its_place_and_disturbs_nobody() -> None:
    cluster, _, active = with_a_task()
    first, second = standby_of(cluster, active), standby_of(cluster, active)
    assert first.take(m.FrameworkStandsBy).ahead == 0
    answer = second.take(m.FrameworkStandsBy)
    assert (answer.framework_id, answer.master_id, answer.ahead) == (active.framework_id, "M-test", 1)
    cluster.assert_nothing_else_sent()


def test_the_death_of_the_active_scheduler_promotes_the_next_at_once() -> None:
    cluster, slave, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.take(m.FrameworkStandsBy)
    cluster.lose_peer(active)
    promoted = standby.take(m.FrameworkRegistered)
    assert (promoted.framework_id, promoted.promoted, promoted.reregistered) == (
        active.framework_id,
        True,
        True,
    )
    assert standby.offer().slave_id == slave.slave_id
    slave.status(standby, "t1", TaskState.FINISHED, 2)
    assert standby.update(TaskState.FINISHED).task_id == "t1"


def test_a_scheduler_that_leaves_by_itself_promotes_the_next() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.take(m.FrameworkStandsBy)
    active.send(m.FailOver())
    assert standby.take(m.FrameworkRegistered).promoted


def test_a_frozen_active_scheduler_is_replaced_after_five_missed_pings() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.take(m.FrameworkStandsBy)
    active.answers_pings = False
    cluster.advance(24.9)
    assert standby.inbox == []
    cluster.advance(5.1)
    assert standby.take(m.FrameworkRegistered).promoted


def test_a_standby_that_is_gone_is_not_promoted() -> None:
    cluster, _, active = with_a_task()
    silent, broken, leaving, alive = (standby_of(cluster, active) for _ in range(4))
    silent.answers_pings = False
    cluster.lose_peer(broken)
    leaving.send(m.FailOver())
    cluster.advance(31)
    alive.inbox.clear()
    cluster.lose_peer(active)
    assert alive.take(m.FrameworkRegistered).promoted


def test_a_standby_may_give_no_orders() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.send(m.KillTask(active.framework_id, TaskID("t1")))
    assert [drop.peer for drop in cluster.drops] == [standby.peer]
    assert cluster.core.cluster.frameworks[active.framework_id].standbys == []


def test_the_active_scheduler_stays_active_over_another_connection() -> None:
    cluster = ClusterHarness()
    active = cluster.framework(registers=False)
    active.send(m.RegisterFramework(active.info, stands_by=True, scheduler_id="one"))
    active.framework_id = active.take(m.FrameworkRegistered).framework_id
    standby = standby_of(cluster, active, "two")
    again = standby_of(cluster, active, "one")
    assert not again.take(m.FrameworkRegistered).promoted
    assert active.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_FAILED_OVER
    assert [type(message) for message in standby.inbox] == [m.FrameworkStandsBy]


def test_a_replaced_scheduler_stands_by_when_it_returns() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active, "two")
    cluster.lose_peer(active)
    standby.inbox.clear()
    back = cluster.again(active)
    back.send(m.RegisterFramework(back.info, stands_by=True, was_active=True, scheduler_id="one"))
    back.take(m.FrameworkStandsBy)
    assert [type(message) for message in standby.inbox] == []


def test_a_scheduler_that_does_not_stand_by_takes_over_and_the_line_stays() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.inbox.clear()
    other = cluster.again(active)
    other.register()
    assert active.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_FAILED_OVER
    cluster.lose_peer(other)
    assert standby.take(m.FrameworkRegistered).promoted


def test_the_end_of_a_framework_reaches_its_standbys_with_the_reason() -> None:
    cluster, _, active = with_a_task()
    standby = standby_of(cluster, active)
    standby.inbox.clear()
    active.send(m.TeardownFramework())
    assert standby.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_TORN_DOWN


def test_a_returning_scheduler_is_sent_the_reason_why_its_framework_has_ended() -> None:
    cluster, _, active = with_a_task()
    active.send(m.TeardownFramework())
    again = cluster.again(active)
    again.send(m.RegisterFramework(again.info))
    assert again.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_TORN_DOWN


OLD = FrameworkID("F-9-0001")


def old_scheduler(cluster: ClusterHarness) -> FrameworkPeer:
    """A scheduler of a framework that an earlier master knew."""
    peer = cluster.framework(registers=False)
    peer.framework_id = OLD
    peer.info = msgspec.structs.replace(peer.info, framework_id=OLD)
    return peer


def test_a_new_master_waits_for_the_scheduler_that_was_active_before() -> None:
    cluster = ClusterHarness()
    standby, active = old_scheduler(cluster), old_scheduler(cluster)
    standby.send(m.RegisterFramework(standby.info, stands_by=True, scheduler_id="two"))
    standby.take(m.FrameworkStandsBy)
    cluster.advance(2)
    active.send(m.RegisterFramework(active.info, stands_by=True, was_active=True, scheduler_id="one"))
    active.take(m.FrameworkRegistered)
    cluster.advance(20)
    cluster.assert_nothing_else_sent()


def test_a_new_master_promotes_a_standby_when_the_active_scheduler_does_not_come() -> None:
    cluster = ClusterHarness(recovery_window_s=10.0)
    standby = old_scheduler(cluster)
    standby.send(m.RegisterFramework(standby.info, stands_by=True))
    standby.take(m.FrameworkStandsBy)
    cluster.advance(2.9)
    assert standby.inbox == []
    cluster.advance(0.2)
    assert standby.take(m.FrameworkRegistered).promoted


def test_a_scheduler_that_registers_again_and_again_over_one_connection_is_offered_nothing() -> None:
    _, slave, framework = with_a_task()
    framework.answers_pings = False
    framework.send(
        m.RegisterFramework(msgspec.structs.replace(framework.info, framework_id=framework.framework_id))
    )
    assert [type(message) for message in framework.inbox] == [m.FrameworkRegistered], "no offer"
    framework.send(m.Pong())
    framework.inbox.pop(0)
    assert framework.offer().slave_id == slave.slave_id
