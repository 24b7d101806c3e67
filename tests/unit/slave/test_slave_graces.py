"""Graces: a slave grants at most its maximum, and a later order can only shorten a grace."""

from __future__ import annotations

import math

import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.core.slots import clip_grace
from offerd.ids import ExecutorID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.settings import SlaveSettings

LONG_S = 2e6
NOT_S = (LONG_S, 1e9)
"""Other graces are refused with the message: see `test_messages_with_invalid_graces_and_time_outs_are_not_decoded`."""


def kills(bench: Bench) -> list[float | None]:
    return [kill.grace_s for kill in bench.sent_to_executors(m.KillTask)]


def kill(bench: Bench, grace_s: float | None) -> None:
    """Without the codec, which refuses an invalid grace."""
    bench.event(ev.FromMaster(1, m.KillTask(FRAMEWORK.framework_id, TaskID("t1"), grace_s=grace_s)))


@pytest.mark.parametrize("grace_s", NOT_S)
def test_the_grace_at_a_time_limit_is_at_most_the_maximum(grace_s: float) -> None:
    bench = Bench()
    bench.running(task(limit_s=1.0, kill_grace_s=grace_s))
    bench.turn(1.0)
    assert kills(bench) == [30.0]
    bench.turn(30.4)
    assert not bench.asked_for(act.KillTaskProcesses)
    bench.turn(0.2)
    assert bench.asked_for(act.KillTaskProcesses)


@pytest.mark.parametrize("grace_s", NOT_S)
def test_the_grace_of_a_kill_is_at_most_the_maximum(grace_s: float) -> None:
    bench = Bench()
    bench.running(task())
    kill(bench, grace_s)
    assert kills(bench) == [30.0]


@pytest.mark.parametrize("grace_s", [math.nan, -1.0, -math.inf])
def test_a_grace_that_is_not_a_number_counts_as_none(grace_s: float) -> None:
    assert clip_grace(grace_s, 30.0) == 0.0
    assert clip_grace(math.inf, 30.0) == 30.0


def test_a_second_kill_can_only_shorten_the_grace() -> None:
    bench = Bench()
    bench.running(task())
    kill(bench, 20.0)
    kill(bench, 25.0)
    assert kills(bench) == [20.0]
    kill(bench, 2.0)
    bench.turn(2.6)
    assert bench.asked_for(act.KillTaskProcesses)


def test_the_grace_of_an_executor_is_at_most_the_maximum() -> None:
    bench = Bench()
    bench.register()
    patient = m.ExecutorInfo(ExecutorID("command"), module=COMMAND.module, shutdown_grace_s=LONG_S)
    bench.from_master(m.RunTasks(FRAMEWORK, patient, [task()]))
    bench.register_executor()
    bench.from_master(m.ShutdownFramework(FRAMEWORK.framework_id))
    assert [order.grace_s for order in bench.sent_to_executors(m.Shutdown)] == [30.0]
    bench.turn(30.6)
    assert bench.asked_for(act.DestroyContainer)


@pytest.mark.parametrize(
    "order", [m.ShutdownFramework(FRAMEWORK.framework_id, 2.0), m.SetSlaveMode("draining", 2.0, 0.0)]
)
def test_an_operators_grace_applies_even_to_an_ending_executor(order: m.Message) -> None:
    bench = Bench()
    bench.register()
    patient = m.ExecutorInfo(ExecutorID("command"), module=COMMAND.module, shutdown_grace_s=LONG_S)
    bench.from_master(m.RunTasks(FRAMEWORK, patient, [task()]))
    bench.register_executor()
    bench.from_master(m.ShutdownFramework(FRAMEWORK.framework_id))
    bench.from_master(order)
    assert [order.grace_s for order in bench.sent_to_executors(m.Shutdown)] == [30.0, 2.0]
    bench.turn(2.6)
    assert bench.asked_for(act.DestroyContainer)


def test_a_tasks_grace_counts_when_it_is_classified_as_long_or_short() -> None:
    bench = Bench()
    bench.register()
    bench.run(
        task("a", cpus=2, limit_s=60.0),
        task("b", limit_s=50.0, kill_grace_s=10.0),
        task("c", limit_s=50.0, kill_grace_s=11.0),
    )
    assert {name: each.long for (_, name), each in bench.core.state.tasks.items()} == {
        "a": False, "b": False, "c": True
    }  # fmt: skip


def test_a_grace_beyond_the_longest_counts_as_the_longest() -> None:
    bench = Bench(
        settings=SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.0, max_kill_grace_s=5.0)
    )
    bench.register()
    bench.run(task("a", limit_s=55.0, kill_grace_s=LONG_S))
    (a,) = bench.core.state.tasks.values()
    assert not a.long


def test_a_long_grace_in_an_older_slaves_journal_is_cut_to_the_maximum() -> None:
    bench = Bench()
    container_id = bench.running(task(limit_s=20.0, kill_grace_s=LONG_S))
    recovered = Recovered(
        slave_id=bench.slave_id,
        containers=[RecoveredContainer(bench.checkpoints[container_id], alive=True)],
        records=bench.disk,
    )
    again = Bench(recovered=recovered, now=bench.now + 1)
    again.register()
    registration = m.RegisterExecutor(container_id, "token", task_ids=[TaskID("t1")])
    again.from_executor(container_id, registration)
    (adopted,) = again.core.state.tasks.values()
    assert adopted.long is False
    assert Resources.of(cpus=1, mem="64M") == adopted.info.resources
    again.turn(20.0)
    assert kills(again) == [30.0]


def test_an_executor_that_registers_again_gets_the_rest_of_the_grace() -> None:
    bench = Bench()
    container_id = bench.running(task())
    kill(bench, 20.0)
    bench.turn(15.0)
    bench.from_executor(container_id, m.RegisterExecutor(container_id, "token", task_ids=[TaskID("t1")]))
    assert kills(bench) == [20.0, 5.0]


def test_a_killed_tasks_status_has_the_reason_of_the_first_kill() -> None:
    bench = Bench()
    bench.running(task(limit_s=1.0, kill_grace_s=20.0))
    bench.turn(1.0)
    kill(bench, 1.0)
    bench.update("t1", TaskState.KILLED, 2)
    assert bench.statuses() == [("t1", TaskState.KILLED, Reason.TASK_TIMEOUT)]
