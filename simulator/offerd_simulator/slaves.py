"""Slaves in virtual time: the real core on a host made of numbers, and a small model of it.

`CoreSlave` is `offerd_slave.core` unchanged, with a disk that stores at once and an executor whose tasks are timers. It is for
tens of slaves. For thousands, `ModelSlave` keeps the same contract at a fifth of the cost: it checks the tasks that it is to
run, enforces time limits, and reports RUNNING and one end. A test runs the same scenario with both.

The duration of a task is its `data`: eight bytes, a number of seconds; with infinity it ends only by a limit or a kill.
"""

from __future__ import annotations

import struct

import msgspec

from offerd import messages as m
from offerd.core import slots
from offerd.core.timers import Timer
from offerd.ids import ContainerID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskInfo, TaskState, TaskStatus
from offerd_master.core.pool import Pool
from offerd_simulator.cluster import Cluster
from offerd_simulator.engine import Alarm
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered
from offerd_slave.core.slave import SlaveCore
from offerd_slave.records import ExitRecord
from offerd_slave.settings import SlaveSettings

_SECONDS = struct.Struct("<d")
_NEVER_S = 1e9


def program(duration_s: float) -> bytes:
    """The `data` of a task with this duration."""
    return _SECONDS.pack(duration_s)


def duration_of(info: TaskInfo) -> float:
    seconds: float = _SECONDS.unpack(info.data)[0]
    return seconds


class _Running(msgspec.Struct, gc=False):
    """A task of a model slave, and the timer of its end."""

    info: TaskInfo
    is_long: bool
    end: Timer | None


class ModelSlave:
    """A slave on which nothing goes wrong, as a master and a scheduler see it."""

    def __init__(self, cluster: Cluster, info: m.SlaveInfo) -> None:
        self.cluster = cluster
        self.engine = cluster.engine
        self.info = info
        self.slave_id = SlaveID("")
        self.free = Pool(info.resources)
        self.long_cap = slots.long_quantities(info.resources, info.long_fraction)
        self.long_used: dict[str, int] = {}
        self.tasks: dict[tuple[FrameworkID, TaskID], _Running] = {}
        self.peer = cluster.connect(f"slave-{info.hostname}", self)
        cluster.to_master(self.peer, m.RegisterSlave(info))

    def receive(self, message: m.Message) -> None:
        kind = type(message)
        if kind is m.RunTasks:
            assert isinstance(message, m.RunTasks)
            for info in message.tasks:
                self._run(message.framework.framework_id, info)
        elif kind is m.Ping:
            self.cluster.to_master(self.peer, m.Pong())
        elif kind is m.SlaveRegistered:
            assert isinstance(message, m.SlaveRegistered)
            self.slave_id = message.slave_id
        elif kind is m.KillTask:
            assert isinstance(message, m.KillTask)
            self._kill(message.framework_id, message.task_id, Reason.KILLED_BY_FRAMEWORK)
        elif kind is m.ShutdownFramework:
            assert isinstance(message, m.ShutdownFramework)
            for framework_id, task_id in list(self.tasks):
                if framework_id == message.framework_id:
                    self._kill(framework_id, task_id, Reason.FRAMEWORK_REMOVED)

    def _run(self, framework_id: FrameworkID, info: TaskInfo) -> None:
        is_long = slots.is_long(
            info.time_limit_s, self.info.short_limit_s, info.kill_grace_s, self.info.max_kill_grace_s
        )
        amounts = info.resources.quantities()
        if not self.free.covers(info.resources):
            self._report(framework_id, info.task_id, TaskState.LOST, 1, Reason.OFFER_EXCEEDED)
            return
        if is_long and not slots.fits(self.long_used, self.long_cap, amounts):
            self._report(framework_id, info.task_id, TaskState.LOST, 1, Reason.LONG_TASK_CAP)
            return
        self.free.take(info.resources)
        if is_long:
            for name, amount in amounts.items():
                self.long_used[name] = self.long_used.get(name, 0) + amount
        running = self.tasks[framework_id, info.task_id] = _Running(info, is_long, None)
        self._report(framework_id, info.task_id, TaskState.RUNNING, 1)
        duration_s, limit_s = duration_of(info), info.time_limit_s
        if limit_s is not None and limit_s < duration_s:
            running.end = self.engine.after(
                limit_s, self._end, framework_id, info.task_id, TaskState.KILLED, Reason.TASK_TIMEOUT
            )
        elif duration_s < _NEVER_S:
            running.end = self.engine.after(
                duration_s, self._end, framework_id, info.task_id, TaskState.FINISHED, ""
            )

    def _kill(self, framework_id: FrameworkID, task_id: TaskID, reason: Reason) -> None:
        running = self.tasks.get((framework_id, task_id))
        if running is not None:
            self.engine.cancel(running.end)
            self._end(framework_id, task_id, TaskState.KILLED, reason)

    def _end(self, framework_id: FrameworkID, task_id: TaskID, state: TaskState, reason: str) -> None:
        running = self.tasks.pop((framework_id, task_id))
        self.free.give(running.info.resources)
        if running.is_long:
            for name, amount in running.info.resources.quantities().items():
                self.long_used[name] -= amount
        self._report(framework_id, task_id, state, 2, reason)

    def _report(
        self, framework_id: FrameworkID, task_id: TaskID, state: TaskState, sequence: int, reason: str = ""
    ) -> None:
        status = TaskStatus(task_id, state, sequence, reason, "slave", slave_id=self.slave_id)
        self.cluster.to_master(self.peer, m.StatusUpdate(framework_id, status))


class _Executor:
    """The executor of one container of a `CoreSlave`: each task is a timer."""

    def __init__(self, container_id: ContainerID) -> None:
        self.container_id = container_id
        self.tasks: dict[TaskID, Timer | None] = {}
        self.number = 0


class CoreSlave:
    """The slave's core, on a host without delays."""

    def __init__(self, cluster: Cluster, info: m.SlaveInfo) -> None:
        self.cluster = cluster
        self.engine = cluster.engine
        self.peer = cluster.connect(f"slave-{info.hostname}", self)
        # No master falls silent here, and nobody reads usage figures: both timers would only cost computing time.
        settings = SlaveSettings(
            info.long_fraction,
            info.short_limit_s,
            usage_interval_s=_NEVER_S,
            master_silence_s=_NEVER_S,
            sync_pause_max_s=0.0,
        )
        self.core = SlaveCore(settings, info, info.hostname, Recovered(), self.engine.now)
        self.executors: dict[ContainerID, _Executor] = {}
        self._turn = Alarm(self.engine, self._take_turn)
        self._turn.set(self.engine.now)

    @property
    def slave_id(self) -> SlaveID:
        return self.core.state.slave_id

    def receive(self, message: m.Message) -> None:
        self._event(ev.FromMaster(self.cluster.core.cluster.epoch, message))

    # -- The shell --------------------------------------------------------------------------------------------------

    def _event(self, event: ev.Event) -> None:
        self._perform(self.core.handle(event, self.engine.now))
        self._turn.set(self.engine.now)

    def _take_turn(self) -> None:
        self._perform(self.core.tick(self.engine.now))
        deadline = self.core.next_deadline()
        if deadline is not None and deadline < _NEVER_S:
            self._turn.set(max(deadline, self.engine.now + self.cluster.turn_s))

    def _perform(self, actions: list[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.SendToMaster):
                self.cluster.to_master(self.peer, action.message)
            elif isinstance(action, act.SendToExecutor):
                self._deliver(self.executors[action.container_id], action.message)
            elif isinstance(action, act.Sync):
                self.engine.after(0.0, self._event, ev.Stored(action.number))
            elif isinstance(action, act.LaunchContainer):
                self.executors[action.container_id] = _Executor(action.container_id)
                registration = m.RegisterExecutor(action.container_id, "")
                self.engine.after(0.0, self._event, ev.FromExecutor(action.container_id, registration))
            elif isinstance(action, act.InspectFailure):
                inspected = ev.FailureInspected(action.container_id, action.task_id, None)
                self.engine.after(0.0, self._event, inspected)
            elif isinstance(action, act.DestroyContainer):
                self.engine.after(0.0, self._event, ev.ContainerDestroyed(action.container_id))

    # -- The host ---------------------------------------------------------------------------------------------------

    def _deliver(self, executor: _Executor, message: m.Message) -> None:
        if isinstance(message, m.LaunchTask):
            info = message.task
            duration_s = duration_of(info)
            self._report(executor, info.task_id, TaskState.RUNNING, 1)
            executor.tasks[info.task_id] = (
                self.engine.after(duration_s, self._end, executor, info.task_id, TaskState.FINISHED)
                if duration_s < _NEVER_S
                else None
            )
        elif isinstance(message, m.KillTask):
            self._end(executor, message.task_id, TaskState.KILLED)
        elif isinstance(message, m.Shutdown):
            for task_id in list(executor.tasks):
                self._end(executor, task_id, TaskState.KILLED)
            ended = ev.ExecutorEnded(executor.container_id, ExitRecord(0))
            self.engine.after(0.0, self._event, ended)

    def _end(self, executor: _Executor, task_id: TaskID, state: TaskState) -> None:
        if task_id in executor.tasks:
            self.engine.cancel(executor.tasks.pop(task_id))
            self._report(executor, task_id, state, 2)

    def _report(self, executor: _Executor, task_id: TaskID, state: TaskState, sequence: int) -> None:
        executor.number += 1
        update = m.ExecutorUpdate(executor.number, TaskStatus(task_id, state, sequence, source="executor"))
        self.engine.after(0.0, self._event, ev.FromExecutor(executor.container_id, update))


def add_slaves(
    cluster: Cluster, infos: list[m.SlaveInfo], *, real: bool = False
) -> list[ModelSlave | CoreSlave]:
    """Add slaves that register at once. `real`: with the slave's real core, otherwise models of it."""
    kind = CoreSlave if real else ModelSlave
    return [kind(cluster, info) for info in infos]
