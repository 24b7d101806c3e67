"""The slave's core and tasks that have failed: the module says which limit they had hit before anybody hears of their end."""

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
"""As docker limits: containers, and no tasks of their own."""
EACH = replace(WHOLE, limits_tasks=True)
"""As cgroups do."""
KILLED = m.TaskStatus(TaskID("a"), TaskState.FAILED, 2, Reason.COMMAND_EXITED, exit_status=-9)


def running(*names: str, settings: SlaveSettings = WHOLE) -> Bench:
    """These tasks run; what the module is asked waits for `answer`."""
    bench = Bench(settings=settings)
    bench.inspects_at_once = False
    bench.running(*(task(name) for name in names), places_tasks=settings.limits_tasks)
    return bench


def fail(bench: Bench, status: m.TaskStatus = KILLED, number: int = 9) -> None:
    bench.from_executor(bench.container_id, m.ExecutorUpdate(number, status))


def hit(bench: Bench, name: str = "", *, fatal: bool = True) -> None:
    """The module has it ready."""
    usage = Usage(cpu_s=2.0, peak_mem_bytes=64 << 20)
    limit = "memory.max=67108864"
    bench.hits[TaskID(name)] = Limitation(
        bench.container_id, limit, "needed more", TaskID(name), usage, fatal
    )


def asked(bench: Bench) -> list[tuple[str, int | None]]:
    """Of whom the module was asked since the bench was cleared."""
    return [(each.task_id, each.exit_status) for each in bench.asked_for(act.InspectFailure)]


def answer(bench: Bench) -> None:
    """The oldest question."""
    bench.event(bench.inspected(bench.asked_for(act.InspectFailure)[0]))
    bench.turn(1.0)


def ends(bench: Bench) -> list[m.TaskStatus]:
    return [s.status for s in bench.sent if isinstance(s, m.StatusUpdate) and s.status.state.terminal]


def stored(bench: Bench) -> int:
    """Up to which of its updates the executor need not keep any."""
    return max((each.number for each in bench.told_executors(m.UpdatesStored)), default=0)


@pytest.mark.parametrize("knows", [True, False])
def test_an_end_is_reported_and_confirmed_when_the_module_has_said_which_limit_it_was(knows: bool) -> None:
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
    assert not bench.told_executors(m.KillTask), "it has ended"
    assert list(bench.core.state.tasks) == [(FRAMEWORK.framework_id, "b")]


@pytest.mark.parametrize(
    "status",
    [
        m.TaskStatus(TaskID("a"), TaskState.FINISHED, 2, exit_status=0),
        m.TaskStatus(TaskID("a"), TaskState.FAILED, 2, Reason.CALL_RAISED),
        m.TaskStatus(TaskID("a"), TaskState.LOST, 2),
    ],
)
def test_an_end_that_no_limit_can_have_brought_about_is_reported_at_once(status: m.TaskStatus) -> None:
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
    assert not ends(bench), "that was of another question"
    answer(bench)
    assert [each.task_id for each in bench.asked_for(act.CleanupTask)] == ["a"]
    assert not ends(bench)
    bench.event(ev.TaskCleanedUp(bench.container_id, TaskID("a")))
    assert len(ends(bench)) == 1
    answer(bench)
    assert len(ends(bench)) == 1, "an answer that comes again is none"


def test_who_says_an_end_again_while_the_module_is_asked_changes_nothing() -> None:
    bench = running("a")
    hit(bench, "a")
    fail(bench)
    bench.hello("a", unacknowledged=(KILLED,))
    fail(bench)
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("a"), grace_s=0.0))
    for _ in range(4):  # its time limit, too
        bench.turn(8.0)
        bench.from_master(m.Ping())
    assert (asked(bench), ends(bench)) == ([("a", -9)], [])
    answer(bench)
    assert [end.reason for end in ends(bench)] == [Reason.LIMIT_EXCEEDED]
    assert stored(bench) == 9


def test_what_failed_while_no_slave_ran_is_inspected_and_not_lost() -> None:
    bench = running("a", "b").crash(settings=WHOLE)
    bench.inspects_at_once = False
    bench.register()
    hit(bench, "a")
    bench.hello("b", unacknowledged=(KILLED,))
    assert (asked(bench), ends(bench)) == ([("a", -9)], [])
    answer(bench)
    assert [(end.task_id, end.reason) for end in ends(bench)] == [("a", Reason.LIMIT_EXCEEDED)]


def test_a_slave_that_dies_before_the_module_has_answered_hears_the_end_again() -> None:
    bench = running("a")
    fail(bench)
    again = bench.crash(settings=WHOLE)
    again.register()
    hit(again, "a")
    again.hello("a", unacknowledged=(KILLED,))
    fail(again)
    again.turn(1.0)
    assert [end.reason for end in ends(again)] == [Reason.LIMIT_EXCEEDED]
    assert stored(again) == 9


def test_a_container_that_goes_before_the_module_has_answered_leaves_the_end_as_it_was_reported() -> None:
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
    assert not bench.told_executors(m.LaunchTask), "nothing more goes to an executor that is gone"
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
