"""How long tasks, slaves and frameworks have been there: a new master gets this from its peers."""

from __future__ import annotations

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import ContainerID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources

OLD = m.FrameworkInfo("old", FrameworkID("F-1-0001"), executors=[EXECUTOR])
SLAVE = m.SlaveInfo("host", Resources.parse("cpus=4,mem=4G"), SlaveID("S-1-0001"))


def task(name: str, state: TaskState = TaskState.RUNNING, **ages: float) -> m.RunningTask:
    cpu = Resources.of(cpus=1)
    return m.RunningTask(OLD.framework_id, EXECUTOR.executor_id, TaskID(name), cpu, state, 60.0, **ages)  # type: ignore[arg-type]


def returns(cluster: ClusterHarness, *tasks: m.RunningTask, since_s: float = 0.0) -> SlavePeer:
    """A slave of an earlier master registers."""
    slave = cluster.slave(registers=False)
    slave.info = SLAVE
    executor = m.RunningExecutor(OLD, EXECUTOR.executor_id, ContainerID("c1"))
    slave.send(m.RegisterSlave(SLAVE, [executor], list(tasks), since_s=since_s))
    slave.slave_id = slave.take(m.SlaveRegistered).slave_id
    return slave


def scheduler_returns(cluster: ClusterHarness, since_s: float) -> FrameworkPeer:
    framework = cluster.framework(registers=False)
    framework.info = OLD
    framework.send(m.RegisterFramework(OLD, was_active=True, since_s=since_s))
    assert framework.take(m.FrameworkRegistered).since_s == since_s
    framework.framework_id = OLD.framework_id
    return framework


def tasks_of(cluster: ClusterHarness) -> dict[str, om.TaskSummary]:
    operator = cluster.operator()
    operator.send(om.GetTasks())
    return {str(task.task_id): task for task in operator.take(om.Tasks).tasks}


def slave_since_s(cluster: ClusterHarness) -> float:
    operator = cluster.operator()
    operator.send(om.GetSlaves())
    (slave,) = operator.take(om.Slaves).slaves
    return slave.since_s


def framework_since_s(cluster: ClusterHarness) -> float:
    operator = cluster.operator()
    operator.send(om.GetFrameworks())
    (framework,) = operator.take(om.Frameworks).frameworks
    return framework.since_s


def test_a_new_master_shows_how_long_everything_has_been_there() -> None:
    cluster = ClusterHarness()
    returns(
        cluster, task("runs", launched_s=31.0, ran_s=30.0), task("starts", TaskState.STAGING, launched_s=2.0),
        since_s=500.0,
    )  # fmt: skip
    scheduler_returns(cluster, 400.0)
    cluster.advance(5)
    shown = tasks_of(cluster)
    assert (shown["runs"].launched_s, shown["runs"].ran_s) == (36.0, 35.0)
    assert (shown["starts"].launched_s, shown["starts"].ran_s) == (7.0, 0.0)
    assert slave_since_s(cluster) == 505.0
    assert framework_since_s(cluster) == 405.0


def test_a_new_master_reports_that_the_memory_of_tasks_is_not_limited() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    executor = m.RunningExecutor(OLD, EXECUTOR.executor_id, ContainerID("c1"))
    asks = msgspec.structs.replace(task("asks"), resources=Resources.of(cpus=1, mem="64M"))
    tasks = [
        asks,
        msgspec.structs.replace(asks, task_id=TaskID("starts"), state=TaskState.STAGING),
        task("any"),
    ]
    slave.send(m.RegisterSlave(SLAVE, [executor], tasks, memory_note="memory is watched"))
    assert {name: shown.message for name, shown in tasks_of(cluster).items()} == {
        "asks": "memory is watched", "starts": "", "any": "",
    }  # fmt: skip


def test_a_slave_that_does_not_report_its_age_counts_from_its_return() -> None:
    cluster = ClusterHarness()
    returns(cluster, task("runs"))
    cluster.advance(5)
    assert tasks_of(cluster)["runs"].ran_s == 5.0
    assert slave_since_s(cluster) == 5.0


@pytest.mark.parametrize(("since_s", "shown_s"), [(100.0, 12.0), (3.0, 3.0), (0.0, 0.0)])
def test_a_slave_that_registers_again_keeps_its_age_unless_it_began_anew(
    since_s: float, shown_s: float
) -> None:
    """After a broken connection, or a restart of the daemon."""
    cluster = ClusterHarness()
    slave = cluster.slave()
    cluster.advance(12)
    info = m.SlaveInfo("host", slave.info.resources, slave.slave_id)
    slave.send(m.RegisterSlave(info, since_s=since_s))
    assert slave_since_s(cluster) == shown_s


def test_a_framework_of_this_master_is_as_old_as_this_master_knows() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    cluster.advance(5)
    again = cluster.again(framework)
    again.send(m.RegisterFramework(again.info, since_s=1000.0))
    assert again.take(m.FrameworkRegistered).since_s == 5.0


def test_a_standby_knows_the_age_of_its_framework_too_and_reports_it_to_the_next_master() -> None:
    cluster = ClusterHarness()
    active = cluster.framework(failover_timeout_s=60.0)
    cluster.advance(5)
    standby = cluster.again(active)
    standby.send(m.RegisterFramework(standby.info, stands_by=True))
    assert standby.take(m.FrameworkStandsBy).since_s == 5.0
    new = ClusterHarness()
    first = new.framework(registers=False)
    first.info = OLD
    first.send(m.RegisterFramework(OLD, stands_by=True, since_s=300.0))
    assert first.take(m.FrameworkStandsBy).since_s == 300.0
    assert framework_since_s(new) == 300.0


def test_a_slave_cannot_report_more_wasted_time_than_the_limit() -> None:
    cluster = ClusterHarness()
    slave = returns(cluster, task("runs", launched_s=1e9, ran_s=1e9))
    framework = scheduler_returns(cluster, 10.0)
    slave.status(framework, "runs", TaskState.KILLED, 5, reason=m.Reason.TASK_TIMEOUT)
    assert cluster.core.cluster.wasted_resource_s == {"cpus": 60.0}
