"""An executor's claims are checked: an impossible one ends the executor, with the reason."""

from __future__ import annotations

import msgspec
import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd.values.bounds import MAX_STATUS_BYTES
from offerd_slave.core import actions as act
from offerd_slave.core import backlog
from offerd_slave.core import events as ev
from offerd_slave.core.backlog import MOST_BYTES
from offerd_slave.core.messages_out import AT_ONCE_BYTES, BYTES_A_SECOND, MESSAGE_BYTES
from offerd_slave.core.state import QUEUED_MAX_BYTES
from offerd_slave.journal import frame
from offerd_slave.records import MAX_SEQUENCE, StatusStored
from offerd_slave.settings import SlaveSettings

MIB = 1 << 20
RUNNING, FINISHED, FAILED, LOST = TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED, TaskState.LOST


def status(sequence: int = 2, **more: object) -> m.TaskStatus:
    return m.TaskStatus(TaskID("a"), RUNNING, sequence, **more)  # type: ignore[arg-type]


FAULTS: dict[str, m.Message] = {
    "a sequence that nobody can count on from": m.ExecutorUpdate(2, status(2**64 - 1)),
    "the first sequence that is too high": m.ExecutorUpdate(2, status(MAX_SEQUENCE + 1)),
    "a negative sequence": m.ExecutorUpdate(2, status(-1)),
    "the lowest number there is": m.ExecutorUpdate(-(2**63), status()),
    "a number too high": m.ExecutorUpdate(2**64 - 1, status()),
    "a number that was there": m.ExecutorUpdate(1, status()),
    "a status too large": m.ExecutorUpdate(2, status(data=bytes(MAX_STATUS_BYTES + 1))),
    "a text too large": m.ExecutorUpdate(2, status(message="x" * (MAX_STATUS_BYTES // 4 + 1))),
    "a reason that is a text": m.ExecutorUpdate(2, status(reason="x" * 5000)),
    "too much for its framework": m.FrameworkMessage(
        FRAMEWORK.framework_id, SlaveID("S-1"), COMMAND.executor_id, bytes(MAX_STATUS_BYTES + 1)
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_an_executor_with_an_impossible_claim_is_ended_with_the_reason(what: str) -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.as_it_is(container_id, FAULTS[what])
    assert [each.container_id for each in bench.asked_for(act.DestroyContainer)] == [container_id]
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses() == [("a", FAILED, Reason.EXECUTOR_INVALID)]
    assert frame(bench.disk)


def test_a_registration_with_such_a_status_ends_its_executor_too() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash()
    again.register()
    registration = m.RegisterExecutor(again.container_id, "token", [status(2**64 - 1)], [TaskID("a")])
    again.as_it_is(again.container_id, registration)
    assert again.asked_for(act.DestroyContainer)


def test_the_highest_number_is_taken_and_the_slave_counts_on_from_it() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.update("a", RUNNING, MAX_SEQUENCE, number=MAX_SEQUENCE)
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.statuses()[-1] == ("a", FAILED, Reason.SHIM_DIED)
    assert frame(bench.disk)


def test_after_a_new_registration_an_executor_repeats_its_numbers() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.update("a", RUNNING, 2, number=2)
    bench.register_executor("a")
    bench.update("a", RUNNING, 2, number=2)
    bench.update("a", FINISHED, 3, number=3)
    assert not bench.asked_for(act.DestroyContainer)
    assert [each.number for each in bench.sent_to_executors(m.UpdatesStored)][-1] == 3
    assert bench.core.state.containers[container_id].heard == 3


def test_unknown_tasks_are_ended_and_leave_one_line_and_no_record() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.disk.clear()
    bench.register_executor("a", *(f"never-{number}" for number in range(16_000)))
    assert bench.disk == []
    assert bench.statuses() == []
    assert len(bench.sent_to_executors(m.KillTask)) <= 12_000


def test_even_after_damage_only_so_many_unknown_tasks_are_reported() -> None:
    bench = Bench()
    bench.running(task("a"))
    again = bench.crash(is_damaged=True)
    again.register()
    for number_of_times in range(3):
        again.register_executor("a", *(f"never-{number_of_times}-{number}" for number in range(16_000)))
    assert sum(isinstance(record, StatusStored) for record in again.disk) < 12_100


def test_a_framework_that_acknowledges_nothing_has_its_executors_wait_until_it_does() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    sequence = 1
    while not (heard := bench.asked_for(act.HearExecutor)):
        sequence += 1
        bench.update("a", RUNNING, sequence, data=bytes(MAX_STATUS_BYTES))
        assert sequence * MAX_STATUS_BYTES < 2 * MOST_BYTES, "it is never made to wait"
    assert [(each.container_id, each.is_heard) for each in heard] == [(container_id, False)]
    bench.clear()
    bench.register_executor("a", unacknowledged=(status(sequence + 1, data=bytes(MAX_STATUS_BYTES)),))
    assert bench.statuses() == [], "statuses in a registration wait, too"
    bench.clear()
    bench.acknowledge("a", sequence)
    assert [(each.container_id, each.is_heard) for each in bench.asked_for(act.HearExecutor)] == [
        (container_id, True)
    ]
    bench.update("a", FINISHED, sequence + 1)
    assert bench.statuses() == [("a", FINISHED, "")]


def test_statuses_from_before_a_restart_count_in_the_backlog() -> None:
    bench = Bench()
    bench.running(task("a"))
    for sequence in range(2, 2 + MOST_BYTES // MAX_STATUS_BYTES):
        bench.update("a", RUNNING, sequence, data=bytes(MAX_STATUS_BYTES))
    again = bench.crash()
    again.register()
    container_id = again.register_executor("a")
    assert act.HearExecutor(container_id, False) in again.asked_for(act.HearExecutor)


def test_an_executor_that_needs_more_than_the_slave_has_is_never_begun() -> None:
    bench = Bench()
    bench.register()
    huge = m.ExecutorInfo(COMMAND.executor_id, module=COMMAND.module, resources=Resources.of(cpus=2**50))
    bench.from_master(m.RunTasks(FRAMEWORK, huge, [task("a")]))
    assert bench.statuses() == [("a", TaskState.ERROR, Reason.TASK_INVALID)]
    assert not bench.core.state.containers


def test_a_record_that_cannot_be_written_costs_its_task_and_no_other() -> None:
    bench = Bench()
    bench.running(task("a"), task("b"))
    bench.sync_at_once = False
    bench.update("a", FINISHED, 2, number=3)
    (stored,) = [r for r in bench.disk if isinstance(r, StatusStored) and r.status.state is FINISHED]
    bench.event(ev.RecordRefused(stored, "for a test"))
    bench.synced()
    bench.update("b", FINISHED, 2, number=4)
    while bench.unsynced:
        bench.synced()
    assert bench.statuses() == [("a", LOST, Reason.CHECKPOINT_DAMAGED), ("b", FINISHED, "")]


def test_a_task_that_cannot_be_written_down_is_killed() -> None:
    bench = Bench()
    bench.running(task("a"))
    delivered = bench.disk[0]
    bench.event(ev.RecordRefused(delivered, "for a test"))
    assert [kill.task_id for kill in bench.sent_to_executors(m.KillTask)] == ["a"]
    bench.event(ev.RecordRefused(delivered, "again, and then of one that is gone"))
    bench.event(ev.ExecutorFaulty(ContainerID("unknown"), "for a test"))


def test_no_more_executors_are_begun_than_there_are_descriptors_for() -> None:
    bench = Bench(settings=SlaveSettings(max_containers=1))
    bench.running(task("a"))
    other = m.ExecutorInfo(ExecutorID("other"), module=COMMAND.module)
    bench.from_master(
        m.RunTasks(FRAMEWORK, other, [msgspec.structs.replace(task("b"), executor_id=other.executor_id)])
    )
    bench.run(task("c"))
    assert bench.statuses() == [("b", LOST, Reason.OFFER_EXCEEDED)]
    assert len(bench.core.state.containers) == 1


def test_memory_of_waiting_tasks_is_bounded() -> None:
    bench = Bench()
    bench.register()
    most = QUEUED_MAX_BYTES // MIB
    for number in range(most + 20):
        bench.run(task(f"t{number}", cpus=0.001, data=bytes(MIB - 16 * 1024)))
    assert len(bench.core.state.tasks) == most
    assert bench.statuses() == [(f"t{most + n}", LOST, Reason.OFFER_EXCEEDED) for n in range(20)]
    bench.run(task("small", cpus=0.001))
    bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID("t0")))
    bench.register_executor()
    assert len(bench.sent_to_executors(m.LaunchTask)) == most
    assert not bench.core.state.queued_bytes
    bench.run(*(task(f"more-{number}", cpus=0.001, data=bytes(MIB // 3)) for number in range(2)))
    assert len(bench.sent_to_executors(m.LaunchTask)) == most + 2, (
        "tasks of a registered executor are sent at once"
    )


@pytest.mark.parametrize("how", ["refused", "killed before they begin"])
def test_a_framework_that_acknowledges_nothing_cannot_go_on_launching_either(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LEAST_BYTES", 1 << 14)
    monkeypatch.setattr(backlog, "MOST_BYTES", 1 << 14)
    bench = Bench()
    bench.register()
    for number in range(1000):
        bench.run(task(f"t{number}", cpus=100 if how == "refused" else 1))
        bench.from_master(m.KillTask(FRAMEWORK.framework_id, TaskID(f"t{number}")))
    assert len([record for record in bench.disk if isinstance(record, StatusStored)]) < 100
    assert len(bench.core.statuses.streams) < 100
    last, *_ = [
        each.status
        for each in bench.sent
        if isinstance(each, m.StatusUpdate) and each.status.task_id == "t999"
    ]
    assert (last.state, last.sequence) == (LOST, 0), "the status is sent, and need not be acknowledged"
    assert "has to acknowledge" in last.message
    for _, task_id in list(bench.core.statuses.streams):
        bench.acknowledge(task_id, 1)
    bench.clear()
    bench.run(task("then"))
    assert TaskID("then") in [task_id for _, task_id in bench.core.state.tasks]


@pytest.mark.parametrize("size", [0, 400_000])
def test_messages_of_executors_are_forwarded_only_within_their_allowance(size: int) -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    message = m.FrameworkMessage(FRAMEWORK.framework_id, SlaveID("S-1"), COMMAND.executor_id, bytes(size))

    def passed_on() -> int:
        bench.clear()
        for _ in range(20_000 if not size else 40):
            bench.as_it_is(container_id, message)
        return sum(isinstance(each, m.FrameworkMessage) for each in bench.sent)

    at_once = AT_ONCE_BYTES // (size + MESSAGE_BYTES)
    assert passed_on() == at_once
    assert not passed_on()
    bench.now += 2
    assert passed_on() - 2 * BYTES_A_SECOND // (size + MESSAGE_BYTES) in (0, 1)
    bench.now += 9
    assert passed_on() == at_once
    bench.update("a", FINISHED, 2)
    assert ("a", FINISHED, "") in bench.statuses(), "statuses are not held up"
