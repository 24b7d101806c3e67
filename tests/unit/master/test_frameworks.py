"""Frameworks: registration, take-over, disconnection, fail-over, end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.core.budgets import NOBODY_IN_PARTICULAR


def with_a_task(**info: Any) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """A framework with one running task on a slave that has one cpu more."""
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework(**info)
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.take(m.RunTasks)
    slave.status(framework, "t1", TaskState.RUNNING)
    framework.inbox.clear()
    return cluster, slave, framework


def test_a_framework_is_registered_and_offered_what_is_free() -> None:
    cluster = ClusterHarness(ping_interval_s=2.0)
    cluster.slave()
    framework = cluster.framework(registers=False)
    framework.send(m.RegisterFramework(framework.info))
    answer = framework.take(m.FrameworkRegistered)
    assert (answer.framework_id, answer.master_id, answer.reregistered, answer.ping_interval_s) == (
        "F-a-0001",
        "M-test",
        False,
        2.0,
    )
    framework.offer()
    cluster.assert_nothing_else_sent()


def test_a_registration_sent_twice_makes_one_framework() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    first = framework.framework_id
    framework.register()
    assert framework.framework_id == first
    assert len(cluster.core.cluster.frameworks) == 1


def test_an_old_protocol_is_refused() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    framework.send(m.RegisterFramework(framework.info, protocol=0))
    assert framework.take(m.FrameworkRefused).reason == Reason.PROTOCOL_TOO_OLD


GOOD = m.FrameworkInfo("f", executors=[EXECUTOR])


@pytest.mark.parametrize(
    "info",
    [
        msgspec.structs.replace(GOOD, executors=[EXECUTOR, EXECUTOR]),
        msgspec.structs.replace(GOOD, executors=[m.ExecutorInfo(ExecutorID("a/b"), "m")]),
        msgspec.structs.replace(GOOD, executors=[m.ExecutorInfo(ExecutorID("e"), "m", data=b"x" * 300_000)]),
        msgspec.structs.replace(
            GOOD, executors=[m.ExecutorInfo(ExecutorID("e"), "m", shutdown_grace_s=-1.0)]
        ),
        msgspec.structs.replace(GOOD, failover_timeout_s=-1.0),
        msgspec.structs.replace(GOOD, role=""),
        msgspec.structs.replace(GOOD, labels={"a": "x" * 100_000}),
        msgspec.structs.replace(GOOD, framework_id=FrameworkID("no id!")),
        msgspec.structs.replace(GOOD, unreachable_timeout_s=-1.0),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(info: m.FrameworkInfo) -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    framework.send(m.RegisterFramework(info))
    refused = framework.take(m.FrameworkRefused)
    assert refused.reason == Reason.FRAMEWORK_INVALID
    assert refused.message
    assert cluster.core.cluster.frameworks == {}


def test_another_scheduler_takes_over_and_the_old_one_is_notified() -> None:
    cluster, slave, framework = with_a_task()
    second = cluster.again(framework)
    second.send(m.RegisterFramework(second.info))
    assert framework.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_FAILED_OVER
    answer = second.take(m.FrameworkRegistered)
    assert (answer.framework_id, answer.reregistered) == (framework.framework_id, True)
    assert second.offer().resources == Resources.parse("cpus=1,mem=1G")
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    second.update(TaskState.FINISHED)
    second.offer()
    cluster.assert_nothing_else_sent()


def test_a_scheduler_that_was_replaced_is_a_stranger() -> None:
    cluster, _, framework = with_a_task()
    second = cluster.again(framework)
    second.register()
    framework.take(m.FrameworkRefused)
    framework.send(m.KillTask(framework.framework_id, TaskID("t1")))
    framework.take(m.NotRegistered)


def test_an_update_sent_while_no_scheduler_was_there_reaches_the_successor() -> None:
    cluster, slave, framework = with_a_task(failover_timeout_s=100.0)
    cluster.lose_peer(framework)
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    assert slave.inbox == [], "not acknowledged: the slave goes on repeating"
    second = cluster.again(framework)
    second.register()
    second.offer()
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    second.update(TaskState.FINISHED)
    cluster.assert_nothing_else_sent()


def test_a_successor_may_change_the_role() -> None:
    cluster, _, framework = with_a_task(role="old")
    second = cluster.again(framework)
    second.info = msgspec.structs.replace(second.info, role="new")
    second.register()
    assert cluster.core.cluster.frameworks[framework.framework_id].info.role == "new"


def test_a_disconnected_scheduler_loses_its_offers_and_keeps_its_tasks_until_its_time_is_over() -> None:
    cluster, slave, framework = with_a_task(failover_timeout_s=50.0)
    framework.answers_pings = False
    cluster.advance(35.0)
    assert cluster.core.cluster.offers == {}
    assert slave.inbox == []
    cluster.advance(50.0)
    assert slave.take(m.ShutdownFramework).framework_id == framework.framework_id
    slave.status(framework, "t1", TaskState.KILLED, 2)
    assert slave.take(m.Acknowledge).updates == [("t1", 2)]


def test_a_framework_without_failover_time_may_still_reconnect() -> None:
    cluster, slave, framework = with_a_task(failover_timeout_s=0.0)
    cluster.lose_peer(framework)
    cluster.advance(14.9)
    again = cluster.again(framework)
    again.register()
    cluster.advance(60.0)
    assert slave.inbox == []
    assert cluster.core.cluster.frameworks[framework.framework_id].tasks


def test_a_framework_cannot_come_back_after_its_failover_time() -> None:
    cluster, _, framework = with_a_task(failover_timeout_s=20.0)
    cluster.lose_peer(framework)
    cluster.advance(20.1)
    again = cluster.again(framework)
    again.send(m.RegisterFramework(again.info))
    assert again.take(m.FrameworkRefused).reason == Reason.FAILOVER_TIMEOUT


def test_teardown_ends_what_runs_and_frees_it_when_it_has_ended() -> None:
    cluster, slave, framework = with_a_task()
    other = cluster.framework("other")
    framework.send(m.TeardownFramework())
    assert other.offer().resources == Resources.parse("cpus=1,mem=1G"), "its offer, not yet its task"
    slave.take(m.ShutdownFramework)
    slave.status(framework, "t1", TaskState.KILLED, 2)
    slave.take(m.Acknowledge)
    assert other.offer().resources == Resources.parse("cpus=1,mem=1G")
    slave.send(m.ExecutorExited(framework.framework_id, ExecutorID("default"), ContainerID("c"), 0))
    assert list(cluster.core.cluster.frameworks) == [other.framework_id]
    assert framework.framework_id in cluster.core.cluster.ended_frameworks
    framework.send(m.Pong())
    framework.take(m.NotRegistered)
    cluster.assert_nothing_else_sent()


def test_the_remembered_ended_frameworks_are_bounded() -> None:
    cluster = ClusterHarness(max_ended_frameworks=3)
    for n in range(6):
        cluster.framework(f"f{n}").send(m.TeardownFramework())
    assert len(cluster.core.cluster.ended_frameworks) == 3
    assert cluster.core.cluster.peers == {}


def test_a_scheduler_that_speaks_for_another_framework_is_dropped() -> None:
    for message in (
        m.KillTask(FrameworkID("F-other"), TaskID("t")),
        m.Acknowledge(FrameworkID("F-other"), SlaveID("S"), []),
        m.FrameworkMessage(FrameworkID("F-other"), SlaveID("S"), ExecutorID("e"), b""),
    ):
        cluster = ClusterHarness()
        framework = cluster.framework()
        framework.send(message)
        assert [drop.peer for drop in cluster.drops] == [framework.peer]


def test_a_scheduler_that_sends_what_only_a_slave_may_is_dropped() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    status = m.TaskStatus(TaskID("t"), TaskState.FINISHED, 1)
    framework.send(m.StatusUpdate(framework.framework_id, status))
    assert [drop.peer for drop in cluster.drops] == [framework.peer]


def test_nothing_is_guaranteed_by_drf() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    framework.send(m.GetGuaranteedShare())
    assert framework.take(m.GuaranteedShare).resources == Resources()


def test_an_owner_has_a_bounded_number_of_frameworks_and_the_next_is_refused_until_one_ends() -> None:
    cluster = ClusterHarness(max_frameworks_per_owner=3)
    crowd = [cluster.framework(f"f{number}") for number in range(3 * NOBODY_IN_PARTICULAR)]
    late = cluster.framework(registers=False)
    late.send(m.RegisterFramework(late.info))
    refused = late.take(m.FrameworkRefused)
    assert refused.reason == Reason.FRAMEWORK_INVALID
    assert "15 frameworks" in refused.message
    crowd[0].send(m.TeardownFramework())
    late.register()


def test_one_connection_that_registers_with_ever_new_ids_is_bounded() -> None:
    cluster = ClusterHarness(max_frameworks_per_owner=3)
    peer = cluster.framework(registers=False)
    for number in range(100):
        info = msgspec.structs.replace(
            GOOD, framework_id=FrameworkID(f"F-1-{number}"), failover_timeout_s=1e6
        )
        peer.send(m.RegisterFramework(info))
    assert len(cluster.core.cluster.frameworks) == 3 * NOBODY_IN_PARTICULAR


def test_descriptions_of_one_owners_frameworks_are_bounded_together_and_forgotten_with_them() -> None:
    cluster = ClusterHarness(max_framework_bytes_per_owner=100_000)
    fat = [m.ExecutorInfo(ExecutorID("e"), "m", data=b"x" * 200_000)]
    first, second = (cluster.framework(str(number), executors=fat) for number in range(2))
    late = cluster.framework(registers=False, executors=fat)
    late.send(m.RegisterFramework(late.info))
    assert "bytes already" in late.take(m.FrameworkRefused).message
    # Repeated, also by its next scheduler, it counts once.
    first.register()
    standby = cluster.again(second)
    standby.register()
    for framework in (first, standby):
        framework.send(m.TeardownFramework())
    late.register()
    late.send(m.TeardownFramework())
    assert not cluster.core.cluster.budgets._size_bytes


def test_later_descriptions_of_frameworks_are_bounded_as_well() -> None:
    cluster = ClusterHarness(max_framework_bytes_per_owner=100_000)
    fat = [m.ExecutorInfo(ExecutorID("e"), "m", data=b"x" * 200_000)]
    thin = [cluster.framework(str(number)) for number in range(4)]
    answers: list[type] = []
    for framework in thin:
        framework.info = msgspec.structs.replace(
            framework.info, framework_id=framework.framework_id, executors=fat
        )
        framework.send(m.RegisterFramework(framework.info))
        answers.append(type(framework.inbox.pop()))
    assert answers == [m.FrameworkRegistered] * 2 + [m.FrameworkRefused] * 2
    for framework in thin[:2]:
        framework.send(m.TeardownFramework())
    wide = m.Filters(slave_ids=[SlaveID("x" * 100 + str(number)) for number in range(2_000)])
    for framework in thin[2:]:
        framework.send(m.SetFilters(wide))
    standby = cluster.again(thin[3])
    standby.send(m.RegisterFramework(standby.info, stands_by=True, filters=wide))
    assert "bytes already" in standby.take(m.FrameworkRefused).message
    late = cluster.framework(registers=False)
    late.send(m.RegisterFramework(late.info, filters=wide))
    assert "bytes already" in late.take(m.FrameworkRefused).message
    thin[2].send(m.SetFilters(m.Filters()))
    late.send(m.RegisterFramework(late.info, filters=wide))
    assert isinstance(late.inbox.pop(), m.FrameworkRegistered)
    late.send(m.SetFilters(wide))
    assert not cluster.drops
    thin[2].send(m.SetFilters(wide))
    (drop,) = cluster.drops
    assert "bytes already" in drop.why
    back = cluster.again(thin[2])
    back.info = m.FrameworkInfo("as before", thin[2].framework_id)
    back.register()
    for framework in (late, thin[3], back):
        framework.send(m.TeardownFramework())
    assert not cluster.core.cluster.budgets._size_bytes
