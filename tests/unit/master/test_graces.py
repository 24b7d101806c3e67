"""Graces and time-outs that the operator decides: a framework cannot lengthen them."""

from __future__ import annotations

import math
import struct

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.errors import BadInput, BadMessage
from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import Reason, TaskState
from offerd.wire import codec
from offerd_master.settings import MasterSettings

YEAR_S = 365 * 86_400.0
SOME_S = 12345.678


def test_an_operators_kill_brings_its_own_grace_and_a_later_one_of_the_framework_does_not_lengthen_it() -> (
    None
):
    cluster = ClusterHarness()
    slave, framework, operator = cluster.slave(), cluster.framework(), cluster.operator()
    framework.accept(framework.offer(), tasks=[task("t", kill_grace_s=2e6)])
    slave.take(m.RunTasks)
    operator.send(om.KillAnyTask(TaskID("t")))
    assert slave.take(m.KillTask).grace_s == 5.0
    framework.send(m.KillTask(framework.framework_id, TaskID("t"), grace_s=2e6))
    assert slave.take(m.KillTask).grace_s == 5.0
    framework.send(m.KillTask(framework.framework_id, TaskID("t"), grace_s=1.0))
    assert slave.take(m.KillTask).grace_s == 1.0


def test_draining_brings_the_operators_grace() -> None:
    cluster = ClusterHarness(operator_grace_s=7.0)
    slave, operator = cluster.slave(hostname="h"), cluster.operator()
    operator.send(om.ChangeSlaveMode("h", "draining"))
    assert slave.take(m.SetSlaveMode) == m.SetSlaveMode("draining", 7.0)


def test_the_end_of_a_framework_brings_the_operators_grace_also_for_a_slave_that_was_away() -> None:
    cluster = ClusterHarness()
    slave, framework = cluster.slave(), cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t")])
    slave.take(m.RunTasks)
    framework.send(m.TeardownFramework())
    assert slave.take(m.ShutdownFramework).grace_s == 5.0
    info = m.FrameworkInfo("framework", framework.framework_id)
    slave.register([m.RunningExecutor(info, EXECUTOR.executor_id, ContainerID("c"))])
    assert slave.take(m.ShutdownFramework).grace_s == 5.0


@pytest.mark.parametrize("most_s", [100.0, 7 * 86_400.0])
def test_a_fail_over_time_out_is_cut_to_the_operators_and_reported_to_the_scheduler(most_s: float) -> None:
    cluster = ClusterHarness(max_failover_timeout_s=most_s)
    framework = cluster.framework(registers=False, failover_timeout_s=YEAR_S)
    framework.send(m.RegisterFramework(framework.info))
    assert framework.take(m.FrameworkRegistered).max_failover_s == most_s
    assert any("time-outs are cut to" in log.text for log in cluster.logs)
    cluster.lose_peer(framework)
    cluster.advance(most_s - 1.0)
    assert not next(iter(cluster.core.cluster.frameworks.values())).ended
    cluster.advance(2.0)
    assert not cluster.core.cluster.frameworks


def test_the_time_out_of_unreachable_tasks_is_cut_as_well() -> None:
    cluster = ClusterHarness(max_failover_timeout_s=100.0)
    slave, framework = cluster.slave(), cluster.framework(unreachable_timeout_s=YEAR_S)
    framework.accept(framework.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    slave.take(m.RunTasks)
    slave.answers_pings = False
    cluster.advance(40.0)
    framework.update(TaskState.UNREACHABLE)
    framework.take(m.SlaveLost)
    cluster.advance(100.0)
    assert framework.update(TaskState.LOST).reason == Reason.SLAVE_LOST


@pytest.mark.parametrize("seconds", [1e9, -1.0])
@pytest.mark.parametrize("name", ["failover_timeout_s", "unreachable_timeout_s"])
def test_an_invalid_time_out_is_refused(name: str, seconds: float) -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    framework.info = msgspec.structs.replace(framework.info, **{name: seconds})
    framework.send(m.RegisterFramework(framework.info))
    assert framework.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_INVALID


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize(
    "message",
    [
        m.RegisterFramework(m.FrameworkInfo("f", failover_timeout_s=SOME_S)),
        m.RegisterFramework(m.FrameworkInfo("f", unreachable_timeout_s=SOME_S)),
        m.RegisterFramework(
            m.FrameworkInfo("f", executors=[m.ExecutorInfo(EXECUTOR.executor_id, shutdown_grace_s=SOME_S)])
        ),
        m.AcceptOffers([], [task("t", kill_grace_s=SOME_S)]),
        m.KillTask(FrameworkID("f"), TaskID("t"), grace_s=SOME_S),
    ],
)
def test_messages_with_invalid_graces_and_time_outs_are_not_decoded(
    message: m.Message, seconds: float
) -> None:
    (frame,) = codec.frames([message])
    codec.to_master.decode(frame)
    with pytest.raises(BadMessage):
        codec.to_master.decode(frame.replace(struct.pack(">d", SOME_S), struct.pack(">d", seconds)))


@pytest.mark.parametrize("seconds", [-1.0])
def test_an_invalid_grace_of_a_task_or_executor_is_refused(seconds: float) -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t", kill_grace_s=seconds)])
    assert framework.update(TaskState.ERROR).reason == Reason.TASK_INVALID
    patient = m.ExecutorInfo(EXECUTOR.executor_id, module="executor", shutdown_grace_s=seconds)
    other = cluster.framework(registers=False, executors=[patient])
    other.send(m.RegisterFramework(other.info))
    assert other.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_INVALID


@pytest.mark.parametrize(
    ("limit_s", "grace_s", "is_long"),
    [(60.0, None, False), (50.0, 10.0, False), (50.0, 10.5, True), (55.0, 2e6, True), (20.0, 2e6, False)],
)
def test_a_grace_that_a_task_asks_for_is_part_of_its_limit_up_to_the_slaves_longest(
    limit_s: float, grace_s: float | None, is_long: bool
) -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(max_kill_grace_s=30.0)
    framework = cluster.framework()
    asked = task("t", time_limit_s=limit_s, kill_grace_s=grace_s)
    framework.accept(framework.offer(), tasks=[asked])
    slave.take(m.RunTasks)
    (known,) = cluster.core.cluster.slaves[slave.slave_id].tasks
    assert known.is_long is is_long
    # Also under a master that learns of the task from its slave.
    later = ClusterHarness()
    returned = later.slave(registers=False, max_kill_grace_s=30.0)
    running_task = m.RunningTask(
        FrameworkID("F-7-0001"), asked.executor_id, asked.task_id, asked.resources, TaskState.RUNNING,
        limit_s, kill_grace_s=grace_s,
    )  # fmt: skip
    returned.register(tasks=[running_task])
    (adopted,) = later.core.cluster.slaves[returned.slave_id].tasks
    assert adopted.is_long is is_long


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_settings_with_invalid_times_are_refused(seconds: float) -> None:
    with pytest.raises(BadInput, match="operator_grace_s"):
        MasterSettings(operator_grace_s=seconds)
    with pytest.raises(BadInput, match="max_failover_timeout_s"):
        MasterSettings(max_failover_timeout_s=seconds)
