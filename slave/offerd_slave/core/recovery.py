"""A restarted slave restores its tasks and unacknowledged statuses from its checkpoints and journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from offerd.ids import ContainerID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskState, TaskStatus
from offerd_linux.exits import exit_words
from offerd_slave.core.actions import DestroyContainer
from offerd_slave.core.state import Container, End, Phase, State, Task
from offerd_slave.core.statuses import Statuses
from offerd_slave.records import (
    ContainerCheckpoint,
    ExitRecord,
    JournalRecord,
    StatusAcknowledged,
    StatusStored,
    TaskDelivered,
)


@dataclass(frozen=True, slots=True)
class RecoveredContainer:
    """A container that an earlier slave process has started. `alive`: its shim still runs; otherwise `exit` says how the
    executor ended, if its shim has recorded that.
    """

    checkpoint: ContainerCheckpoint
    alive: bool
    exit: ExitRecord | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """Everything that a restarted slave finds. `rebooted`: the host was booted since, so nothing of it still runs. The slave
    keeps its id, so that the master accepts its report that the tasks are lost.
    """

    slave_id: SlaveID = SlaveID("")
    epoch: int = 0
    rebooted: bool = False
    containers: list[RecoveredContainer] = field(default_factory=list)
    records: list[JournalRecord] = field(default_factory=list)
    orphans: list[ContainerID] = field(default_factory=list)
    mode: str = "active"
    drain_end_at: float | None = None  # as in `State`; of this boot
    drain_grace_s: float | None = None
    is_damaged: bool = False  # some records could not be read


@dataclass(slots=True)
class _Remembered:
    """What the journal says of one task."""

    delivered: TaskDelivered | None = None
    statuses: list[TaskStatus] = field(default_factory=list)
    container_id: ContainerID = ContainerID("")
    acknowledged: int = 0
    ended: bool = False


def restore(state: State, statuses: Statuses, recovered: Recovered, now: float) -> None:
    """Fill a new core from checkpoints and journal. The resulting actions are left in `state.out`."""
    state.slave_id = recovered.slave_id
    state.epoch = recovered.epoch
    state.mode = recovered.mode
    state.drain_end_at, state.drain_grace_s = recovered.drain_end_at, recovered.drain_grace_s
    state.is_journal_damaged = recovered.is_damaged
    for found in recovered.containers:
        checkpoint = found.checkpoint
        container = Container(
            checkpoint.container_id, checkpoint.framework, checkpoint.executor, launched=True, is_adopted=True
        )
        state.add_container(container)
    for (framework_id, task_id), remembered in _replay(recovered.records).items():
        waiting = [status for status in remembered.statuses if status.sequence > remembered.acknowledged]
        if waiting:
            statuses.restore(framework_id, task_id, waiting, now)
        if remembered.ended or remembered.delivered is None:
            continue
        _restore_task(state, statuses, remembered, remembered.delivered, now)
    for found in recovered.containers:
        _restore_container(state, found, recovered.rebooted, now)
    for container_id in recovered.orphans:
        state.log("WARNING", f"ending container {container_id}: this slave has no record of it")
        state.do(DestroyContainer(container_id))


def live_records(state: State, statuses: Statuses) -> list[JournalRecord]:
    """The shortest journal that says the same."""
    records: list[JournalRecord] = []
    for (framework_id, task_id), task in state.tasks.items():
        container = state.containers[task.container_id]
        if task_id in container.tasks:
            records.append(TaskDelivered(framework_id, task.container_id, task.info, task.delivered_s))
            if task.sequence and (framework_id, task_id) not in statuses.streams:
                # Acknowledged already, but a restart must know its sequence and state.
                last = TaskStatus(task_id, task.state, task.sequence)
                records.append(StatusStored(framework_id, task.container_id, last))
                records.append(StatusAcknowledged(framework_id, [(task_id, task.sequence)]))
    for (framework_id, _), stream in statuses.streams.items():
        records += [StatusStored(framework_id, status.container_id, status) for status in stream.statuses]
    return records


def _replay(records: Iterable[JournalRecord]) -> dict[tuple[FrameworkID, TaskID], _Remembered]:
    tasks: dict[tuple[FrameworkID, TaskID], _Remembered] = {}
    for record in records:
        if isinstance(record, TaskDelivered):
            tasks[record.framework_id, record.task.task_id] = _Remembered(record, [], record.container_id)
        elif isinstance(record, StatusStored):
            remembered = tasks.setdefault((record.framework_id, record.status.task_id), _Remembered())
            remembered.container_id = record.container_id
            remembered.statuses.append(record.status)
            remembered.ended = remembered.ended or record.status.state.terminal
        else:
            for task_id, sequence in record.updates:
                remembered_or_none = tasks.get((record.framework_id, task_id))
                if remembered_or_none is None:
                    continue
                remembered_or_none.acknowledged = max(remembered_or_none.acknowledged, sequence)
                if remembered_or_none.ended and remembered_or_none.statuses[-1].sequence <= sequence:
                    del tasks[record.framework_id, task_id]
    return tasks


def _restore_task(
    state: State, statuses: Statuses, remembered: _Remembered, delivered: TaskDelivered, now: float
) -> None:
    container = state.containers.get(remembered.container_id)
    info = delivered.task
    if container is None:
        # Its container's checkpoint is gone or was damaged; its processes are ended as an orphaned container.
        message = "the slave's record of the task's executor was damaged"
        end = End(TaskState.LOST, Reason.CHECKPOINT_DAMAGED, message)
        sequence = remembered.statuses[-1].sequence if remembered.statuses else 0
        statuses.refuse(delivered.framework_id, info.task_id, info.executor_id, end, now, sequence + 1)
        return
    task = Task(delivered.framework_id, container.container_id, info, state.is_long(info))
    task.delivered_s = delivered.monotonic_s
    if remembered.statuses:
        task.sequence = remembered.statuses[-1].sequence
        task.state = remembered.statuses[-1].state
        task.running_s = task.delivered_s if task.state is TaskState.RUNNING else None
    container.tasks[info.task_id] = task
    state.add_task(task)
    if info.time_limit_s is not None:
        state.timers.set(
            ("limit", task.framework_id, info.task_id), delivered.monotonic_s + info.time_limit_s
        )


def _restore_container(state: State, found: RecoveredContainer, rebooted: bool, now: float) -> None:
    container = state.containers[found.checkpoint.container_id]
    if found.alive and not rebooted:
        timeout_s = state.settings.executor_reregistration_timeout_s
        state.timers.set(("executor_registration", container.container_id), now + timeout_s)
        return
    container.phase = Phase.ENDING
    if rebooted:
        container.end = End(TaskState.LOST, Reason.HOST_REBOOTED, "the host was rebooted")
    elif found.exit is not None:
        words = exit_words(found.exit.exit_status)
        how = found.exit.message or f"the executor {words} while no slave ran"
        container.end = End(TaskState.FAILED, Reason.EXECUTOR_EXITED, how, found.exit.exit_status)
    else:
        container.end = End(
            TaskState.FAILED, Reason.SHIM_DIED, "the executor's shim was killed while no slave ran"
        )
    state.do(DestroyContainer(container.container_id))
