"""The slave's core: what it does on each event, and what always holds."""

from __future__ import annotations

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import ContainerID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd.wire.codec import encode_message
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.records import ExitRecord, TaskDelivered
from offerd_slave.settings import SlaveSettings

RUNNING, FINISHED, FAILED, KILLED, LOST, ERROR = (
    TaskState.RUNNING,
    TaskState.FINISHED,
    TaskState.FAILED,
    TaskState.KILLED,
    TaskState.LOST,
    TaskState.ERROR,
)

# -- registration -------------------------------------------------------------------------------------------------------


def test_registers_at_its_start_and_repeats_until_answered() -> None:
    bench = Bench()
    assert [type(message) for message in bench.sent] == [m.RegisterSlave]
    bench.turn(1.1)
    assert [type(message) for message in bench.sent] == [m.RegisterSlave] * 2
    bench.register()
    bench.clear()
    bench.turn(1.1)
    assert not [message for message in bench.sent if isinstance(message, m.RegisterSlave)]


def test_registers_again_after_a_long_silence_and_when_the_master_does_not_know_it() -> None:
    bench = Bench()
    bench.register()
    bench.clear()
    bench.turn(14)
    bench.from_master(m.Ping())
    bench.turn(14)
    assert not [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    bench.turn(2)
    assert [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    bench.clear()
    bench.from_master(m.NotRegistered())
    (registration,) = bench.sent
    assert isinstance(registration, m.RegisterSlave)
    assert registration.slave.slave_id == "S-1"


def test_answers_pings() -> None:
    bench = Bench()
    bench.register()
    bench.clear()
    bench.from_master(m.Ping())
    assert [type(message) for message in bench.sent] == [m.Pong]


def test_orders_of_an_older_leader_are_refused() -> None:
    bench = Bench()
    bench.register(epoch=7)
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task()]), epoch=6)
    assert not bench.core.state.tasks
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task()]), epoch=8)
    assert bench.core.state.tasks
    assert bench.core.state.epoch == 8


# -- launching ----------------------------------------------------------------------------------------------------------


def test_first_task_launches_the_executor_and_waits_for_it_to_register() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"), task("b"))
    (launch,) = bench.asked_for(act.LaunchContainer)
    assert launch.executor == COMMAND
    assert launch.resources.millicpus == 2000
    assert not bench.sent_to_executors(m.LaunchTask)
    bench.register_executor()
    assert [message.task.task_id for message in bench.sent_to_executors(m.LaunchTask)] == ["a", "b"]


def test_further_tasks_go_to_the_executor_that_runs() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.run(task("b"))
    assert not bench.asked_for(act.LaunchContainer)
    assert [message.task.task_id for message in bench.sent_to_executors(m.LaunchTask)] == ["b"]


def test_a_delivery_is_written_down_before_it_is_sent_without_the_executors_data() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a", data=b"x" * 1000))
    bench.register_executor()
    (record,) = bench.disk
    assert isinstance(record, TaskDelivered)
    assert record.task.data == b""
    (sent,) = bench.sent_to_executors(m.LaunchTask)
    assert sent.task.data == b"x" * 1000


def test_executor_that_never_registers_is_ended_and_its_tasks_fail() -> None:
    bench = Bench()
    bench.register()
    bench.run(task())
    for _ in range(12):
        assert not bench.asked_for(act.DestroyContainer)
        bench.turn(5.0)
        bench.from_master(m.Ping())
    bench.turn(0.1)
    (destroy,) = bench.asked_for(act.DestroyContainer)
    assert not bench.statuses()
    bench.event(ev.ContainerDestroyed(destroy.container_id))
    assert bench.statuses() == [("t1", FAILED, Reason.EXECUTOR_REGISTRATION_TIMEOUT)]
    assert not bench.core.state.containers


def test_progress_of_a_container_extends_the_registration_time_and_is_reported_for_one_task() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"))
    bench.run(task("b"))
    container_id = bench.container_id
    for number in range(3):
        for _ in range(11):
            bench.turn(5.0)
            bench.from_master(m.Ping())
        bench.event(ev.ContainerPreparing(container_id, f"{number} of 3 layers"))
    assert bench.statuses() == 3 * [("a", TaskState.STAGING, Reason.CONTAINER_PREPARING)]
    assert not bench.asked_for(act.DestroyContainer)
    framework_id = bench.core.state.containers[container_id].framework_id
    bench.from_master(m.KillTask(framework_id, TaskID("a")))
    bench.event(ev.ContainerPreparing(container_id, "all layers"))
    assert bench.statuses()[-1] == ("b", TaskState.STAGING, Reason.CONTAINER_PREPARING)
    bench.register_executor()
    said = len(bench.statuses())
    bench.event(ev.ContainerPreparing(container_id, "late"))
    bench.event(ev.ContainerPreparing(ContainerID("gone"), "later"))
    assert len(bench.statuses()) == said


def test_failed_launch_fails_the_tasks_with_the_reason() -> None:
    bench = Bench()
    bench.register()
    bench.run(task())
    container_id = bench.container_id
    bench.event(ev.LaunchFailed(container_id, "no such user"))
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses() == [("t1", FAILED, Reason.EXECUTOR_NOT_LAUNCHED)]


def test_resources_for_ports_count_by_number() -> None:
    bench = Bench()
    bench.register()
    ports = m.TaskInfo(TaskID("p"), Resources.parse("ports=[31000-31005]"), COMMAND.executor_id)
    bench.run(ports)
    bench.clear()
    assert bench.statuses() == []
    assert not bench.core.state.tasks  # six of ten ports are more than half


# -- refusals -----------------------------------------------------------------------------------------------------------


def test_long_tasks_beyond_half_of_the_slave_are_refused_and_short_ones_run() -> None:
    bench = Bench()
    bench.register()
    bench.run(
        task("a", limit_s=None), task("b", limit_s=None), task("c", limit_s=None), task("d", limit_s=60.0)
    )
    assert bench.statuses() == [("c", LOST, Reason.LONG_TASK_CAP)]
    assert {task_id for _, task_id in bench.core.state.tasks} == {"a", "b", "d"}


def test_a_limit_above_the_short_limit_makes_a_task_long() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a", cpus=3, limit_s=60.1))
    assert bench.statuses() == [("a", LOST, Reason.LONG_TASK_CAP)]


def test_more_than_the_slave_has_is_refused() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a", cpus=3), task("b", cpus=2))
    assert bench.statuses() == [("b", LOST, Reason.OFFER_EXCEEDED)]


def test_a_task_id_that_runs_already_is_refused_and_the_running_task_goes_on() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.run(task("a"))
    assert bench.statuses() == [("a", ERROR, Reason.TASK_ID_DUPLICATE)]
    bench.clear()
    bench.update("a", FINISHED, 2)
    assert bench.statuses() == [("a", FINISHED, "")]


def test_an_id_that_could_leave_the_sandbox_is_refused() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("../../etc"))
    assert bench.statuses() == [("../../etc", ERROR, Reason.TASK_INVALID)]


# -- statuses -----------------------------------------------------------------------------------------------------------


def test_terminal_status_is_forwarded_only_when_it_is_on_the_disk() -> None:
    bench = Bench()
    bench.running(task())
    bench.sync_at_once = False
    bench.update("t1", FINISHED, 2)
    assert bench.statuses() == []
    assert not bench.sent_to_executors(m.UpdatesStored)
    assert not bench.core.state.tasks, "resources are free once the task has ended"
    bench.synced()
    assert bench.statuses() == [("t1", FINISHED, "")]
    assert bench.sent_to_executors(m.UpdatesStored) == [m.UpdatesStored(2)]


def test_a_terminal_status_is_not_repeated_before_it_is_on_the_disk() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"))
    bench.sync_at_once = False
    bench.update("a", FINISHED, 2, 3)
    bench.update("b", FINISHED, 2, 4)
    bench.turn(11.0)
    assert {state for _, state, _ in bench.statuses()} == {m.TaskState.RUNNING}, (
        "what came before is repeated"
    )
    bench.clear()
    bench.synced()
    bench.synced()
    assert bench.statuses() == [("a", FINISHED, ""), ("b", FINISHED, "")]


def test_terminal_statuses_during_a_sync_share_the_next_one() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"), task("c"))
    bench.sync_at_once = False
    bench.update("a", FINISHED, 2, 4)
    bench.update("b", FINISHED, 2, 5)
    bench.update("c", FINISHED, 2, 6)
    assert len(bench.unsynced) == 1
    bench.synced()
    assert bench.statuses() == [("a", FINISHED, "")]
    assert len(bench.unsynced) == 1
    bench.synced()
    assert bench.statuses()[1:] == [("b", FINISHED, ""), ("c", FINISHED, "")]
    assert bench.sent_to_executors(m.UpdatesStored) == [m.UpdatesStored(4), m.UpdatesStored(6)]


def test_syncs_keep_a_pause_that_grows_with_the_tasks_that_run() -> None:
    bench = Bench(settings=SlaveSettings(sync_pause_per_task_s=0.001, sync_pause_max_s=0.1))
    bench.running(*(task(f"t{i}", cpus=0.1) for i in range(10)))
    bench.sync_at_once = False
    bench.update("t0", FINISHED, 2, 11)
    bench.synced()
    bench.update("t1", FINISHED, 2, 12)
    assert not bench.unsynced
    assert bench.core.next_deadline() == bench.now + 0.009
    bench.turn(0.009)
    assert len(bench.unsynced) == 1


def test_status_names_slave_executor_and_container_whatever_the_executor_claims() -> None:
    bench = Bench()
    container_id = bench.running(task())
    bench.update("t1", FINISHED, 2, slave_id=SlaveID("forged"), source="master")
    (update,) = [message for message in bench.sent if isinstance(message, m.StatusUpdate)]
    status = update.status
    assert (status.slave_id, status.executor_id, status.container_id) == ("S-1", "command", container_id)
    assert status.source == "executor"


def test_unacknowledged_statuses_are_repeated_with_growing_pauses_until_acknowledged() -> None:
    bench = Bench()
    bench.running(task())
    bench.update("t1", FINISHED, 2)
    bench.clear()
    for _ in range(12):
        bench.turn(1.0)
        bench.from_master(m.Ping())
    assert bench.statuses() == [("t1", RUNNING, ""), ("t1", FINISHED, "")]
    bench.acknowledge("t1", 1)
    bench.clear()
    for _ in range(30):
        bench.turn(1.0)
        bench.from_master(m.Ping())
    assert bench.statuses() == [("t1", FINISHED, "")]
    bench.acknowledge("t1", 2)
    bench.clear()
    for _ in range(200):
        bench.turn(1.0)
        bench.from_master(m.Ping())
    assert bench.statuses() == []


def test_second_terminal_status_is_ignored() -> None:
    bench = Bench()
    bench.running(task())
    bench.update("t1", FINISHED, 2)
    bench.update("t1", FAILED, 3)
    assert bench.statuses() == [("t1", FINISHED, "")]


def test_statuses_wait_until_the_slave_is_registered() -> None:
    bench = Bench()
    bench.running(task())
    bench.from_master(m.NotRegistered())
    bench.clear()
    bench.update("t1", FINISHED, 2)
    assert bench.statuses() == []
    bench.register()
    assert bench.statuses() == [("t1", RUNNING, ""), ("t1", FINISHED, "")]


def test_a_registration_lists_running_tasks_and_unacknowledged_ends() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"))
    bench.update("a", FINISHED, 2, 3)
    bench.clear()
    bench.from_master(m.NotRegistered())
    (registration,) = bench.sent
    assert isinstance(registration, m.RegisterSlave)
    assert {(listed.task_id, listed.state) for listed in registration.tasks} == {
        ("b", RUNNING),
        ("a", FINISHED),
    }
    assert [executor.executor_id for executor in registration.executors] == ["command"]


# -- killing ------------------------------------------------------------------------------------------------------------


def test_time_limit_is_enforced_by_killing_with_the_reason() -> None:
    bench = Bench()
    bench.running(task("a", limit_s=2.0))
    bench.turn(1.9)
    assert not bench.sent_to_executors(m.KillTask)
    bench.turn(0.2)
    (kill,) = bench.sent_to_executors(m.KillTask)
    assert (kill.task_id, kill.grace_s) == ("a", 5.0)
    bench.update("a", KILLED, 2, exit_status=-15)
    (update,) = [message for message in bench.sent if isinstance(message, m.StatusUpdate)]
    assert (update.status.state, update.status.reason) == (KILLED, Reason.TASK_TIMEOUT)
    assert (update.status.limit, update.status.exit_status) == ("time_limit_s=2", -15)


def test_time_limit_counts_from_the_delivery_not_from_the_launch_of_the_executor() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a", limit_s=2.0))
    bench.turn(30.0)
    bench.register_executor()
    bench.turn(1.9)
    assert not bench.sent_to_executors(m.KillTask)
    bench.turn(0.2)
    assert bench.sent_to_executors(m.KillTask)


def test_if_an_executor_does_not_kill_in_time_the_module_kills_and_then_the_executor_is_ended() -> None:
    bench = Bench()
    container_id = bench.running(task("a", limit_s=2.0), task("b"))
    bench.turn(2.0)
    bench.turn(5.6)
    assert [kill.task_id for kill in bench.asked_for(act.KillTaskProcesses)] == ["a"]
    assert not bench.asked_for(act.DestroyContainer)
    bench.event(ev.TaskKillRefused(container_id, TaskID("a")))
    assert bench.asked_for(act.DestroyContainer)
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses() == [("a", KILLED, Reason.TASK_TIMEOUT), ("b", FAILED, Reason.EXECUTOR_EXITED)]


def test_a_container_is_ended_if_a_killed_tasks_end_is_never_reported() -> None:
    bench = Bench()
    bench.running(task("a", limit_s=2.0))
    bench.turn(2.0)
    bench.turn(5.6)
    bench.turn(1.1)
    assert bench.asked_for(act.DestroyContainer)


def test_a_task_that_finishes_before_its_kill_has_finished() -> None:
    bench = Bench()
    bench.running(task("a", limit_s=2.0))
    bench.turn(2.0)
    bench.update("a", FINISHED, 2)
    assert bench.statuses() == [("a", FINISHED, "")]
    bench.turn(10.0)
    assert not bench.asked_for(act.KillTaskProcesses)


def test_a_revoked_tasks_status_says_so() -> None:
    bench = Bench()
    bench.running(task())
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("t1"), SlaveID("S-1"), None, Reason.REVOKED))
    bench.update("t1", KILLED, 2)
    assert bench.statuses() == [("t1", KILLED, Reason.REVOKED)]


def test_kill_reaches_the_executor_once_with_the_frameworks_grace() -> None:
    bench = Bench()
    bench.running(task())
    kill = m.KillTask(FRAMEWORK.framework_id, TaskID("t1"), SlaveID("S-1"), 1.5)
    bench.from_master(kill)
    bench.from_master(kill)
    assert [k.grace_s for k in bench.sent_to_executors(m.KillTask)] == [1.5]
    bench.update("t1", KILLED, 2)
    assert bench.statuses() == [("t1", KILLED, Reason.KILLED_BY_FRAMEWORK)]


def test_kill_of_a_task_that_still_waits_ends_it_and_it_is_never_started() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"), task("b"))
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("a")))
    assert bench.statuses() == [("a", KILLED, Reason.KILLED_BY_FRAMEWORK)]
    bench.register_executor()
    assert [message.task.task_id for message in bench.sent_to_executors(m.LaunchTask)] == ["b"]


def test_killing_an_unknown_task_is_answered_with_lost() -> None:
    bench = Bench()
    bench.register()
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("ghost")))
    assert bench.statuses() == [("ghost", LOST, Reason.TASK_UNKNOWN)]


# -- ends of executors ----------------------------------------------------------------------------------------------


def test_executor_crash_fails_its_tasks_with_the_exit_status_after_its_container_is_gone() -> None:
    bench = Bench()
    container_id = bench.running(task("a"), task("b"))
    bench.event(ev.ExecutorEnded(container_id, ExitRecord(-11)))
    assert bench.statuses() == []
    bench.event(ev.ContainerDestroyed(container_id))
    updates = [message.status for message in bench.sent if isinstance(message, m.StatusUpdate)]
    assert [(s.state, s.reason, s.exit_status) for s in updates] == [
        (FAILED, Reason.EXECUTOR_EXITED, -11)
    ] * 2
    (exited,) = [message for message in bench.sent if isinstance(message, m.ExecutorExited)]
    assert (exited.executor_id, exited.exit_status) == ("command", -11)


def test_a_killed_shim_has_another_reason_than_an_ended_executor() -> None:
    bench = Bench()
    container_id = bench.running(task())
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses() == [("t1", FAILED, Reason.SHIM_DIED)]


def test_tasks_that_come_while_an_executor_ends_get_a_new_one() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.event(ev.ExecutorEnded(container_id, ExitRecord(0)))
    bench.run(task("b"))
    (launch,) = bench.asked_for(act.LaunchContainer)
    assert launch.container_id != container_id
    bench.event(ev.ContainerDestroyed(container_id))
    assert {task_id for _, task_id in bench.core.state.tasks} == {"b"}


def test_framework_shutdown_asks_executors_to_end_then_kills_them() -> None:
    bench = Bench()
    container_id = bench.running(task())
    bench.from_master(m.ShutdownFramework(FRAMEWORK.framework_id))
    assert bench.sent_to_executors(m.Shutdown) == [m.Shutdown(5.0)]
    bench.turn(5.6)
    assert bench.asked_for(act.DestroyContainer)
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses() == [("t1", KILLED, Reason.FRAMEWORK_REMOVED)]


def test_framework_messages_pass_both_ways_with_the_slaves_own_names() -> None:
    bench = Bench()
    container_id = bench.running(task())
    forged = m.FrameworkMessage(FrameworkID("F-9"), SlaveID("S-9"), COMMAND.executor_id, b"up")
    bench.from_executor(container_id, forged)
    assert bench.sent == [
        m.FrameworkMessage(FRAMEWORK.framework_id, SlaveID("S-1"), COMMAND.executor_id, b"up")
    ]
    down = m.FrameworkMessage(FRAMEWORK.framework_id, SlaveID("S-1"), COMMAND.executor_id, b"down")
    bench.from_master(down)
    assert bench.sent_to_executors(m.FrameworkMessage) == [down]


def test_a_leaving_slave_ends_its_tasks_and_exits_when_all_ends_are_acknowledged() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.event(ev.LeaveRequested())
    bench.run(task("b"))
    assert ("b", LOST, Reason.SLAVE_DRAINING) in bench.statuses()
    assert bench.asked_for(act.DestroyContainer)
    bench.event(ev.ContainerDestroyed(container_id))
    assert ("a", KILLED, Reason.SLAVE_DRAINING) in bench.statuses()
    assert not bench.exited
    bench.acknowledge("b", 1)
    bench.acknowledge("a", 2)
    assert bench.exited
    assert isinstance(bench.sent[-1], m.UnregisterSlave)
    assert bench.mode == "active"


def test_a_leaving_slave_does_not_wait_for_ever_for_a_missing_master() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.event(ev.LeaveRequested())
    bench.event(ev.ContainerDestroyed(container_id))
    bench.turn(4.9)
    assert not bench.exited
    bench.turn(0.2)
    assert bench.exited


def test_a_sync_in_the_loops_thread_is_confirmed_in_time_on_an_idle_slave() -> None:
    settings = SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.02)
    bench = Bench(settings=settings)
    bench.running(task("a"))
    bench.turn(1.0)
    bench.clear()
    bench.update("a", FINISHED, 2)
    assert bench.statuses() == [("a", FINISHED, "")]
    deadline = bench.core.next_deadline()
    assert deadline is not None
    assert deadline <= bench.now + 0.03
    bench.turn(0.03)
    assert [stored.number for stored in bench.sent_to_executors(m.UpdatesStored)] == [2]


def test_tasks_that_do_not_fit_into_a_registration_are_refused() -> None:
    bench = Bench()
    bench.register()
    tiny = Resources.of(mem=1024)
    for batch in range(12):
        infos = [
            m.TaskInfo(
                TaskID(f"{batch}.{i}".ljust(120, "x")),
                tiny,
                COMMAND.executor_id,
                time_limit_s=9.0,
                name="n" * 60,
            )
            for i in range(400)
        ]
        bench.run(*infos)
    running = {task_id for _, task_id in bench.core.state.tasks}
    refused = {name: reason for name, state, reason in bench.statuses() if state is LOST}
    assert len(running) + len(refused) == 4800
    assert len(refused) > 1000
    assert set(refused.values()) == {Reason.OFFER_EXCEEDED}
    bench.clear()
    bench.from_master(m.NotRegistered())
    (registration,) = (message for message in bench.sent if isinstance(message, m.RegisterSlave))
    listed = {named.task_id for named in registration.tasks}
    assert running <= listed
    assert listed - running  # as many unacknowledged ends as fit ...
    assert listed - running < set(refused)  # ... which are not all
    assert bench.core.state.listed_bytes >= len(encode_message(registration.executors)) + sum(
        len(encode_message(named)) for named in registration.tasks if named.task_id in running
    )


def test_the_slave_registers_at_once_on_a_new_connection() -> None:
    bench = Bench()
    bench.register()
    bench.clear()
    bench.event(ev.MasterConnected())
    assert [type(message) for message in bench.sent] == [m.RegisterSlave]
