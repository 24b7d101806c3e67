"""A slave of a simulated cluster: its real core, its disk, and executors that outlive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helpers.sim_link import Link
from offerd import messages as m
from offerd.ids import ContainerID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd.wire import codec
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.records import ContainerCheckpoint, ExitRecord, JournalRecord
from offerd_slave.settings import SlaveSettings

if TYPE_CHECKING:
    from helpers.sim_cluster import World

TURN_S = 0.001
"""How long a daemon takes from reading to its turn."""
DISK_BYTES = 10 << 30


@dataclass
class FakeExecutor:
    """The executor of one container: its tasks take a random time, and it keeps statuses until they are stored."""

    container_id: ContainerID
    alive: bool = True
    connected: bool = False
    number: int = 0
    running: dict[TaskID, int] = field(default_factory=dict)
    unstored: list[m.ExecutorUpdate] = field(default_factory=list)


class SlaveNode:
    """A slave's core, its disk, and the executors on its host, which outlive it."""

    codec = codec.to_slave

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"host{number}"
        minimum_offers = world.rules.minimum_offers
        self.info = m.SlaveInfo(
            self.name,
            Resources.of(cpus=4, mem="4G"),
            attributes={"rack": f"r{number % 2}"},
            minimum_offer=minimum_offers[number % len(minimum_offers)],
        )
        self.link = Link(world, self)
        self.disk: list[JournalRecord] = []
        self.checkpoints: dict[ContainerID, ContainerCheckpoint] = {}
        self.slave_id = SlaveID("")
        self.saved_epoch = 0
        self.saved_mode = "active"
        self.saved_drain: tuple[float | None, float | None] = (None, None)
        self.executors: dict[ContainerID, FakeExecutor] = {}
        self.life = 0
        self.up = False
        self.rebooted = False
        self.free_bytes = DISK_BYTES
        self.ran: list[tuple[str, TaskID]] = []  # every start of a task on this host
        self._ticking = False

    def start(self) -> None:
        self.life += 1
        self.up = True
        containers = [
            RecoveredContainer(c, self.executors[i].alive, ExitRecord(1)) for i, c in self.checkpoints.items()
        ]
        recovered = Recovered(
            self.slave_id,
            self.saved_epoch,
            self.rebooted,
            containers,
            list(self.disk),
            mode=self.saved_mode,
            drain_end_at=None if self.rebooted else self.saved_drain[0],
            drain_grace_s=self.saved_drain[1],
        )
        self.rebooted = False
        incarnation, info, now = f"{self.name}-{self.life}", self.info, self.world.now

        def make() -> SlaveCore:
            return SlaveCore(SlaveSettings(limits_containers=True), info, incarnation, recovered, now)

        self.core, self.steps = make(), self.world.steps("slave", incarnation, make)
        for executor in self.executors.values():
            executor.connected = False
            if executor.alive and executor.container_id in self.checkpoints:
                self._connect(executor)
        self._schedule_tick()

    def connected(self) -> None:
        """It is connected to another master."""
        if self.up:
            self._event(ev.MasterConnected())

    def crash(self, *, reboots: bool = False, longest_s: float = 8.0) -> None:
        """kill -9; it starts again a little later. A reboot ends everything on its host."""
        if reboots:
            self.rebooted = True
            for executor in self.executors.values():
                executor.alive = False
        if self.up:
            self.up = False
            self.life += 1
            self.link.break_()
            life = self.life
            delay_s = self.world.random.uniform(0.1, longest_s)
            self.world.at(delay_s, lambda: self.start() if life == self.life else None)

    def fill_disk(self) -> None:
        """Fill its disk for a while; the journal can still be written."""

        def empty() -> None:
            self.free_bytes = DISK_BYTES

        self.free_bytes = 0
        self.world.at(self.world.random.uniform(1.0, 60.0), empty)

    def kill_executor(self) -> None:
        alive = [e for e in self.executors.values() if e.alive]
        if alive:
            executor = self.world.random.choice(alive)
            executor.alive = False
            self._later(0.001, lambda: self._event(ev.ExecutorEnded(executor.container_id, ExitRecord(1))))

    def receive(self, epoch: int, message: m.Message) -> None:
        if self.up:
            self._event(ev.FromMaster(epoch, message))

    # -- the shell ------------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        """Do something later, unless the daemon has been restarted by then."""
        life = self.life
        self.world.at(delay_s, lambda: what() if self.up and life == self.life else None)

    def _event(self, event: ev.Event) -> None:
        self.steps.note(self.world.now, event)
        self._perform(self.core.handle(event, self.world.now))
        self._schedule_tick()

    def _schedule_tick(self) -> None:
        self._later(TURN_S, self._tick)

    def _tick(self) -> None:
        self.steps.note(self.world.now, None)
        self._perform(self.core.tick(self.world.now))
        deadline = self.core.next_deadline()
        if deadline is not None:
            self._later(max(TURN_S, deadline - self.world.now), self._tick_if_due)

    def _tick_if_due(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.world.now:
            self._schedule_tick()

    def _perform(self, actions: list[act.Action]) -> None:
        self.disk += [action.record for action in actions if isinstance(action, act.Append)]
        for action in actions:
            if isinstance(action, act.SendToMaster):
                self.link.up(action.message)
            elif isinstance(action, act.SendToExecutor):
                self._send_to_executor(action.container_id, action.message)
            elif isinstance(action, act.Sync):
                number = action.number
                self._later(self.world.random.uniform(0, 0.005), lambda n=number: self._event(ev.Stored(n)))  # type: ignore[misc]
            elif isinstance(action, act.LookAtDisk):
                looked = ev.DiskMeasured(self.free_bytes, DISK_BYTES)
                self._later(0.001, lambda e=looked: self._event(e))  # type: ignore[misc]
            elif isinstance(action, act.SaveSlave):
                self.slave_id, self.saved_epoch = action.slave_id, action.epoch
                self.saved_mode = action.mode
                self.saved_drain = (action.drain_end_at, action.drain_grace_s)
            elif isinstance(action, act.LaunchContainer):
                self._launch(action)
            elif isinstance(action, act.InspectFailure):
                inspected = ev.FailureInspected(action.container_id, action.task_id, None)
                self._later(self.world.random.uniform(0, 0.005), lambda e=inspected: self._event(e))  # type: ignore[misc]
            elif isinstance(action, act.DestroyContainer):
                self._destroy(action.container_id)
            elif isinstance(action, act.ForgetContainer):
                self.checkpoints.pop(action.container_id, None)
            elif isinstance(action, act.Exit):
                self._later(0.05, self.crash)  # after its last messages; it is started again
            elif isinstance(action, act.KillTaskProcesses):
                refused = ev.TaskKillRefused(action.container_id, action.task_id)
                self._later(0.001, lambda e=refused: self._event(e))  # type: ignore[misc]

    # -- the host -------------------------------------------------------------------------------------------------------

    def _launch(self, action: act.LaunchContainer) -> None:
        container_id = action.container_id
        self.checkpoints[container_id] = ContainerCheckpoint(
            container_id, action.framework, action.executor, "token", "noop"
        )
        executor = self.executors[container_id] = FakeExecutor(container_id)
        self._later(0.02, lambda: self._connect(executor))

    def _connect(self, executor: FakeExecutor) -> None:
        def register() -> None:
            if executor.alive:
                executor.connected = True
                statuses = [update.status for update in executor.unstored]
                registration = m.RegisterExecutor(
                    executor.container_id, "token", statuses, list(executor.running)
                )
                self._from_executor(executor, registration)

        self._later(self.world.random.uniform(0.001, 0.5), register)

    def _from_executor(self, executor: FakeExecutor, message: m.Message) -> None:
        if self.up and executor.connected:
            (decoded,) = codec.from_executor.decode(next(codec.frames([message])))[1]
            self._event(ev.FromExecutor(executor.container_id, decoded))

    def _destroy(self, container_id: ContainerID) -> None:
        executor = self.executors.get(container_id)
        if executor is not None:
            executor.alive = False
        self._later(0.003, lambda: self._event(ev.ContainerDestroyed(container_id)))

    def _send_to_executor(self, container_id: ContainerID, message: m.Message) -> None:
        executor = self.executors[container_id]
        if not executor.alive or not executor.connected:
            return
        decoded = codec.to_executor.decode(next(codec.frames([message])))[1][0]
        if isinstance(decoded, m.LaunchTask):
            task_id = decoded.task.task_id
            self.ran.append((self.name, task_id))
            executor.running[task_id] = 1
            self._report(executor, task_id, TaskState.RUNNING)
            duration_s = self.world.random.choice(self.world.rules.durations_s)
            end = self.world.random.choice([TaskState.FINISHED, TaskState.FINISHED, TaskState.FAILED])
            self.world.at(duration_s, lambda: self._report(executor, task_id, end))
        elif isinstance(decoded, m.ExecutorRegistered):
            for update in list(executor.unstored):
                self._from_executor(executor, update)
        elif isinstance(decoded, m.KillTask):
            self._report(executor, decoded.task_id, TaskState.KILLED)
        elif isinstance(decoded, m.UpdatesStored):
            executor.unstored = [u for u in executor.unstored if u.number > decoded.number]
        elif isinstance(decoded, m.Shutdown):
            for task_id in list(executor.running):
                self._report(executor, task_id, TaskState.KILLED)
            executor.alive = False
            self._later(0.01, lambda: self._event(ev.ExecutorEnded(container_id, ExitRecord(0))))

    def _report(self, executor: FakeExecutor, task_id: TaskID, state: TaskState) -> None:
        """Report a status, even if no slave runs."""
        sequence = executor.running.get(task_id)
        if not executor.alive or sequence is None:
            return
        executor.running[task_id] = sequence + 1
        if state.terminal:
            del executor.running[task_id]
        executor.number += 1
        update = m.ExecutorUpdate(executor.number, m.TaskStatus(task_id, state, sequence))
        executor.unstored.append(update)
        self._from_executor(executor, update)
