"""Status updates: written down, then forwarded, then repeated until the scheduler has acknowledged them.

A terminal status is forwarded only when it is on the disk. Many share one sync (`Sync` -> `Stored`), and during a sync
the next batch gathers. A status of a running task is forwarded once it is written: a power loss, which could lose it, ends
the task anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import (
    Acknowledge,
    ExecutorUpdate,
    Reason,
    RunningTask,
    StatusUpdate,
    TaskState,
    TaskStatus,
    UpdatesStored,
)
from offerd.resources import NOTHING
from offerd.wire.codec import encode_message
from offerd_isolation.base import Limitation
from offerd_slave.core.actions import Append, CleanupTask, InspectFailure, SendToMaster, Sync
from offerd_slave.core.backlog import Backlog
from offerd_slave.core.state import Container, End, Killing, Phase, State, Task
from offerd_slave.records import StatusAcknowledged, StatusStored

FAILING = (TaskState.FAILED, TaskState.KILLED)
"""The states of a task that may have hit a limit (unless its executor reports that its call has raised)."""
KILLED = -9
"""Exit status of a process that was ended by SIGKILL, as containers are."""


@dataclass(slots=True)
class Stream:
    """The statuses of one task that the scheduler has not acknowledged."""

    statuses: list[TaskStatus]
    retry_at: float
    backoff_s: float


class Statuses:
    """The streams of all tasks of a slave."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.streams: dict[tuple[FrameworkID, TaskID], Stream] = {}
        self.backlog = Backlog(state)
        self._unsynced: list[StatusUpdate] = []
        self._syncing: list[StatusUpdate] = []
        self._syncs = 0
        self._heard: dict[ContainerID, int] = {}  # newest update of each executor, not yet confirmed to it
        self._heard_syncing: dict[ContainerID, int] = {}
        self._confirmable: dict[ContainerID, int] = {}
        self._confirm_at: float | None = None
        self._retry_at = 0.0
        self._sync_at = 0.0

    # -- in -----------------------------------------------------------------------------------------------------------

    def from_executor(self, container: Container, update: ExecutorUpdate, now: float) -> None:
        """Take an executor's update. One that is known already, or whose task has ended, is only confirmed."""
        container.heard = update.number
        self.take(container, update.status, now, update.number)
        self._note_heard(container)

    def take(self, container: Container, status: TaskStatus, now: float, number: int = 0) -> None:
        """Store a new status. The end of a task that may have hit a limit waits for the module's answer; the end of a task
        with its own cgroup waits until that is empty and removed.
        """
        task = container.tasks.get(status.task_id)
        if task is None or status.sequence <= task.sequence:
            return
        may_have_hit_limit = (
            self._state.settings.limits_containers
            and status.state in FAILING
            and status.reason != Reason.CALL_RAISED
        )
        if not may_have_hit_limit and not (status.state.terminal and self._has_cgroups(container)):
            self._store(task, self._completed(container, task, status), now)
            return
        if number:
            # The executor must keep it until it is stored, as the slave may be killed before.
            container.held[status.task_id] = number
        if task.ending is not None:
            return
        task.ending = self._completed(container, task, status)
        if may_have_hit_limit:
            task.failed = status
            self._state.do(InspectFailure(container.container_id, status.task_id, status.exit_status))
        else:
            self._state.do(CleanupTask(container.container_id, status.task_id))

    def failure_inspected(
        self, container: Container, task_id: TaskID, hit: Limitation | None, now: float
    ) -> None:
        """The module has reported which limit a failed task had hit, if any: add it to the task's last status."""
        task = container.tasks.get(task_id)
        if task is None or task.failed is None or task.ending is None:
            return
        failed, task.failed = task.failed, None
        if hit is not None:
            if hit.fatal:
                task.killing = task.killing or Killing.by_limit(hit)
            else:
                task.hit = hit
                self._state.log("WARNING", f"task {task_id}: {hit.message}")
            if hit.fatal or failed.state is TaskState.FAILED:
                task.ending = self._completed(container, task, failed)
        if self._has_cgroups(container):
            self._state.do(CleanupTask(container.container_id, task_id))
        else:
            self._store_ending(container, task, task.ending, now)

    def cleaned_up(self, container: Container, task_id: TaskID, now: float) -> None:
        """Nothing is left of the task: store its last status."""
        task = container.tasks.get(task_id)
        if task is not None and task.ending is not None and task.failed is None:
            self._store_ending(container, task, task.ending, now)

    def _store_ending(self, container: Container, task: Task, ending: TaskStatus, now: float) -> None:
        self._store(task, ending, now)
        if container.held.pop(task.info.task_id, 0):
            self._note_heard(container)

    def _has_cgroups(self, container: Container) -> bool:
        """Whether each of its tasks has its own cgroup."""
        return container.places_tasks and self._state.settings.limits_tasks

    def _note_heard(self, container: Container) -> None:
        """Note which of its executor's updates can be confirmed after the next sync."""
        held = container.held
        self._heard[container.container_id] = min(held.values()) - 1 if held else container.heard

    def report(self, task: Task, state: TaskState, reason: str, message: str) -> None:
        """Send a status of the slave's own about a task that goes on. Best effort: it has no sequence number, as the task's
        executor gives those."""
        container = self._state.containers[task.container_id]
        status = TaskStatus(
            task_id=task.info.task_id,
            state=state,
            reason=reason,
            source="slave",
            message=message,
            slave_id=self._state.slave_id,
            executor_id=container.executor.executor_id,
            container_id=container.container_id,
        )
        if self._state.registered:
            self._state.to_master(StatusUpdate(task.framework_id, status))

    def end_task(self, task: Task, end: End, now: float) -> None:
        """Store the last status of a task: the executor's if there is one, else one of the slave's own."""
        container = self._state.containers[task.container_id]
        if task.ending is not None:
            self._store(task, task.ending, now)
            return
        killing = task.killing
        if killing is not None:
            reason, message, limit, usage = killing
            end = End(killing.state, reason, message, end.exit_status, limit, usage or end.usage)
        status = TaskStatus(
            task_id=task.info.task_id,
            state=end.state,
            sequence=task.sequence + 1,
            reason=end.reason,
            source="slave",
            message=end.message,
            exit_status=end.exit_status,
            limit=end.limit,
            usage=end.usage,
            slave_id=self._state.slave_id,
            executor_id=container.executor.executor_id,
            container_id=container.container_id,
        )
        self._store(task, status, now)

    def refuse(
        self,
        framework_id: FrameworkID,
        task_id: TaskID,
        executor_id: ExecutorID,
        end: End,
        now: float,
        sequence: int = 1,
    ) -> None:
        """Store the end of a task that this slave never took, or has no record of."""
        self._append(framework_id, self._made(task_id, executor_id, end, sequence), ContainerID(""), now)

    def turn_away(
        self, framework_id: FrameworkID, task_id: TaskID, executor_id: ExecutorID, end: End, now: float
    ) -> None:
        """Report the end of a task that this slave refuses. If its framework does not acknowledge, the status is sent once and
        not kept, so that refusals do not pile up. A master that misses it learns later that the slave does not have the task.
        """
        self._state.counts.tasks_refused += 1
        if not self.backlog.is_over(framework_id):
            self.refuse(framework_id, task_id, executor_id, end, now)
        elif self._state.registered:
            status = self._made(task_id, executor_id, end, 0)
            self._state.to_master(StatusUpdate(framework_id, status))

    def _made(self, task_id: TaskID, executor_id: ExecutorID, end: End, sequence: int) -> TaskStatus:
        return TaskStatus(
            task_id=task_id,
            state=end.state,
            sequence=sequence,
            reason=end.reason,
            source="slave",
            message=end.message,
            slave_id=self._state.slave_id,
            executor_id=executor_id,
        )

    def _completed(self, container: Container, task: Task, status: TaskStatus) -> TaskStatus:
        """An executor's status, completed with what only the slave knows: its id, and why it was killing the task."""
        state, reason, message, limit = status.state, status.reason, status.message, status.limit
        usage = status.usage
        killing, hit = task.killing, task.hit
        if killing is not None and state in (TaskState.KILLED, TaskState.FAILED):
            state, reason, message, limit = killing.state, killing.reason, killing.message, killing.limit
            usage = killing.usage or usage
        elif hit is not None and state is TaskState.FAILED:
            message, limit = f"{message}; {hit.message}".removeprefix("; "), hit.limit
        elif container.phase is Phase.ENDING and container.end and status.exit_status == KILLED:
            # The container is being killed, and the executor has seen its task die first.
            state, reason, message, _, limit, of_end = container.end
            usage = of_end or usage
        elif state is TaskState.RUNNING and not message and task.state is not TaskState.RUNNING:
            message = self._state.settings.memory_note if task.info.resources.mem_bytes else ""
        return TaskStatus(
            status.task_id,
            state,
            status.sequence,
            reason,
            "executor",
            message,
            status.data,
            status.exit_status,
            limit,
            usage,
            status.timestamp,
            self._state.slave_id,
            container.executor.executor_id,
            container.container_id,
            status.output,
        )

    def _store(self, task: Task, status: TaskStatus, now: float) -> None:
        task.sequence = status.sequence
        task.state = status.state
        if task.running_s is None and status.state is TaskState.RUNNING:
            task.running_s = now
        if status.state.terminal:
            state = self._state
            state.counts.ended(status)
            if task.ending is None:
                container = state.containers[task.container_id]
                if self._has_cgroups(container) and task.info.task_id in container.tasks:
                    state.do(CleanupTask(task.container_id, task.info.task_id))
            state.remove_task(task)
            if state.settings.limits_containers:
                state.lowered.add(task.container_id)
        self._append(task.framework_id, status, task.container_id, now)

    def _append(
        self,
        framework_id: FrameworkID,
        status: TaskStatus,
        container_id: ContainerID,
        now: float,
    ) -> None:
        self._state.counts.statuses_stored += 1
        self._state.out.append(Append(StatusStored(framework_id, container_id, status)))
        self.backlog.add(framework_id, status)
        key = (framework_id, status.task_id)
        stream = self.streams.get(key)
        if stream is None:
            backoff_s = self._state.settings.update_retry_s
            self.streams[key] = Stream([status], now + backoff_s, backoff_s)
        else:
            stream.statuses.append(status)
        update = StatusUpdate(framework_id, status)
        if status.state.terminal:
            self._unsynced.append(update)
        elif self._state.registered:
            self._state.out.append(SendToMaster(update))

    def restore(
        self, framework_id: FrameworkID, task_id: TaskID, waiting: list[TaskStatus], now: float
    ) -> None:
        """Take unacknowledged statuses from the journal, to be sent after the registration with a master."""
        backoff_s = self._state.settings.update_retry_s
        self.streams[framework_id, task_id] = Stream(waiting, now + backoff_s, backoff_s)
        for status in waiting:
            self.backlog.add(framework_id, status)

    # -- out ----------------------------------------------------------------------------------------------------------

    def acknowledge(self, message: Acknowledge) -> None:
        """Forget acknowledged statuses; an acknowledgement also covers all earlier statuses of the task."""
        found = False
        for task_id, sequence in message.updates:
            key = (message.framework_id, task_id)
            stream = self.streams.get(key)
            if stream is None:
                continue
            found = True
            if stream.statuses[-1].sequence <= sequence:
                self.backlog.remove(message.framework_id, stream.statuses)
                del self.streams[key]
            else:
                done = [status for status in stream.statuses if status.sequence <= sequence]
                self.backlog.remove(message.framework_id, done)
                stream.statuses = [status for status in stream.statuses if status.sequence > sequence]
        if found:
            self._state.out.append(Append(StatusAcknowledged(message.framework_id, message.updates)))

    def has_ended(self, framework_id: FrameworkID, task_id: TaskID) -> bool:
        """Whether this task's end is stored and not acknowledged yet."""
        stream = self.streams.get((framework_id, task_id))
        return stream is not None and stream.statuses[-1].state.terminal

    def unrecorded(self, refused: StatusStored, why: str, now: float) -> None:
        """Drop a status that cannot be written down: it must not be sent either. If it was the task's last one, the task is
        reported as lost."""
        key = (refused.framework_id, refused.status.task_id)
        for updates in (self._unsynced, self._syncing):
            updates[:] = [update for update in updates if update.status is not refused.status]
        stream = self.streams.get(key)
        if stream is None or refused.status not in stream.statuses:
            return
        stream.statuses = [status for status in stream.statuses if status is not refused.status]
        self.backlog.remove(refused.framework_id, [refused.status])
        sequence = stream.statuses[-1].sequence + 1 if stream.statuses else 1
        if not stream.statuses:
            del self.streams[key]
        if refused.status.state.terminal and refused.status.reason != Reason.CHECKPOINT_DAMAGED:
            end = End(TaskState.LOST, Reason.CHECKPOINT_DAMAGED, f"its end cannot be written down: {why}")
            self.refuse(*key, refused.status.executor_id, end, now, sequence)

    def adopt_slave_id(self) -> None:
        """Put the slave's new id into all waiting statuses, as acknowledgements are routed by the id in the status."""
        slave_id = self._state.slave_id
        for stream in self.streams.values():
            stream.statuses = [_stamped(status, slave_id) for status in stream.statuses]
        for updates in (self._unsynced, self._syncing):
            updates[:] = [StatusUpdate(u.framework_id, _stamped(u.status, slave_id)) for u in updates]

    def stored(self, number: int, now: float) -> None:
        """The sync is done: forward the statuses that waited for it, and confirm them to the executors."""
        if number != self._syncs:
            return
        syncing, self._syncing = self._syncing, []
        if self._state.registered:
            out = self._state.out
            for update in syncing:
                out.append(SendToMaster(update))
        self._confirmable |= self._heard_syncing
        self._heard_syncing = {}
        if self._confirmable:
            # A sync in the loop's own thread ends after the turn's `end_turn`, and the next turn may be far away.
            self._confirm(now)

    def end_turn(self, now: float) -> None:
        """To be called when everything else that the turn sends is known."""
        self._sync(now)
        if self._confirmable:
            self._confirm(now)

    def _sync(self, now: float) -> None:
        """Sync once for all terminal statuses since the last sync. The more tasks run, the longer a batch gathers: a sync
        costs about as much cpu time as everything else in a task's life.
        """
        if self._syncing:
            return
        if self._unsynced:
            if now < self._sync_at:
                self._state.timers.set(("sync",), self._sync_at)
                return
            settings = self._state.settings
            pause_s = len(self._state.tasks) * settings.sync_pause_per_task_s
            self._sync_at = now + min(pause_s, settings.sync_pause_max_s)
            self._syncing, self._unsynced = self._unsynced, []
            self._heard_syncing, self._heard = self._heard, {}
            self._syncs += 1
            self._state.do(Sync(self._syncs))
        elif self._heard:
            self._confirmable |= self._heard
            self._heard = {}

    def resend_all(self, now: float) -> None:
        """After the registration with a (new) master: send all unacknowledged statuses. Those that wait for the disk follow."""
        waiting = self._awaiting_disk()
        for key, stream in self.streams.items():
            self._resend(key, stream, now, without_terminal=key in waiting)

    def retry_due(self, now: float) -> None:
        """Repeat statuses that were not acknowledged in time, except those that still wait for the disk."""
        if not self._state.registered or now < self._retry_at:
            return
        waiting = self._awaiting_disk()
        self._retry_at = now + self._state.settings.update_retry_s / 4
        for key, stream in self.streams.items():
            if stream.retry_at <= now:
                stream.backoff_s = min(2 * stream.backoff_s, self._state.settings.update_retry_max_s)
                self._resend(key, stream, now, without_terminal=key in waiting)

    def _awaiting_disk(self) -> set[tuple[FrameworkID, TaskID]]:
        """Tasks whose end must not be sent yet, as a power loss could still lose it."""
        return {(u.framework_id, u.status.task_id) for u in (*self._unsynced, *self._syncing)}

    def ended_unacknowledged(self, room_bytes: int) -> tuple[list[RunningTask], int]:
        """Ended tasks whose end is not acknowledged, for a registration of at most `room_bytes`; and how many did not fit.

        If the master believes that one of the latter runs, it reports it as lost, and forwards no other end of it. That takes
        some thousands of unacknowledged ends, of which the newest are left out. A framework may then do such work twice, but
        never takes it for done when it is not.
        """
        listed: list[RunningTask] = []
        left_out = 0
        for (framework_id, task_id), stream in self.streams.items():
            last = stream.statuses[-1]
            if not last.state.terminal:
                continue
            ended = RunningTask(
                framework_id, last.executor_id, task_id, NOTHING, last.state, container_id=last.container_id
            )
            room_bytes -= len(encode_message(ended))
            if room_bytes >= 0:
                listed.append(ended)
            else:
                left_out += 1
        return listed, left_out

    def waiting_for_disk(self) -> bool:
        return bool(self._unsynced or self._syncing)

    def next_retry(self) -> float | None:
        """The latest time for the next call of `retry_due`."""
        return self._retry_at if self.streams and self._state.registered else None

    def _resend(
        self, key: tuple[FrameworkID, TaskID], stream: Stream, now: float, *, without_terminal: bool = False
    ) -> None:
        stream.retry_at = now + stream.backoff_s
        for status in stream.statuses:
            if not (without_terminal and status.state.terminal):
                self._state.counts.statuses_repeated += 1
                self._state.to_master(StatusUpdate(key[0], status))

    def _confirm(self, now: float) -> None:
        """Confirm stored updates to executors, which keep them until then. A confirmation goes with the next message to the
        executor, or alone after a while.
        """
        state = self._state
        if self._confirm_at is None:
            self._confirm_at = now + state.settings.confirm_pause_s
            state.timers.set(("confirm",), self._confirm_at)
        is_late = now >= self._confirm_at
        for container_id, number in list(self._confirmable.items()):
            if container_id not in state.containers:
                del self._confirmable[container_id]
            elif is_late or container_id in state.sent_to:
                del self._confirmable[container_id]
                state.to_executor(container_id, UpdatesStored(number))
        if not self._confirmable:
            self._confirm_at = None
            state.timers.cancel(("confirm",))


def _stamped(status: TaskStatus, slave_id: SlaveID) -> TaskStatus:
    return status if status.slave_id == slave_id else msgspec.structs.replace(status, slave_id=slave_id)
