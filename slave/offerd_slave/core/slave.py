"""`SlaveCore`: the slave as a deterministic machine. All its entry points are in this file.

RunTasks    -> refused, or the task waits in its executor's container, which is launched if needed
executor    -> registers -> tasks are written down and delivered -> statuses come back
status      -> written down -> (terminal: synced to the disk) -> forwarded -> acknowledged -> forgotten
time limit, KillTask, ShutdownFramework, a drain's deadline -> TERM, grace, KILL by the executor; failing that, by the isolation
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from offerd.files_access import FilesSecret
from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import (
    Acknowledge,
    Dropped,
    ExecutorUpdate,
    FrameworkInfo,
    FrameworkMessage,
    KillTask,
    NotLeading,
    NotRegistered,
    Ping,
    Pong,
    Reason,
    RegisterExecutor,
    RegisterSlave,
    RunningTask,
    RunTasks,
    SetSlaveMode,
    ShutdownFramework,
    SlaveInfo,
    SlaveRefused,
    SlaveRegistered,
    StatusUpdate,
    TaskState,
    TaskStatus,
)
from offerd.protocol import files_messages
from offerd.protocol.recording_messages import EventsRecorded, RecordEvents
from offerd.wire.codec import encode_message
from offerd_slave.core import events as ev
from offerd_slave.core.actions import (
    Action,
    LookAtDisk,
    Record,
    RefuseOwners,
    UpdateContainer,
)
from offerd_slave.core.claims import fault_of
from offerd_slave.core.containers import OTHER_USER, Containers
from offerd_slave.core.drain import Drain
from offerd_slave.core.messages_out import MESSAGE_BYTES, Allowances
from offerd_slave.core.recovery import Recovered, restore
from offerd_slave.core.state import REGISTRATION_MAX_BYTES, Container, End, Killing, Phase, State
from offerd_slave.core.statuses import Statuses
from offerd_slave.core.tasks import Tasks
from offerd_slave.core.usage import Usage
from offerd_slave.records import StatusStored, TaskDelivered
from offerd_slave.settings import SlaveSettings

SAY_DROPPED_AGAIN_S = 60.0
"""How often the log says that the master drops the connection, while the reason stays the same."""
_WHY_ENDED: dict[str, str] = {
    Reason.FRAMEWORK_REMOVED: "its framework was removed",
    Reason.USER_CHANGED: OTHER_USER.message,
    Reason.NOT_AUTHORIZED: "its framework may not run as this user, or not at all, any more",
}
"""The messages in tasks' statuses for the reasons for which a master ends executors."""


class SlaveCore:
    """Call `handle` for each event, then `tick` once per turn; both return the actions to perform, in order.

    `now` is the monotonic clock in seconds, the same for every process of one boot, so that time limits survive a restart
    of the slave. `incarnation` is a name that no earlier start of this slave had.
    """

    def __init__(
        self,
        settings: SlaveSettings,
        info: SlaveInfo,
        incarnation: str,
        recovered: Recovered,
        now: float,
        files: FilesSecret | None = None,
    ) -> None:
        """`files`: the secret from which the master derives access to the slave's files, until `FilesSecretRenewed`."""
        self.state = State(settings, info, incarnation)
        self.state.files = files
        self.statuses = Statuses(self.state)
        self.tasks = Tasks(self.state, self.statuses)
        self.containers = Containers(self.state, self.statuses, self.tasks)
        self.turned_away = ""
        """Why the connected master does not accept this slave, as words to follow "the master"; else empty."""
        self._heard_master_at = now
        self._ignored_epoch = -1
        self._other_leader = ""
        self._dropped_why, self._say_dropped_at = "", now
        self._usage = Usage(self.state)
        self._drain = Drain(self.state, self.containers, self.statuses, self._usage.report)
        self._allowances = Allowances()
        restore(self.state, self.statuses, recovered, now)
        self._drain.resume()
        self.state.timers.set(("registration",), now)
        self._usage.begin(now)

    @property
    def expelled(self) -> str:
        """Why the masters refuse this slave for good: its key was revoked. Empty if it was not."""
        return self._drain.expelled

    # -- the three entry points ---------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[Action]:
        """Handle one event."""
        _HANDLERS[type(event)](self, event, now)
        return self._taken()

    def tick(self, now: float) -> list[Action]:
        """When the turn's events are handled: run due timers, and do what is done once per turn."""
        for name, *key in self.state.timers.due(now):
            _TIMERS[name](self, *key, now)
        self.statuses.retry_due(now)
        self.statuses.end_turn(now)
        self.statuses.backlog.end_turn()
        if self.state.lowered:
            self._lower()
        self.state.sent_to.clear()
        self._drain.settle(now)
        return self._taken()

    def next_deadline(self) -> float | None:
        """The latest time for the next `tick`; None if none is needed."""
        retry, timer = self.statuses.next_retry(), self.state.timers.next_deadline()
        return timer if retry is None else retry if timer is None else min(retry, timer)

    def _taken(self) -> list[Action]:
        out, self.state.out = self.state.out, []
        return out

    def _lower(self) -> None:
        """Lower the limits of containers whose tasks have ended: once per turn, after all limits that it raises."""
        for container_id in self.state.lowered:
            container = self.state.containers.get(container_id)
            if container is not None and container.phase is Phase.REGISTERED:
                self.state.do(UpdateContainer(container_id, self.state.limits(container)))
        self.state.lowered.clear()

    # -- the master ---------------------------------------------------------------------------------------------------

    def _from_master(self, event: ev.FromMaster, now: float) -> None:
        """Ignore a master with an older epoch: it does not lead any more. A master that has never led has epoch 0, and only
        says that it does not lead.
        """
        if 0 < event.epoch < self.state.epoch:
            if event.epoch != self._ignored_epoch:
                self._ignored_epoch = event.epoch
                text = f"ignoring a master of epoch {event.epoch}: one of epoch {self.state.epoch} leads"
                self.state.log("WARNING", text)
            return
        self._heard_master_at = now
        _FROM_MASTER[type(event.message)](self, event.message, now)
        if event.epoch > self.state.epoch:
            self.state.epoch = event.epoch
            self.state.save()

    def _registration_due(self, now: float) -> None:
        """Register: repeated until it is answered, and again whenever the master has been silent for too long."""
        quiet_until = self._heard_master_at + self.state.settings.master_silence_s
        if self.state.registered and now < quiet_until:
            self.state.timers.set(("registration",), quiet_until)
        else:
            self._register_unless_expelled(now)

    def _master_connected(self, event: ev.MasterConnected, now: float) -> None:
        self.turned_away = ""
        self._register_unless_expelled(now)

    def _register_unless_expelled(self, now: float) -> None:
        if not self._drain.expelled:
            self._register(now)

    def _register(self, now: float) -> None:
        """Send the slave's registration, with its executors and tasks. Tasks whose end is not acknowledged are listed with
        their terminal state, so that the master does not take them for lost; their statuses follow after the registration.
        """
        state = self.state
        state.registered = False
        running = [
            RunningTask(
                task.framework_id,
                task.info.executor_id,
                task.info.task_id,
                task.info.resources,
                task.state,
                task.info.time_limit_s,
                task.info.name,
                task.container_id,
                task.info.kill_grace_s,
                max(0.0, now - task.delivered_s) if task.delivered_s else 0.0,
                None if task.running_s is None else max(0.0, now - task.running_s),
            )
            for task in state.tasks.values()
        ]
        executors = [container.listed() for container in state.containers.values()]
        info = msgspec.structs.replace(state.info, slave_id=state.slave_id)
        room_bytes = REGISTRATION_MAX_BYTES - len(encode_message(RegisterSlave(info, executors, running)))
        ended, left_out = self.statuses.ended_unacknowledged(room_bytes)
        if left_out:
            state.log("WARNING", f"{left_out} ended tasks do not fit into the registration with the master")
        state.to_master(
            RegisterSlave(
                info,
                executors,
                running + ended,
                epoch=state.epoch,
                mode=state.reported_mode,
                disk_full=state.is_disk_full,
                files=state.files,
                since_s=0.0 if state.registered_since is None else now - state.registered_since,
                memory_note=state.settings.memory_note,
            )
        )
        state.timers.set(("registration",), now + state.settings.register_retry_s)

    def _slave_registered(self, message: SlaveRegistered, now: float) -> None:
        state, self.turned_away = self.state, ""
        if message.slave_id != state.slave_id:
            state.slave_id = message.slave_id
            state.registered = False  # all that waits is sent again, with the new id
            state.save()
        if state.registered_since is None:
            state.registered_since = now
        if not state.registered:
            state.registered = True
            # Even if the id is not new: the journal may hold statuses from before the slave had it.
            self.statuses.adopt_slave_id()
            state.log("INFO", f"registered with master {message.master_id} as {message.slave_id}")
            self.statuses.resend_all(now)
            if state.is_disk_full:
                self._usage.report()  # the disk may have filled up since the registration was sent
        state.timers.set(("registration",), now + state.settings.master_silence_s)

    def _slave_refused(self, message: SlaveRefused, now: float) -> None:
        self.turned_away = f"refuses this slave: {message.message}"
        self.state.log("ERROR", f"the master {self.turned_away}")
        self.state.registered = False
        if message.reason == Reason.KEY_REVOKED:
            self._drain.expelled = (
                self._drain.expelled or f"this slave was taken out of the cluster: {message.message}"
            )
            self._drain.leave(now, grace_s=message.grace_s)
        else:
            self.state.timers.set(("registration",), now + self.state.settings.master_silence_s)

    def _dropped(self, message: Dropped, now: float) -> None:
        """The master drops the connection, and the slave connects again. If the master rejects its registration, that repeats
        for ever, so it is logged only now and then."""
        self.state.registered = False
        self.turned_away = f"has hung up on this slave: {message.why}"
        if message.why != self._dropped_why or now >= self._say_dropped_at:
            self._dropped_why, self._say_dropped_at = message.why, now + SAY_DROPPED_AGAIN_S
            self.state.log("ERROR", f"the master {self.turned_away}; connecting to it again, tasks run on")

    def _not_leading(self, message: NotLeading, now: float) -> None:
        """Log where the leader is, if this master was named by its address. A master named by ZooKeeper is about to lead."""
        self.turned_away = f"stands by; {message.leader.removeprefix('tcp://')} leads"
        if message.leader != self._other_leader:
            self._other_leader = message.leader
            self.state.log(
                "WARNING",
                f"the master {self.turned_away}: masters are best named by their ZooKeeper, as zk://HOST:PORT/path",
            )
        self.state.timers.set(("registration",), now + self.state.settings.register_retry_s)

    def _files_secret_renewed(self, event: ev.FilesSecretRenewed, now: float) -> None:
        self.state.files = event.files
        if self.state.registered:
            self.state.to_master(files_messages.FilesSecretChanged(event.files))

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _run_tasks(self, message: RunTasks, now: float) -> None:
        framework, executor_id = self._with_user(message.framework), message.executor.executor_id
        container = None
        for task in message.tasks:
            refusal = self.tasks.refusal(framework, message.executor, task)
            if refusal is not None:
                self.statuses.turn_away(framework.framework_id, task.task_id, executor_id, refusal, now)
                continue
            if container is None:
                container = self.containers.obtain(framework, message.executor, now)
            self.tasks.add(container, task)
        if container is None:
            return
        if container.phase is Phase.REGISTERED:
            self.tasks.deliver_queue(container, now)
        elif not container.launched:
            self.containers.launch(container, now)

    def _with_user(self, framework: FrameworkInfo) -> FrameworkInfo:
        """The framework with the slave's default user, if it names none."""
        if framework.user or not self.state.settings.default_user:
            return framework
        return msgspec.structs.replace(framework, user=self.state.settings.default_user)

    def _kill_task(self, message: KillTask, now: float) -> None:
        if self.tasks.kill_by_id(message, now):
            return
        if (message.framework_id, message.task_id) not in self.statuses.streams:
            text = "the slave has no such task"
            status = TaskStatus(
                message.task_id,
                TaskState.LOST,
                reason=Reason.TASK_UNKNOWN,
                source="slave",
                message=text,
                slave_id=self.state.slave_id,
            )
            self.state.to_master(StatusUpdate(message.framework_id, status))

    def _task_kill_refused(self, event: ev.TaskKillRefused, now: float) -> None:
        """End the whole container at once: there is no other way to end the task."""
        container = self.state.containers.get(event.container_id)
        if container is not None:
            self.tasks.end_container_of(container.framework_id, event.task_id, now)

    def _task_not_prepared(self, event: ev.TaskNotPrepared, now: float) -> None:
        """Kill the task, which was sent to its executor in this turn."""
        self.state.log("ERROR", f"task {event.task_id}: {event.message}")
        container = self.state.containers.get(event.container_id)
        task = container.tasks.get(event.task_id) if container is not None else None
        if task is not None:
            self.tasks.kill(task, Killing(Reason.LIMITS_NOT_SET, event.message), now, 0.0)

    def _task_cleaned_up(self, event: ev.TaskCleanedUp, now: float) -> None:
        container = self.state.containers.get(event.container_id)
        if container is not None:
            self.statuses.cleaned_up(container, event.task_id, now)

    def _failure_inspected(self, event: ev.FailureInspected, now: float) -> None:
        container = self.state.containers.get(event.container_id)
        if container is None:
            return
        if event.task_id:
            self.statuses.failure_inspected(container, event.task_id, event.hit, now)
        else:
            self.containers.failure_inspected(container, event.hit)

    def _unkillable(self, event: ev.Unkillable, now: float) -> None:
        if not event.task_id:
            self.containers.unkillable(event.container_id, event.unkillable)
            return
        container = self.state.containers.get(event.container_id)
        task = container.tasks.get(event.task_id) if container is not None else None
        if task is not None:
            self.tasks.unkillable(task, event.unkillable)

    def _limit_hit(self, event: ev.LimitHit, now: float) -> None:
        """Note the limit for the status of the task or container, which the kernel or an engine has ended, or is ending."""
        hit = event.limitation
        container = self.state.containers.get(hit.container_id)
        if container is None:
            return
        task = container.tasks.get(hit.task_id)
        if task is not None and hit.fatal:
            self.tasks.kill(task, Killing.by_limit(hit), now, 0.0)
        elif task is not None:
            task.hit = hit
            self.state.log("WARNING", f"task {hit.task_id}: {hit.message}")
        elif not hit.task_id and hit.fatal:
            container.end = End.by_limit(hit)
        elif not hit.task_id:
            container.hit = hit
            self.state.log("WARNING", f"container {hit.container_id}: {hit.message}")

    def _over_watched(self, event: ev.OverDisk | ev.OverMemory, now: float) -> None:
        """End it, as the kernel does not: a container, or a task as for its time limit, but without a grace."""
        hit = event.limitation
        if not hit.task_id:
            self.containers.over_limit(hit)
            return
        container = self.state.containers.get(hit.container_id)
        task = container.tasks.get(hit.task_id) if container is not None else None
        if task is not None:
            self.tasks.kill(task, Killing.by_limit(hit), now, 0.0)

    # -- executors ----------------------------------------------------------------------------------------------------

    def _launch_failed(self, event: ev.LaunchFailed, now: float) -> None:
        """The disk may be the reason: check it, so that no more tasks are taken then."""
        self.containers.launch_failed(event.container_id, event.message)
        self.state.do(LookAtDisk())

    def _from_executor(self, event: ev.FromExecutor, now: float) -> None:
        container = self.state.containers.get(event.container_id)
        if container is None:
            return
        message = event.message
        if fault := fault_of(container, message):
            self.containers.faulty(event.container_id, fault)
        elif type(message) is ExecutorUpdate:
            self.statuses.from_executor(container, message, now)
        elif type(message) is FrameworkMessage:
            self._message_from_executor(container, message.data, now)
        elif type(message) is RegisterExecutor:
            self.containers.register(container, message, now)
            self._drain.registered(container, now)

    def _message_from_executor(self, container: Container, data: bytes, now: float) -> None:
        """Forward a message, best effort: those beyond the framework's allowance are dropped."""
        framework_id = container.framework_id
        if self._allowances.takes(framework_id, len(data) + MESSAGE_BYTES, now):
            executor_id = container.executor.executor_id
            self.state.to_master(FrameworkMessage(framework_id, self.state.slave_id, executor_id, data))
        elif self._allowances.is_news(framework_id):
            text = f"framework {framework_id}: its executors send more than is allowed; messages are dropped"
            self.state.log("WARNING", text)

    def _record_refused(self, event: ev.RecordRefused, now: float) -> None:
        """End the task that the record is about."""
        record = event.record
        if isinstance(record, StatusStored):
            self.statuses.unrecorded(record, event.why, now)
        elif isinstance(record, TaskDelivered):
            task = self.state.tasks.get((record.framework_id, record.task.task_id))
            if task is not None:
                text = f"killed: the slave cannot write it down ({event.why})"
                self.tasks.kill(task, Killing(Reason.CHECKPOINT_DAMAGED, text), now, 0.0)

    def _message_to_executor(self, message: FrameworkMessage, now: float) -> None:
        """Best effort: an executor that is not registered misses it."""
        container = self.state.by_executor.get((message.framework_id, message.executor_id))
        if container is not None and container.phase is Phase.REGISTERED:
            self.state.to_executor(container.container_id, message)

    def _shutdown_framework(self, message: ShutdownFramework, now: float) -> None:
        reason = message.reason or Reason.FRAMEWORK_REMOVED
        end = End(TaskState.KILLED, reason, _WHY_ENDED.get(reason, "the master has ended it"))
        user = message.user or self.state.settings.default_user if message.user is not None else None
        for container in list(self.state.containers.values()):
            if container.framework_id == message.framework_id and user in (None, container.user):
                self.containers.shut_down(container, end, now, message.grace_s)

    # -- the daemon -----------------------------------------------------------------------------------------------------

    def _stored(self, event: ev.Stored, now: float) -> None:
        """A sync in the loop's own thread ends after the turn's `tick`, so what depends on it is done here."""
        self.statuses.stored(event.number, now)
        self._drain.settle(now)

    def _recording_written(self, event: ev.RecordingWritten, now: float) -> None:
        self.state.to_master(
            EventsRecorded(self.state.info.hostname, event.path, event.is_whole, event.fault, event.ticket)
        )


# Handlers of events, messages of the master and timers. Outside of the class, as a recording contains the core's attributes.
_HANDLERS: dict[type, Callable[[SlaveCore, Any, float], None]] = {
    ev.FromMaster: SlaveCore._from_master,
    ev.MasterConnected: SlaveCore._master_connected,
    ev.FromExecutor: SlaveCore._from_executor,
    ev.ExecutorFaulty: lambda core, event, now: core.containers.faulty(event.container_id, event.fault),
    ev.RecordRefused: SlaveCore._record_refused,
    ev.ContainerPreparing: lambda core, event, now: core.containers.preparing(
        event.container_id, event.message, now
    ),
    ev.LaunchFailed: SlaveCore._launch_failed,
    ev.ExecutorEnded: lambda core, event, now: core.containers.executor_ended(event.container_id, event.exit),
    ev.ContainerDestroyed: lambda core, event, now: core.containers.destroyed(event.container_id, now),
    ev.Stored: SlaveCore._stored,
    ev.TaskKillRefused: SlaveCore._task_kill_refused,
    ev.TaskNotPrepared: SlaveCore._task_not_prepared,
    ev.TaskCleanedUp: SlaveCore._task_cleaned_up,
    ev.UnkillableFound: lambda core, event, now: core.tasks.unkillable_found(
        event.container_id, event.task_id, event.unkillable, now
    ),
    ev.Unkillable: SlaveCore._unkillable,
    ev.FailureInspected: SlaveCore._failure_inspected,
    ev.IsolationFailed: lambda core, event, now: core.state.log("ERROR", event.message),
    ev.LimitHit: SlaveCore._limit_hit,
    ev.OverDisk: SlaveCore._over_watched,
    ev.OverMemory: SlaveCore._over_watched,
    ev.UsageMeasured: lambda core, event, now: core._usage.measured(event),
    ev.DiskMeasured: lambda core, event, now: core._usage.disk_measured(event),
    ev.ModeWished: lambda core, event, now: core._drain.obey(event.wish, now),
    ev.LeaveRequested: lambda core, event, now: core._drain.leave(now, at_once=True),
    ev.RecordingWritten: SlaveCore._recording_written,
    ev.FilesSecretRenewed: SlaveCore._files_secret_renewed,
}
_FROM_MASTER: dict[type, Callable[[SlaveCore, Any, float], None]] = {
    SlaveRegistered: SlaveCore._slave_registered,
    SlaveRefused: SlaveCore._slave_refused,
    RunTasks: SlaveCore._run_tasks,
    KillTask: SlaveCore._kill_task,
    Acknowledge: lambda core, message, now: core.statuses.acknowledge(message),
    FrameworkMessage: SlaveCore._message_to_executor,
    ShutdownFramework: SlaveCore._shutdown_framework,
    SetSlaveMode: lambda core, message, now: core._drain.obey(message, now),
    files_messages.RefuseOwners: lambda core, message, now: core.state.do(RefuseOwners(message.numbers)),
    RecordEvents: lambda core, message, now: core.state.do(Record(message.ticket, message.for_s)),
    Ping: lambda core, message, now: core.state.to_master(Pong()),
    NotRegistered: lambda core, message, now: core._register_unless_expelled(now),
    NotLeading: SlaveCore._not_leading,
    Dropped: SlaveCore._dropped,
}
_TIMERS: dict[str, Callable[..., None]] = {
    "registration": SlaveCore._registration_due,
    "usage": lambda core, now: core._usage.measure(now),
    "limit": lambda core, f, t, now: core.tasks.limit_reached(FrameworkID(f), TaskID(t), now),
    "escalate": lambda core, f, t, now: core.tasks.escalate(FrameworkID(f), TaskID(t), now),
    "find_unkillable": lambda core, f, t, now: core.tasks.find_unkillable(FrameworkID(f), TaskID(t), now),
    "executor_registration": lambda core, c, now: core.containers.registration_timed_out(ContainerID(c)),
    "sync": lambda core, now: None,  # end_turn, which follows, does these two
    "confirm": lambda core, now: None,
    "drain": lambda core, now: core._drain.deadline(now),
    "emptied": lambda core, now: core._drain.emptied(now),
    "shutdown": lambda core, c, now: core.containers.shutdown_timed_out(ContainerID(c)),
}
