"""The slave's core and the limits of containers and tasks: raised, lowered, hit; and what does not die."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_isolation.base import Limitation, Usage
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core import memory
from offerd_slave.core.shares import FOR_THE_REST, Share, shares
from offerd_slave.records import ExitRecord
from offerd_slave.settings import SlaveSettings

LIMITS = SlaveSettings(
    limits_containers=True, limits_tasks=True, sync_pause_per_task_s=0.0, confirm_pause_s=0.0
)


def bench_running(*names: str) -> Bench:
    bench = Bench(settings=LIMITS)
    bench.running(*(task(name) for name in names), places_tasks=True)
    return bench


def clear_task(bench: Bench, name: str) -> None:
    bench.event(ev.TaskCleanedUp(bench.container_id, TaskID(name)))


def hit(bench: Bench, name: str = "", *, fatal: bool = True) -> None:
    usage = Usage(cpu_s=2.0, peak_mem_bytes=64 << 20)
    limitation = Limitation(
        bench.container_id, "memory.max=67108864", "needed more", TaskID(name), usage, fatal
    )
    bench.event(ev.LimitHit(limitation))


def terminal(bench: Bench) -> m.TaskStatus:
    """The only terminal status sent since the bench was cleared."""
    found = [s.status for s in bench.sent if isinstance(s, m.StatusUpdate) and s.status.state.terminal]
    (status,) = found
    return status


def test_limits_are_raised_before_a_task_reaches_its_executor() -> None:
    bench = bench_running("a")
    actions = bench.core.handle(ev.FromMaster(1, m.RunTasks(FRAMEWORK, COMMAND, [task("b")])), bench.now)
    wanted = (act.UpdateContainer, act.PrepareTask, act.SendToExecutor)
    assert [type(action) for action in actions if isinstance(action, wanted)] == list(wanted)
    update, start = (action for action in actions if isinstance(action, wanted[:2]))
    assert isinstance(update, act.UpdateContainer)
    assert isinstance(start, act.PrepareTask)
    assert update.resources.millicpus == 2000
    assert start.task_id == "b"


def test_limits_of_tasks_that_came_while_the_executor_was_launched_are_raised_when_it_registers() -> None:
    bench = Bench(settings=LIMITS)
    bench.register()
    bench.run(task("a"))
    bench.run(task("b"))
    (launch,) = bench.asked_for(act.LaunchContainer)
    assert launch.resources.millicpus == 1000
    bench.register_executor(places_tasks=True)
    assert [update.resources.millicpus for update in bench.asked_for(act.UpdateContainer)] == [2000]


def test_limits_are_lowered_after_tasks_ended_once_per_turn() -> None:
    bench = bench_running("a", "b", "c")
    for number, name in enumerate("ab", 4):
        bench.update(name, TaskState.FINISHED, 2, number)
        clear_task(bench, name)
    updates = bench.asked_for(act.UpdateContainer)
    assert updates[-1].resources.millicpus == 1000
    assert len(updates) == 2


def test_tasks_of_an_executor_that_places_none_have_no_limits_of_their_own() -> None:
    bench = Bench(settings=LIMITS)
    bench.running(task("a"))
    bench.run(task("b"))
    bench.update("b", TaskState.FINISHED, 1, 2)
    assert not bench.asked_for(act.PrepareTask)
    assert not bench.asked_for(act.CleanupTask)
    assert terminal(bench).task_id == "b"


def test_an_end_is_reported_and_confirmed_only_when_nothing_is_left_of_the_task() -> None:
    bench = bench_running("a", "b")
    bench.update("a", TaskState.FINISHED, 2, 3)
    bench.update("b", TaskState.FINISHED, 2, 4)
    assert [end.task_id for end in bench.asked_for(act.CleanupTask)] == ["a", "b"]
    assert not bench.statuses()
    clear_task(bench, "b")
    bench.turn(1.0)
    assert bench.statuses() == [("b", TaskState.FINISHED, "")]
    assert max((c.number for c in bench.sent_to_executors(m.UpdatesStored)), default=0) <= 2
    clear_task(bench, "a")
    bench.turn(1.0)
    assert ("a", TaskState.FINISHED, "") in bench.statuses()
    assert bench.sent_to_executors(m.UpdatesStored)[-1].number == 4
    assert not bench.core.state.tasks


def test_an_unreported_end_is_sent_again_after_a_restart_of_the_slave() -> None:
    bench = bench_running("a")
    bench.update("a", TaskState.FINISHED, 2, 2)
    again = bench.crash(settings=LIMITS)
    again.register()
    again.register_executor(
        "a", unacknowledged=(m.TaskStatus(TaskID("a"), TaskState.FINISHED, 2),), places_tasks=True
    )
    again.update("a", TaskState.FINISHED, 2, 2)
    clear_task(again, "a")
    assert terminal(again).state is TaskState.FINISHED
    again.turn(1.0)
    assert again.sent_to_executors(m.UpdatesStored)[-1].number == 2


def test_an_end_that_was_reported_stays_when_its_container_goes_first() -> None:
    bench = bench_running("a")
    bench.update("a", TaskState.FINISHED, 2, 2)
    bench.event(ev.ExecutorEnded(bench.container_id, ExitRecord(0)))
    bench.event(ev.ContainerDestroyed(bench.container_id))
    assert terminal(bench).state is TaskState.FINISHED


def test_after_a_restart_limits_are_made_again_and_those_of_ended_tasks_removed() -> None:
    bench = bench_running("a", "b")
    again = bench.crash(settings=LIMITS)
    again.register()
    again.clear()
    again.register_executor("a", "b", places_tasks=True)
    assert [u.resources.millicpus for u in again.asked_for(act.UpdateContainer)] == [2000]
    (keep,) = again.asked_for(act.KeepTasks)
    assert keep.task_ids == ["a", "b"]
    assert [start.task_id for start in again.asked_for(act.PrepareTask)] == ["a", "b"]


def test_limits_of_a_task_whose_end_comes_with_the_registration_are_not_made_again() -> None:
    """Its executor lists the task until its end is confirmed as stored."""
    bench = bench_running("a", "b")
    again = bench.crash(settings=LIMITS)
    again.register()
    again.clear()
    ended = m.TaskStatus(TaskID("a"), TaskState.FINISHED, 2)
    again.register_executor("a", "b", unacknowledged=(ended,), places_tasks=True)
    assert [end.task_id for end in again.asked_for(act.CleanupTask)] == ["a"]
    assert [start.task_id for start in again.asked_for(act.PrepareTask)] == ["b"]
    (keep,) = again.asked_for(act.KeepTasks)
    assert keep.task_ids == ["b"]


def test_labels_for_the_slave_reach_the_module_and_outlive_a_restart() -> None:
    bench = Bench(settings=LIMITS)
    labels = {"offerd.oom_group": "0", "color": "blue"}
    bench.running(task("a", labels=labels), places_tasks=True)
    again = bench.crash(settings=LIMITS)
    again.register()
    again.register_executor("a", places_tasks=True)
    (start,) = again.asked_for(act.PrepareTask)
    assert start.labels == {"offerd.oom_group": "0"}


def test_a_task_whose_limits_cannot_be_made_is_killed_with_the_reason() -> None:
    bench = bench_running("a")
    bench.event(
        ev.TaskNotPrepared(bench.container_id, TaskID("a"), "its limits could not be set: no such device")
    )
    assert [kill.grace_s for kill in bench.sent_to_executors(m.KillTask)] == [0.0]
    bench.update("a", TaskState.KILLED, 2, 2)
    clear_task(bench, "a")
    status = terminal(bench)
    assert (status.reason, status.message) == (
        Reason.LIMITS_NOT_SET,
        "its limits could not be set: no such device",
    )


def test_a_task_that_was_killed_for_a_limit_says_reason_limit_and_peak() -> None:
    bench = bench_running("a", "b")
    hit(bench, "a")
    bench.update("a", TaskState.FAILED, 2, 3, reason=Reason.COMMAND_EXITED, exit_status=-9)
    clear_task(bench, "a")
    status = terminal(bench)
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.LIMIT_EXCEEDED)
    assert (status.limit, status.message, status.source) == ("memory.max=67108864", "needed more", "executor")
    assert status.usage == m.TaskUsage(2.0, 64 << 20)
    assert ("F-1", "b") in bench.core.state.tasks


def test_a_limit_that_killed_nothing_is_named_if_the_task_fails() -> None:
    bench = bench_running("a")
    hit(bench, "a", fatal=False)
    assert not bench.sent_to_executors(m.KillTask)
    bench.update("a", TaskState.FAILED, 2, 2, reason=Reason.COMMAND_EXITED, message="exited with status 2")
    clear_task(bench, "a")
    status = terminal(bench)
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.COMMAND_EXITED)
    assert (status.limit, status.message) == ("memory.max=67108864", "exited with status 2; needed more")


def test_only_an_executor_that_was_killed_for_memory_is_reported_so() -> None:
    bench = bench_running("a")
    hit(bench, fatal=False)
    assert not bench.asked_for(act.DestroyContainer)
    bench.event(ev.ExecutorEnded(bench.container_id, ExitRecord(-9)))
    bench.event(ev.ContainerDestroyed(bench.container_id))
    status = terminal(bench)
    assert (status.reason, status.limit) == (Reason.LIMIT_EXCEEDED, "memory.max=67108864")


def test_a_task_that_does_not_die_is_unkillable_and_its_neighbours_go_on() -> None:
    bench = bench_running("a", "b")
    framework_id = bench.core.state.containers[bench.container_id].framework_id
    bench.from_master(m.KillTask(framework_id, TaskID("a"), grace_s=0.0))
    bench.turn(0.6)
    assert [kill.task_id for kill in bench.asked_for(act.KillTaskProcesses)] == ["a"]
    bench.turn(1.1)
    assert [look.task_id for look in bench.asked_for(act.FindUnkillable)] == ["a"]
    for _ in range(2):
        bench.event(
            ev.UnkillableFound(bench.container_id, TaskID("a"), "process 7 (dd) in uninterruptible sleep (D)")
        )
        bench.turn(5.1)
    assert len(bench.asked_for(act.FindUnkillable)) == 3
    assert not bench.asked_for(act.DestroyContainer)
    assert bench.statuses().count(("a", TaskState.RUNNING, Reason.UNKILLABLE)) == 1
    assert bench.core.state.used["cpus"] == 2000
    # In the end it dies, and its executor reports that.
    bench.update("a", TaskState.KILLED, 2, 3)
    clear_task(bench, "a")
    assert terminal(bench).reason == Reason.KILLED_BY_FRAMEWORK
    assert bench.core.state.used["cpus"] == 1000


def test_an_executor_that_does_not_report_a_dead_task_is_ended() -> None:
    bench = bench_running("a")
    framework_id = bench.core.state.containers[bench.container_id].framework_id
    bench.from_master(m.KillTask(framework_id, TaskID("a"), grace_s=0.0))
    bench.turn(0.6)
    bench.turn(1.1)
    for _ in range(2):  # it may still be reaping a fork bomb
        assert not bench.asked_for(act.DestroyContainer)
        bench.event(ev.UnkillableFound(bench.container_id, TaskID("a"), ""))
        bench.turn(5.1)
    assert len(bench.asked_for(act.FindUnkillable)) == 2
    assert bench.asked_for(act.DestroyContainer)


def test_a_task_that_was_being_killed_when_it_hit_its_limit_was_killed() -> None:
    bench = bench_running("a")
    framework_id = bench.core.state.containers[bench.container_id].framework_id
    bench.from_master(m.KillTask(framework_id, TaskID("a"), grace_s=1.0))
    hit(bench, "a")
    bench.update("a", TaskState.FAILED, 2, 3, reason=Reason.COMMAND_EXITED, exit_status=-9)
    clear_task(bench, "a")
    assert (terminal(bench).state, terminal(bench).reason) == (TaskState.KILLED, Reason.KILLED_BY_FRAMEWORK)


def test_a_container_that_does_not_die_makes_its_tasks_unkillable_and_keeps_its_resources() -> None:
    bench = bench_running("a")
    bench.event(ev.ExecutorEnded(bench.container_id, ExitRecord(0)))
    bench.event(ev.Unkillable(bench.container_id, TaskID(""), "process 7 (dd) in uninterruptible sleep (D)"))
    assert bench.statuses().count(("a", TaskState.RUNNING, Reason.UNKILLABLE)) == 1
    assert bench.core.state.used["cpus"] == 1000
    bench.event(ev.ContainerDestroyed(bench.container_id))
    assert terminal(bench).reason == Reason.EXECUTOR_EXITED
    assert bench.core.state.used["cpus"] == 0


def sized(name: str, resources: Resources) -> m.TaskInfo:
    return msgspec.structs.replace(task(name), resources=resources)


def delivered(bench: Bench, *tasks: m.TaskInfo) -> None:
    bench.register()
    bench.run(*tasks)
    bench.register_executor(places_tasks=True)


def over_disk(bench: Bench, name: str = "") -> None:
    hit = Limitation(bench.container_id, "disk=1048576", "its files take too much", TaskID(name))
    bench.event(ev.OverDisk(hit))


def kills(bench: Bench) -> list[m.KillTask]:
    return [message for _, message in bench.to_executors if isinstance(message, m.KillTask)]


def test_a_task_over_its_share_of_the_disk_is_ended_at_once_and_fails_for_it() -> None:
    bench = bench_running("a", "b")
    over_disk(bench, "a")
    (kill,) = bench.sent_to_executors(m.KillTask)
    assert (kill.task_id, kill.grace_s) == ("a", 0.0)
    over_disk(bench, "a")
    assert len(bench.sent_to_executors(m.KillTask)) == 1, "it is being ended"
    bench.update("a", TaskState.KILLED, 2, 3)
    clear_task(bench, "a")
    status = terminal(bench)
    assert (status.state, status.reason, status.limit) == (
        TaskState.FAILED,
        Reason.LIMIT_EXCEEDED,
        "disk=1048576",
    )
    assert status.message == "its files take too much"


def test_a_container_over_its_share_of_the_disk_is_ended_with_its_tasks() -> None:
    bench = bench_running("a", "b")
    over_disk(bench)
    assert [each.container_id for each in bench.asked_for(act.DestroyContainer)] == [bench.container_id]
    bench.event(ev.ContainerDestroyed(bench.container_id))
    ends = [s.status for s in bench.sent if isinstance(s, m.StatusUpdate) and s.status.state.terminal]
    assert {(each.task_id, each.state, each.limit) for each in ends} == {
        ("a", TaskState.FAILED, "disk=1048576"),
        ("b", TaskState.FAILED, "disk=1048576"),
    }


@pytest.mark.parametrize(("exit_status", "reason"), [(-9, Reason.LIMIT_EXCEEDED), (3, Reason.COMMAND_EXITED)])
def test_the_reason_survives_if_an_executor_reports_its_killed_task_before_it_dies(
    exit_status: int, reason: str
) -> None:
    bench = bench_running("a")
    over_disk(bench)
    bench.update(
        "a", TaskState.FAILED, 2, 3, reason=Reason.COMMAND_EXITED, message="its own", exit_status=exit_status
    )
    clear_task(bench, "a")
    bench.event(ev.ContainerDestroyed(bench.container_id))
    status = terminal(bench)
    assert (status.reason, status.exit_status) == (reason, exit_status)
    assert status.message == ("its files take too much" if exit_status == -9 else "its own")


def test_a_task_that_declares_no_memory_is_limited_like_all_others() -> None:
    bench = Bench(settings=LIMITS)
    bare = sized("bare", Resources.of(cpus=1))
    roomy = sized("roomy", Resources.of(cpus=1, mem="1G"))
    delivered(bench, bare, roomy)
    limits = {each.task_id: each.resources.mem_bytes for each in bench.asked_for(act.PrepareTask)}
    assert limits == {"bare": 256 << 20, "roomy": 1 << 30}
    (update,) = bench.asked_for(act.UpdateContainer)
    assert update.resources.mem_bytes == (256 << 20) + (1 << 30)
    assert bench.core.state.tasks[FRAMEWORK.framework_id, TaskID("bare")].info.resources.mem_bytes == 0


def test_an_executor_without_tasks_is_limited_too_and_the_operator_may_want_no_limit() -> None:
    bench = bench_running("a")
    container = next(iter(bench.core.state.containers.values()))
    bench.update("a", TaskState.FINISHED, 2, 3)
    clear_task(bench, "a")
    assert bench.core.state.limits(container).mem_bytes == 256 << 20
    unlimited = Bench(settings=replace(LIMITS, default_task_mem_bytes=0))
    delivered(unlimited, sized("a", Resources.of(cpus=1)))
    (start,) = unlimited.asked_for(act.PrepareTask)
    assert start.resources.mem_bytes == 0


def test_the_disk_that_a_task_asks_for_is_its_share() -> None:
    usual = Share(100, 10)
    bench = Bench(settings=LIMITS)
    bench.running(task("asks"), task("silent"), places_tasks=True)
    asking = bench.core.state.tasks[FRAMEWORK.framework_id, TaskID("asks")]
    asking.info = sized("asks", Resources.of(cpus=1, disk=1 << 30))
    (found,) = shares(bench.core.state, usual)
    assert found.tasks == {"asks": Share(1 << 30, 10), "silent": usual}
    assert found.whole == Share((1 << 30) + 100 + FOR_THE_REST * 100, 20 + FOR_THE_REST * 10)
    asking.info = task("asks")
    over_disk(bench)
    assert shares(bench.core.state, usual) == [], "it is being ended"


NOTE = "memory is watched, not limited (isolation noop)"
WATCHED = SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.0, memory_note=NOTE)


def over_memory(bench: Bench, name: str = "") -> None:
    usage = Usage(mem_bytes=80 << 20, peak_mem_bytes=80 << 20)
    bench.event(
        ev.OverMemory(Limitation(bench.container_id, "mem=67108864", "it had 80M", TaskID(name), usage))
    )


def test_a_task_with_too_much_memory_is_ended_at_once_and_fails_for_it() -> None:
    bench = Bench(settings=WATCHED)
    bench.running(task("a"), task("b"))
    over_memory(bench, "a")
    (kill,) = bench.sent_to_executors(m.KillTask)
    assert (kill.task_id, kill.grace_s) == ("a", 0.0)
    bench.acknowledge("a", 1)
    bench.update("a", TaskState.KILLED, 2, 3)
    status = terminal(bench)
    assert (status.state, status.reason, status.limit, status.message) == (
        TaskState.FAILED, Reason.LIMIT_EXCEEDED, "mem=67108864", "it had 80M",
    )  # fmt: skip
    assert status.usage == m.TaskUsage(0.0, 80 << 20)


def test_a_task_that_declares_memory_is_informed_that_it_is_watched_not_limited() -> None:
    bench = Bench(settings=WATCHED)
    bench.register()
    bench.run(task("a"), sized("any", Resources.of(cpus=1)))
    bench.register_executor()
    bench.clear()
    bench.update("a", TaskState.RUNNING, 1, 1)
    bench.update("any", TaskState.RUNNING, 1, 2)
    said = [message.status for message in bench.sent if isinstance(message, m.StatusUpdate)]
    assert [(status.task_id, status.message) for status in said] == [("a", NOTE), ("any", "")]
    bench.acknowledge("a", 1)
    bench.update("a", TaskState.RUNNING, 2, 3)
    assert bench.sent[-1].status.message == "", "only once"  # type: ignore[attr-defined]
    bench.clear()
    bench.from_master(m.NotRegistered())
    (registration,) = [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    assert registration.memory_note == NOTE, "for a new master"


def test_a_container_may_use_the_most_memory_that_its_tasks_ever_had_together() -> None:
    bench = Bench(settings=WATCHED)
    bench.register()
    bench.run(task("a"), sized("usual", Resources.of(cpus=1)))
    assert memory.watched(bench.core.state) == [], "nothing runs yet"
    bench.register_executor()
    mib = 1 << 20
    tasks = {TaskID("a"): 64 * mib, TaskID("usual"): 256 * mib}
    both = memory.Memory(bench.container_id, (64 + 64 + 256) * mib, tasks)
    assert memory.watched(bench.core.state) == [both]
    bench.update("a", TaskState.FINISHED, 1)
    bench.run(task("c"))
    (now,) = memory.watched(bench.core.state)
    assert (now.whole_bytes, set(now.tasks)) == (both.whole_bytes, {"usual", "c"})
    bench = bench.crash(settings=WATCHED)
    bench.register()
    bench.register_executor("usual", "c")
    (now,) = memory.watched(bench.core.state)
    assert now.whole_bytes is None, "it may have had more before the slave's start"
    assert now.tasks[TaskID("c")] == 64 * mib
