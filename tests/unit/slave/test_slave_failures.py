"""The slave's core and failed tasks: the module names the limit that they had hit, before their end is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.slave_bench import FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import TaskID
from offerd.messages import Reason, TaskState
from offerd_isolation.base import Limitation, Usage
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.records import ExitRecord
from offerd_slave.settings import SlaveSettings

WHOLE = SlaveSettings(limits_containers=True, sync_pause_per_task_s=0.0, confirm_pause_s=0.0)
"""Limits as with docker: of containers, not of tasks."""
EACH = replace(WHOLE, limits_tasks=True)
"""Limits as with cgroups: of containers and tasks."""
KILLED = m.TaskStatus(TaskID("a"), TaskState.FAILED, 2, Reason.COMMAND_EXITED, exit_status=-9)


def running(*names: str, settings: SlaveSettings = WHOLE) -> Bench:
    """A bench on which these tasks run; questions to the module wait for `answer`."""
    bench = Bench(settings=settings)
    bench.inspects_at_once = False
    bench.running(*(task(name) for name in names), places_tasks=settings.limits_tasks)
    return bench


def fail(bench: Bench, status: m.TaskStatus = KILLED, number: int = 9) -> None:
    bench.from_executor(bench.container_id, m.ExecutorUpdate(number, status))


def hit(bench: Bench, name: str = "", *, fatal: bool = True) -> None:
    """Have the module answer with this limit."""
    usage = Usage(cpu_s=2.0, peak_mem_bytes=64 << 20)
    limit = "memory.max=67108864"
    bench.hits[TaskID(name)] = Limitation(
        bench.container_id, limit, "needed more", TaskID(name), usage, fatal
    )


def asked(bench: Bench) -> list[tuple[str, int | None]]:
    """The tasks, with exit status, of which the module was asked since the bench was cleared."""
    return [(each.task_id, each.exit_status) for each in bench.asked_for(act.InspectFailure)]


def answer(bench: Bench) -> None:
    """Answer the oldest question to the module."""
    bench.event(bench.inspected(bench.asked_for(act.InspectFailure)[0]))
    bench.turn(1.0)


def ends(bench: Bench) -> list[m.TaskStatus]:
    return [s.status for s in bench.sent if isinstance(s, m.StatusUpdate) and s.status.state.terminal]


def stored(bench: Bench) -> int:
    """The newest update that was confirmed to the executor."""
    return max((each.number for each in bench.sent_to_executors(m.UpdatesStored)), default=0)


@pytest.mark.parametrize("knows", [True, False])
def test_an_end_is_reported_and_confirmed_after_the_module_has_named_the_limit(knows: bool) -> None:
    bench = running("a", "b")
    if knows:
        hit(bench, "a")
    fail(bench)
    bench.turn(5.0)
    assert (asked(bench), ends(bench)) == ([("a", -9)], [])
    assert stored(bench) < 9
    assert not [record for record in bench.disk if getattr(record, "status", None) == KILLED]
    answer(bench)
    (end,) = ends(bench)
    assert (end.state, end.exit_status) == (TaskState.FAILED, -9)
    assert end.reason == (Reason.LIMIT_EXCEEDED if knows else Reason.COMMAND_EXITED)
    assert end.limit == ("memory.max=67108864" if knows else "")
    assert end.usage == (m.TaskUsage(2.0, 64 << 20) if knows else None)
    assert stored(bench) == 9
    assert not bench.sent_to_executors(m.KillTask), "it has ended"
    assert list(bench.core.state.tasks) == [(FRAMEWORK.framework_id, "b")]


@pytest.mark.parametrize(
    "status",
    [
        m.TaskStatus(TaskID("a"), TaskState.FINISHED, 2, exit_status=0),
        m.TaskStatus(TaskID("a"), TaskState.FAILED, 2, Reason.CALL_RAISED),
        m.TaskStatus(TaskID("a"), TaskState.LOST, 2),
    ],
)
def test_an_end_that_cannot_be_due_to_a_limit_is_reported_at_once(status: m.TaskStatus) -> None:
    bench = running("a")
    fail(bench, status)
    assert asked(bench) == []
    assert [end.state for end in ends(bench)] == [status.state]


def test_a_module_without_limits_is_not_asked() -> None:
    bench = running("a", settings=replace(WHOLE, limits_containers=False))
    fail(bench)
    assert (asked(bench), len(ends(bench))) == ([], 1)


def test_a_task_is_inspected_before_its_cgroup_is_removed() -> None:
    bench = running("a", settings=EACH)
    fail(bench)
    assert (asked(bench), bench.asked_for(act.CleanupTask)) == ([("a", -9)], [])
    bench.event(ev.TaskCleanedUp(bench.container_id, TaskID("a")))
    assert not ends(bench), "that answer was for another question"
    answer(bench)
    assert [each.task_id for each in bench.asked_for(act.CleanupTask)] == ["a"]
    assert not ends(bench)
    bench.event(ev.TaskCleanedUp(bench.container_id, TaskID("a")))
    assert len(ends(bench)) == 1
    answer(bench)
    assert len(ends(bench)) == 1, "a repeated answer changes nothing"


def test_a_repeated_end_changes_nothing_while_the_module_is_asked() -> None:
    bench = running("a")
    hit(bench, "a")
    fail(bench)
    bench.register_executor("a", unacknowledged=(KILLED,))
    fail(bench)
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("a"), grace_s=0.0))
    for _ in range(4):  # its time limit, too
        bench.turn(8.0)
        bench.from_master(m.Ping())
    assert (asked(bench), ends(bench)) == ([("a", -9)], [])
    answer(bench)
    assert [end.reason for end in ends(bench)] == [Reason.LIMIT_EXCEEDED]
    assert stored(bench) == 9


def test_a_task_that_failed_while_no_slave_ran_is_inspected() -> None:
    bench = running("a", "b").crash(settings=WHOLE)
    bench.inspects_at_once = False
    bench.register()
    hit(bench, "a")
    bench.register_executor("b", unacknowledged=(KILLED,))
    assert (asked(bench), ends(bench)) == ([("a", -9)], [])
    answer(bench)
    assert [(end.task_id, end.reason) for end in ends(bench)] == [("a", Reason.LIMIT_EXCEEDED)]


def test_an_end_is_sent_again_if_the_slave_dies_before_the_module_has_answered() -> None:
    bench = running("a")
    fail(bench)
    again = bench.crash(settings=WHOLE)
    again.register()
    hit(again, "a")
    again.register_executor("a", unacknowledged=(KILLED,))
    fail(again)
    again.turn(1.0)
    assert [end.reason for end in ends(again)] == [Reason.LIMIT_EXCEEDED]
    assert stored(again) == 9


def test_an_end_stays_as_reported_if_its_container_goes_before_the_module_answers() -> None:
    bench = running("a")
    container_id = bench.container_id
    fail(bench)
    bench.event(ev.ExecutorEnded(container_id, ExitRecord(1)))
    bench.event(ev.ContainerDestroyed(container_id))
    assert [(end.reason, end.exit_status) for end in ends(bench)] == [(Reason.COMMAND_EXITED, -9)]
    bench.event(ev.FailureInspected(container_id, TaskID("a"), None))
    assert len(ends(bench)) == 1


@pytest.mark.parametrize("record", [ExitRecord(-9), None])
@pytest.mark.parametrize("fatal", [True, False, None])
def test_an_executor_that_was_killed_is_inspected_before_its_container_is_removed(
    record: ExitRecord | None, fatal: bool | None
) -> None:
    bench = running("a")
    container_id = bench.container_id
    if fatal is not None:
        hit(bench, fatal=fatal)
    bench.event(ev.ExecutorEnded(container_id, record))
    assert (asked(bench), bench.asked_for(act.DestroyContainer)) == ([("", -9)], [])
    bench.run(task("late"))
    assert not bench.sent_to_executors(m.LaunchTask), "nothing more goes to an executor that is gone"
    bench.event(bench.inspected(bench.asked_for(act.InspectFailure)[0]))
    assert [each.container_id for each in bench.asked_for(act.DestroyContainer)] == [container_id]
    bench.event(ev.ContainerDestroyed(container_id))
    (end,) = ends(bench)
    gone = Reason.SHIM_DIED if record is None else Reason.EXECUTOR_EXITED
    assert end.reason == (gone if fatal is None else Reason.LIMIT_EXCEEDED)
    assert end.exit_status == (-9 if record is not None and not fatal else None)


def test_an_executor_that_ended_by_itself_is_not_inspected() -> None:
    bench = running("a")
    bench.event(ev.ExecutorEnded(bench.container_id, ExitRecord(1)))
    assert (asked(bench), len(bench.asked_for(act.DestroyContainer))) == ([], 1)
