"""A slave that was killed and started again: what it adopts, reports and ends."""

from __future__ import annotations

from helpers.slave_bench import FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import ContainerID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer, live_records
from offerd_slave.records import ExitRecord, StatusStored, TaskDelivered

RUNNING, FINISHED, FAILED, LOST = TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED, TaskState.LOST


def test_restarted_slave_adopts_its_tasks_and_their_time_limits() -> None:
    bench = Bench()
    bench.running(task("a", limit_s=20.0))
    again = bench.crash()
    assert again.slave_id == "S-1"
    again.register()
    again.register_executor("a")
    assert again.core.state.used["cpus"] == 1000
    again.turn(18.0)
    assert not again.sent_to_executors(m.KillTask)
    again.turn(1.1)
    assert [kill.task_id for kill in again.sent_to_executors(m.KillTask)] == ["a"]


def test_ends_that_happened_while_the_slave_was_away_are_reported_once() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash()
    again.register()
    again.clear()
    ended = m.TaskStatus(TaskID("a"), FAILED, 2, exit_status=3)
    container_id = again.register_executor("a", unacknowledged=(ended,))
    again.from_executor(container_id, m.ExecutorUpdate(2, ended))
    assert again.statuses() == [("a", FAILED, "")]
    assert m.UpdatesStored(2) in again.sent_to_executors(m.UpdatesStored)


def test_unacknowledged_statuses_are_sent_by_the_restarted_slave() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.acknowledge("a", 1)
    bench.sync_at_once = False
    bench.update("a", FINISHED, 2, data=b"result")
    again = bench.crash()
    again.register()
    (update,) = [message for message in again.sent if isinstance(message, m.StatusUpdate)]
    assert (update.status.state, update.status.data) == (FINISHED, b"result")
    again.acknowledge("a", 2)
    assert not again.crash().core.statuses.streams


def test_task_that_never_reached_its_executor_is_lost() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"))
    again = bench.crash()
    again.register()
    again.clear()
    again.register_executor("a")
    assert again.statuses() == [("b", LOST, Reason.SLAVE_RESTARTED)]


def test_task_that_only_its_executor_knows_is_ended() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.disk = [record for record in bench.disk if not isinstance(record, TaskDelivered)]
    again = bench.crash(is_damaged=True)
    again.register()
    again.clear()
    again.register_executor("a")
    assert ("a", LOST, Reason.CHECKPOINT_DAMAGED) in again.statuses()
    assert [kill.task_id for kill in again.sent_to_executors(m.KillTask)] == ["a"]


def test_executor_that_ended_while_the_slave_was_away_is_reported_with_its_exit_status() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash(shims_alive=False, exit_record=ExitRecord(9))
    again.register()
    (destroy,) = again.asked_for(act.DestroyContainer)
    again.event(ev.ContainerDestroyed(destroy.container_id))
    (update,) = [s for s in again.sent if isinstance(s, m.StatusUpdate) and s.status.state.terminal]
    assert (update.status.reason, update.status.exit_status) == (Reason.EXECUTOR_EXITED, 9)


def test_an_executor_that_does_not_register_again_after_a_restart_is_ended() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash()
    again.register()
    again.turn(15.1)
    assert again.asked_for(act.DestroyContainer)


def test_reboot_loses_every_task_and_signals_nobody() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash()
    containers = [RecoveredContainer(c, alive=False) for c in bench.checkpoints.values()]
    again = Bench(recovered=Recovered(SlaveID("S-1"), 1, True, containers, list(bench.disk)), now=5.0)
    (registration,) = again.sent
    assert isinstance(registration, m.RegisterSlave)
    assert registration.slave.slave_id == "S-1", "a master accepts the end of tasks only from their own slave"
    again.register()
    (destroy,) = again.asked_for(act.DestroyContainer)
    again.event(ev.ContainerDestroyed(destroy.container_id))
    assert ("a", LOST, Reason.HOST_REBOOTED) in again.statuses()
    assert not again.to_executors


def test_containers_without_a_record_are_destroyed() -> None:
    bench = Bench(recovered=Recovered(orphans=[ContainerID("orphan")]))
    assert [destroy.container_id for destroy in bench.asked_for(act.DestroyContainer)] == ["orphan"]
    bench.event(ev.ContainerDestroyed(ContainerID("orphan")))


def test_compacted_journal_says_the_same() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"), task("c"))
    bench.acknowledge("a", 1)
    bench.acknowledge("b", 1)
    bench.update("b", FINISHED, 2, 4)
    bench.update("c", FINISHED, 2, 5)
    bench.acknowledge("c", 2)
    before = len(bench.disk)
    bench.disk = live_records(bench.core.state, bench.core.statuses)
    assert len(bench.disk) < before
    assert sum(isinstance(record, StatusStored) for record in bench.disk) == 2
    again = bench.crash()
    again.register()
    assert set(again.core.state.tasks) == {(FRAMEWORK.framework_id, "a")}
    assert again.core.state.tasks[FRAMEWORK.framework_id, TaskID("a")].sequence == 1
    assert again.statuses() == [("b", FINISHED, "")]


def test_statuses_of_another_slave_id_are_sent_with_the_new_one() -> None:
    bench = Bench()
    bench.sync_at_once = False
    bench.running(task("t1"), task("t2"), task("t3"))
    bench.update("t1", m.TaskState.FINISHED, 2, 4)
    bench.synced()
    bench.update("t2", m.TaskState.FINISHED, 2, 5)  # its sync is under way ...
    bench.update("t3", m.TaskState.FINISHED, 2, 6)  # ... and this one waits for the next
    bench.clear()
    bench.from_master(m.SlaveRegistered(SlaveID("S-2"), "master"))
    bench.synced()
    bench.synced()
    sent = [message.status for message in bench.sent if isinstance(message, m.StatusUpdate)]
    ended = {status.task_id for status in sent if status.state.terminal}
    assert ended == {"t1", "t2", "t3"}
    assert {status.slave_id for status in sent} == {"S-2"}


def test_statuses_from_before_a_lost_slave_id_bear_the_new_one_also_after_another_restart() -> None:
    bench = Bench()
    bench.running(task("t1"))
    bench.update("t1", m.TaskState.FINISHED, 2)
    bench.slave_id = SlaveID("S-2")  # the slave was killed just after the new id was saved
    again = bench.crash()
    again.clear()
    again.from_master(m.SlaveRegistered(SlaveID("S-2"), "master"))
    sent = [message.status for message in again.sent if isinstance(message, m.StatusUpdate)]
    assert {status.slave_id for status in sent} == {"S-2"}


def test_a_task_reported_as_lost_is_ended_by_its_executor_and_not_reported_again() -> None:
    bench = Bench()
    bench.running(task("t1"))
    again = bench.crash()
    again.register()
    again.register_executor()  # without t1: lost
    again.clear()
    again.register_executor("t1")
    assert again.statuses() == []
    assert [kill.task_id for kill in again.sent_to_executors(m.KillTask)] == ["t1"]
