"""Status updates, acknowledgements, kills, reconciliation, framework messages, and what is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.core import tasks
from offerd_master.core.events import Received


def with_tasks(count: int = 1, **settings: Any) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """A framework that wants no more offers, with tasks t0, t1, ... that fill a slave."""
    cluster = ClusterHarness(**settings)
    slave = cluster.slave(f"cpus={count},mem={count}G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task(f"t{n}") for n in range(count)])
    framework.send(m.SetNeedsOffers(False))
    slave.take(m.RunTasks)
    return cluster, slave, framework


def test_updates_reach_the_scheduler_as_they_are() -> None:
    cluster, slave, framework = with_tasks()
    slave.status(framework, "t0", TaskState.RUNNING, 1, container_id="c1")
    slave.status(framework, "t0", TaskState.FAILED, 2, reason="COMMAND_EXITED", exit_status=3, data=b"x")
    assert framework.update(TaskState.RUNNING).sequence == 1
    status = framework.update(TaskState.FAILED)
    assert (status.sequence, status.reason, status.exit_status, status.data) == (2, "COMMAND_EXITED", 3, b"x")
    cluster.assert_nothing_else_sent()


def test_resources_are_free_at_the_terminal_status_not_at_its_acknowledgement() -> None:
    cluster, slave, framework = with_tasks()
    framework.send(m.SetNeedsOffers(True))
    cluster.assert_nothing_else_sent()
    slave.status(framework, "t0", TaskState.FINISHED)
    framework.update(TaskState.FINISHED)
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G")


def test_a_terminal_status_repeated_is_passed_on_and_counted_once() -> None:
    cluster, slave, framework = with_tasks()
    for _ in range(3):
        slave.status(framework, "t0", TaskState.FINISHED)
        framework.update(TaskState.FINISHED)
    assert cluster.core.cluster.ended_counts == {"TASK_FINISHED": 1}


def test_an_update_for_a_task_that_was_never_launched_goes_no_further_and_is_acknowledged() -> None:
    cluster, slave, framework = with_tasks()
    slave.status(framework, "stranger", TaskState.FINISHED)
    assert slave.take(m.Acknowledge).updates == [("stranger", 1)]
    cluster.assert_nothing_else_sent()


def test_an_update_for_a_framework_that_has_ended_is_acknowledged_by_the_master() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    gone = cluster.framework()
    gone.inbox.clear()
    gone.send(m.TeardownFramework())
    slave.status(gone, "t0", TaskState.FINISHED, 4)
    answer = slave.take(m.Acknowledge)
    assert (answer.framework_id, answer.slave_id, answer.updates) == (
        gone.framework_id,
        slave.slave_id,
        [("t0", 4)],
    )


def test_a_new_master_lets_a_slave_repeat_until_the_scheduler_has_come_or_cannot() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    absent = cluster.framework(registers=False)
    absent.framework_id = FrameworkID("F-9-0001")
    slave.status(absent, "t0", TaskState.FINISHED)
    cluster.assert_nothing_else_sent()
    cluster.advance(61.0)
    slave.status(absent, "t0", TaskState.FINISHED)
    slave.take(m.Acknowledge)


def test_a_status_without_a_sequence_is_not_acknowledged() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    gone = cluster.framework()
    gone.inbox.clear()
    gone.send(m.TeardownFramework())
    slave.status(gone, "t0", TaskState.LOST, 0)
    cluster.assert_nothing_else_sent()


def test_acknowledgements_reach_the_slave_as_they_are() -> None:
    cluster, slave, framework = with_tasks()
    updates = [(TaskID("t0"), 1), (TaskID("t0"), 2)]
    framework.send(m.Acknowledge(framework.framework_id, slave.slave_id, updates))
    assert slave.take(m.Acknowledge).updates == updates
    framework.send(m.Acknowledge(framework.framework_id, SlaveID("S-unknown"), updates))
    cluster.assert_nothing_else_sent()


def test_a_slave_cannot_end_the_task_of_another() -> None:
    cluster, _, framework = with_tasks()
    other = cluster.slave()
    other.status(framework, "t0", TaskState.FINISHED)
    other.take(m.Acknowledge)
    cluster.assert_nothing_else_sent()
    assert "t0" in cluster.core.cluster.frameworks[framework.framework_id].tasks


def test_a_kill_finds_the_slave() -> None:
    cluster, slave, framework = with_tasks()
    framework.send(m.KillTask(framework.framework_id, TaskID("t0"), grace_s=1.5))
    kill = slave.take(m.KillTask)
    assert (kill.task_id, kill.slave_id, kill.grace_s) == ("t0", slave.slave_id, 1.5)
    cluster.assert_nothing_else_sent()


def test_an_invalid_grace_of_a_kill_means_the_tasks_own() -> None:
    _, slave, framework = with_tasks()
    framework.send(m.KillTask(framework.framework_id, TaskID("t0"), grace_s=-1.0))
    assert slave.take(m.KillTask).grace_s is None


def test_killing_a_task_that_never_was_reports_it_lost() -> None:
    cluster, _, framework = with_tasks()
    framework.send(m.KillTask(framework.framework_id, TaskID("never")))
    status = framework.update(TaskState.LOST)
    assert (status.task_id, status.reason, status.source) == ("never", Reason.TASK_UNKNOWN, "master")
    cluster.assert_nothing_else_sent()


def test_killing_a_task_that_has_ended_reports_nothing_more() -> None:
    cluster, slave, framework = with_tasks()
    slave.finish(framework, "t0")
    framework.send(m.KillTask(framework.framework_id, TaskID("t0")))
    cluster.assert_nothing_else_sent()


def test_explicit_reconciliation_reports_the_state_of_each() -> None:
    _cluster, slave, framework = with_tasks(4)
    slave.status(framework, "t0", TaskState.RUNNING)
    slave.status(framework, "t2", TaskState.FAILED, 1, reason="COMMAND_EXITED")
    slave.status(framework, "t3", TaskState.FINISHED, 1)
    framework.send(m.Acknowledge(framework.framework_id, slave.slave_id, [(TaskID("t2"), 1)]))
    framework.inbox.clear()
    framework.send(m.ReconcileTasks([TaskID(t) for t in ("t0", "t1", "t2", "t3", "never")]))
    states = {s.task_id: (s.state, s.reason) for s in (framework.update() for _ in range(4))}
    assert states == {
        "t0": (TaskState.RUNNING, Reason.RECONCILIATION),
        "t1": (TaskState.STAGING, Reason.RECONCILIATION),
        "t2": (TaskState.FAILED, Reason.COMMAND_EXITED),
        "never": (TaskState.LOST, Reason.TASK_UNKNOWN),
    }, "t3 is silent: its end is not acknowledged, its slave repeats it with its data"
    assert framework.inbox == []


def test_a_hundred_thousand_tasks_are_reported_in_parts_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "RECONCILED_AT_ONCE", 3)
    cluster, slave, framework = with_tasks(8)
    for _ in range(50):
        cluster.core.handle(Received(framework.peer, m.ReconcileTasks([])), cluster.now)
    cluster.tick()
    assert [update.status.task_id for update in framework.take_all(m.StatusUpdate)] == ["t0", "t1", "t2"]
    assert cluster.core.next_deadline() <= cluster.now
    slave.status(framework, "t4", TaskState.FINISHED)
    assert [
        (update.status.task_id, update.status.source) for update in framework.take_all(m.StatusUpdate)
    ] == [
        ("t4", "executor"),
        ("t3", "master"),
        ("t5", "master"),
    ]
    cluster.tick()
    assert [update.status.task_id for update in framework.take_all(m.StatusUpdate)] == ["t6", "t7"]
    assert cluster.core.next_deadline() > cluster.now


def test_a_scheduler_that_asked_for_all_and_is_gone_is_sent_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "RECONCILED_AT_ONCE", 3)
    cluster, _, framework = with_tasks(8)
    framework.send(m.ReconcileTasks([]))
    assert len(framework.take_all(m.StatusUpdate)) == 3
    again = cluster.again(framework)
    again.register()
    cluster.tick()
    assert not any(isinstance(message, m.StatusUpdate) for message in framework.inbox + again.inbox)
    assert not cluster.core.cluster.reconciling


def test_implicit_reconciliation_reports_the_state_of_all_open_tasks() -> None:
    cluster, slave, framework = with_tasks(3)
    slave.finish(framework, "t1")
    framework.send(m.ReconcileTasks([]))
    assert [framework.update().task_id for _ in range(2)] == ["t0", "t2"]
    cluster.assert_nothing_else_sent()


def test_a_new_master_is_silent_about_tasks_whose_slave_may_still_return() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    framework.info = m.FrameworkInfo("f", FrameworkID("F-9-0001"), failover_timeout_s=100.0)
    framework.register()
    framework.send(m.ReconcileTasks([TaskID("t0")]))
    framework.send(m.KillTask(framework.framework_id, TaskID("t0")))
    cluster.assert_nothing_else_sent()
    slave = cluster.slave(registers=False)
    slave.register([executor(framework)], [running(framework, task("t0"))])
    framework.offer()
    framework.send(m.ReconcileTasks([TaskID("t0")]))
    framework.update(TaskState.RUNNING)
    cluster.advance(61.0)
    framework.inbox.clear()
    framework.send(m.ReconcileTasks([TaskID("t9")]))
    assert framework.update(TaskState.LOST).reason == Reason.TASK_UNKNOWN


def test_framework_messages_pass_both_ways() -> None:
    cluster, slave, framework = with_tasks()
    message = m.FrameworkMessage(framework.framework_id, slave.slave_id, ExecutorID("default"), b"hi")
    framework.send(message)
    assert slave.take(m.FrameworkMessage) == message
    slave.send(message)
    assert framework.take(m.FrameworkMessage) == message
    slave.send(m.FrameworkMessage(framework.framework_id, SlaveID("S-other"), ExecutorID("default"), b"hi"))
    cluster.assert_nothing_else_sent()


def test_work_lost_to_time_limits_is_counted() -> None:
    cluster, slave, framework = with_tasks(2)
    cluster.advance(2.0)
    slave.status(framework, "t0", TaskState.RUNNING)
    cluster.advance(3.0)
    slave.status(framework, "t0", TaskState.KILLED, 2, reason=Reason.TASK_TIMEOUT, limit="time_limit_s=3")
    slave.status(framework, "t1", TaskState.KILLED, 2, reason=Reason.KILLED_BY_FRAMEWORK)
    wasted = cluster.core.cluster.frameworks[framework.framework_id].wasted_resource_s
    assert wasted == {"cpus": 3.0, "mem": 3.0 * (1 << 30)}


def test_the_history_is_bounded_for_each_framework_and_in_all() -> None:
    cluster = ClusterHarness(max_ended_tasks=30, max_ended_tasks_per_framework=20)
    slave = cluster.slave("cpus=1,mem=1G")
    for name in ("a", "b"):
        framework = cluster.framework(name)
        for n in range(25):
            framework.accept(framework.offer(), tasks=[task(f"{name}{n}")])
            slave.take(m.RunTasks)
            slave.finish(framework, f"{name}{n}")
        framework.send(m.SetNeedsOffers(False))
        framework.decline(*framework.offers())
    histories = [f.history.records for f in cluster.core.cluster.frameworks.values()]
    assert [record.task_id for record in histories[1]] == [f"b{n}" for n in range(5, 25)]
    assert [record.task_id for record in histories[0]] == [f"a{n}" for n in range(20, 25)]
    for framework_state in cluster.core.cluster.frameworks.values():
        assert list(framework_state.history.by_id.values()) == list(framework_state.history.records)


def test_an_id_used_again_is_remembered_with_its_latest_end() -> None:
    cluster = ClusterHarness(max_ended_tasks_per_framework=2)
    slave, framework = cluster.slave("cpus=1,mem=1G"), cluster.framework()
    for task_id in ("a", "a", "b"):
        framework.accept(framework.offer(), tasks=[task(task_id)])
        slave.take(m.RunTasks)
        slave.finish(framework, task_id)
    framework.offer()
    history = cluster.core.cluster.frameworks[framework.framework_id].history
    assert [record.task_id for record in history.records] == ["a", "b"]
    framework.send(m.KillTask(framework.framework_id, TaskID("a")))
    cluster.assert_nothing_else_sent()


def test_the_number_of_unacknowledged_ends_that_are_remembered_is_bounded() -> None:
    cluster, slave, framework = with_tasks(3)
    slave.finish(framework, "t0", "t1", "t2")
    known = cluster.core.cluster.frameworks[framework.framework_id]
    assert list(known.unacknowledged) == ["t0", "t1", "t2"]
    framework.send(m.Acknowledge(framework.framework_id, slave.slave_id, [(TaskID("t1"), 1)]))
    assert list(known.unacknowledged) == ["t0", "t2"]


@pytest.mark.parametrize("is_drained", [True, False])
def test_an_end_that_its_slave_can_no_longer_repeat_is_reported_by_reconciliation(is_drained: bool) -> None:
    """It was not acknowledged in time, and its slave is gone."""
    cluster, slave, framework = with_tasks()
    cluster.lose_peer(framework)
    slave.status(framework, "t0", TaskState.FAILED, 2, reason="COMMAND_EXITED", exit_status=3)
    again = cluster.again(framework)
    again.register()
    again.send(m.ReconcileTasks([TaskID("t0")]))
    assert [x for x in again.inbox if isinstance(x, m.StatusUpdate)] == []
    if is_drained:
        slave.send(m.UnregisterSlave())
    else:
        slave.answers_pings = False
        cluster.advance(31.0)
    again.inbox.clear()
    again.send(m.ReconcileTasks([TaskID("t0")]))
    status = again.update(TaskState.FAILED)
    assert (status.reason, status.exit_status, status.slave_id) == ("COMMAND_EXITED", 3, slave.slave_id)
    cluster.assert_nothing_else_sent()


def test_an_unacknowledged_and_forgotten_end_is_lost_once_its_slave_is_gone() -> None:
    cluster, slave, framework = with_tasks(2, max_ended_tasks_per_framework=1)
    slave.finish(framework, "t0", "t1")
    slave.send(m.UnregisterSlave())
    framework.take(m.SlaveLost)
    framework.send(m.ReconcileTasks([TaskID("t0"), TaskID("t1")]))
    assert framework.update(TaskState.LOST).reason == Reason.TASK_UNKNOWN
    framework.update(TaskState.FINISHED)
    cluster.assert_nothing_else_sent()


def test_what_a_slave_repeats_after_its_acknowledgement_was_lost_goes_no_further() -> None:
    """It stopped before the acknowledgement came, and returns later; its scheduler may have forgotten the task by then."""
    cluster, slave, framework = with_tasks()
    slave.status(framework, "t0", TaskState.RUNNING)
    slave.status(framework, "t0", TaskState.FINISHED, 2)
    framework.take_all(m.StatusUpdate)
    cluster.lose_peer(slave)
    framework.send(m.Acknowledge(framework.framework_id, slave.slave_id, [(TaskID("t0"), 2)]))
    slave.register([executor(framework)], [running(framework, task("t0"), TaskState.FINISHED)])
    for sequence, state in ((1, TaskState.RUNNING), (2, TaskState.FINISHED)):
        slave.status(framework, "t0", state, sequence)
        assert slave.take(m.Acknowledge).updates == [("t0", sequence)]
    cluster.assert_nothing_else_sent()


def test_an_end_is_passed_on_for_as_long_as_it_is_not_acknowledged_however_many_ends_follow() -> None:
    _cluster, slave, framework = with_tasks(2, max_ended_tasks_per_framework=20_000)
    slave.finish(framework, "t1")
    for number in range(10_001):
        other = task(f"u{number}")
        if not number:
            framework.send(m.SetNeedsOffers(True))
        framework.accept(framework.offer(), tasks=[other])
        slave.take(m.RunTasks)
        slave.finish(framework, other.task_id)
    framework.inbox.clear()
    slave.status(framework, "t1", TaskState.FINISHED)
    framework.update(TaskState.FINISHED)
    assert slave.inbox == []


def test_statuses_of_the_next_task_with_an_id_count_although_the_last_one_was_acknowledged() -> None:
    _, slave, framework = with_tasks()
    for sequence in (1, 2):
        slave.status(framework, "t0", TaskState.FINISHED, sequence)
        assert framework.update(TaskState.FINISHED).sequence == sequence
        framework.send(m.Acknowledge(framework.framework_id, slave.slave_id, [(TaskID("t0"), sequence)]))
        slave.take(m.Acknowledge)
        framework.send(m.SetNeedsOffers(True))
        framework.accept(framework.offer(), tasks=[task("t0")])
        slave.take(m.RunTasks)
