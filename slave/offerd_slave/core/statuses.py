"""Status updates: written down, then forwarded, then repeated until the scheduler has acknowledged them.

A terminal status waits for the disk before it is forwarded: many share one sync (`Sync` -> `Stored`), and while one sync
is under way the next batch gathers. A status of a running task is forwarded once it is written: a power loss, which
could take it back, ends the task anyway.
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
"""How a task ends that has hit a limit; but not where its executor says that its call has raised."""
KILLED = -9
"""Exit status of who was ended by SIGKILL, as containers are."""


@dataclass(slots=True)
class Stream:
    """The statuses of one task that the scheduler has not acknowledged."""

    statuses: list[TaskStatus]
    retry_at: float
    backoff_s: float


class Statuses:
    """All streams of a slave."""

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
        """An executor reports. What is known already, or of a task that has ended, is only confirmed to it."""
        container.heard = update.number
        self.take(container, update.status, now, update.number)
        self._note_heard(container)

    def take(self, container: Container, status: TaskStatus, now: float, number: int = 0) -> None:
        """Store what is news. The end of a task that may have hit a limit waits until the module has said so; that of a task
        that has a cgroup, until that is empty and removed.
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
            # Until it is stored, the executor must keep it: we may be killed before.
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
        """The module has said which limit a task had hit that has failed, if any: its last status says so."""
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
        """Nothing is left of the task: what its executor has said of its end is true now."""
        task = container.tasks.get(task_id)
        if task is not None and task.ending is not None and task.failed is None:
            self._store_ending(container, task, task.ending, now)

    def _store_ending(self, container: Container, task: Task, ending: TaskStatus, now: float) -> None:
        self._store(task, ending, now)
        if container.held.pop(task.info.task_id, 0):
            self._note_heard(container)

    def _has_cgroups(self, container: Container) -> bool:
        """Whether each of its tasks has one."""
        return container.places_tasks and self._state.settings.limits_tasks

    def _note_heard(self, container: Container) -> None:
        """How far its executor's updates can be confirmed with the next sync."""
        held = container.held
        self._heard[container.container_id] = min(held.values()) - 1 if held else container.heard

    def say(self, task: Task, state: TaskState, reason: str, message: str) -> None:
        """The slave itself has something to say of a task that goes on; best effort, as its executor counts the statuses."""
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
        """The slave itself says how a task ended."""
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
        """The end of a task that this slave never took, or has no record of."""
        self._append(framework_id, self._made(task_id, executor_id, end, sequence), ContainerID(""), now)

    def turn_away(
        self, framework_id: FrameworkID, task_id: TaskID, executor_id: ExecutorID, end: End, now: float
    ) -> None:
        """The end of a task that this slave does not take. A framework that hears nothing could have us keep these without end:
        of it they are sent once, and kept nowhere. A master that misses one finds that we do not have the task.
        """
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
        """What an executor says, with what only we know: who we are, and why we were killing the task."""
        state, reason, message, limit = status.state, status.reason, status.message, status.limit
        usage = status.usage
        killing, hit = task.killing, task.hit
        if killing is not None and state in (TaskState.KILLED, TaskState.FAILED):
            state, reason, message, limit = killing.state, killing.reason, killing.message, killing.limit
            usage = killing.usage or usage
        elif hit is not None and state is TaskState.FAILED:
            message, limit = f"{message}; {hit.message}".removeprefix("; "), hit.limit
        elif container.phase is Phase.ENDING and container.end and status.exit_status == KILLED:
            # Its executor has seen it killed before it was itself.
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
        self, framework_id: FrameworkID, task_id: TaskID, unheard: list[TaskStatus], now: float
    ) -> None:
        """From the journal: written down before a restart, to be sent once a master has registered us."""
        backoff_s = self._state.settings.update_retry_s
        self.streams[framework_id, task_id] = Stream(unheard, now + backoff_s, backoff_s)
        for status in unheard:
            self.backlog.add(framework_id, status)

    # -- out ----------------------------------------------------------------------------------------------------------

    def acknowledge(self, message: Acknowledge) -> None:
        """The scheduler has heard; hearing a status means having heard all before it."""
        heard = False
        for task_id, sequence in message.updates:
            key = (message.framework_id, task_id)
            stream = self.streams.get(key)
            if stream is None:
                continue
            heard = True
            if stream.statuses[-1].sequence <= sequence:
                self.backlog.remove(message.framework_id, stream.statuses)
                del self.streams[key]
            else:
                done = [status for status in stream.statuses if status.sequence <= sequence]
                self.backlog.remove(message.framework_id, done)
                stream.statuses = [status for status in stream.statuses if status.sequence > sequence]
        if heard:
            self._state.out.append(Append(StatusAcknowledged(message.framework_id, message.updates)))

    def has_ended(self, framework_id: FrameworkID, task_id: TaskID) -> bool:
        """Whether we have said how this task ended, and nobody has acknowledged it yet."""
        stream = self.streams.get((framework_id, task_id))
        return stream is not None and stream.statuses[-1].state.terminal

    def unrecorded(self, refused: StatusStored, why: str, now: float) -> None:
        """It cannot be written down, so it cannot be sent either. If it was the task's end, nobody can say how it ended."""
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
        """We have (another) slave id: acknowledgements find the way back by the id in the status, so all that wait bear it."""
        slave_id = self._state.slave_id
        for stream in self.streams.values():
            stream.statuses = [_stamped(status, slave_id) for status in stream.statuses]
        for updates in (self._unsynced, self._syncing):
            updates[:] = [StatusUpdate(u.framework_id, _stamped(u.status, slave_id)) for u in updates]

    def stored(self, number: int, now: float) -> None:
        """The sync is done: forward what waited for it, and confirm to the executors."""
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
            # A sync done in place is stored after the turn's end: the next may be far away.
            self._confirm(now)

    def end_turn(self, now: float) -> None:
        """Call it when all else that the turn sends is known."""
        self._sync(now)
        if self._confirmable:
            self._confirm(now)

    def _sync(self, now: float) -> None:
        """One sync for all terminal statuses that came since the last one. The more tasks run, the longer a batch gathers: a
        sync costs the kernel about as much as the whole rest of a task's life costs us.
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
        """A (new) master has registered us: it hears everything that is not acknowledged. What waits for the disk follows."""
        waiting = self._awaiting_disk()
        for key, stream in self.streams.items():
            self._resend(key, stream, now, without_terminal=key in waiting)

    def retry_due(self, now: float) -> None:
        """Repeat what was not acknowledged in time. A sync may take longer: what waits for the disk goes on waiting for it."""
        if not self._state.registered or now < self._retry_at:
            return
        waiting = self._awaiting_disk()
        self._retry_at = now + self._state.settings.update_retry_s / 4
        for key, stream in self.streams.items():
            if stream.retry_at <= now:
                stream.backoff_s = min(2 * stream.backoff_s, self._state.settings.update_retry_max_s)
                self._resend(key, stream, now, without_terminal=key in waiting)

    def _awaiting_disk(self) -> set[tuple[FrameworkID, TaskID]]:
        """Tasks whose end must not be sent yet: a power loss could still take it back."""
        return {(u.framework_id, u.status.task_id) for u in (*self._unsynced, *self._syncing)}

    def unheard(self, room_bytes: int) -> tuple[list[RunningTask], int]:
        """Tasks that have ended without the scheduler having acknowledged it, for a hello; and how many more there are
        than fit. A master that believes one of those to run calls it lost, and then passes on nothing else of it: some
        thousands of ends must be unheard for that, so the framework has not read for long, and it is the newest ends
        that are left out. A framework that hears "lost" may do such work twice; it never takes it for done when it is not.
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
        """When to call `retry_due`, at the latest."""
        return self._retry_at if self.streams and self._state.registered else None

    def _resend(
        self, key: tuple[FrameworkID, TaskID], stream: Stream, now: float, *, without_terminal: bool = False
    ) -> None:
        stream.retry_at = now + stream.backoff_s
        for status in stream.statuses:
            if not (without_terminal and status.state.terminal):
                self._state.to_master(StatusUpdate(key[0], status))

    def _confirm(self, now: float) -> None:
        """An executor only has to know in time what it need not keep: a confirmation goes along with whatever else is sent to
        it, or alone after a while.
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
