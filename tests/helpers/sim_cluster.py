"""A whole cluster in one process and one seed: the real cores of master, slaves and schedulers, and a world made of lists.

Links are what ZeroMQ over TCP is: in order, delayed, and either whole or broken. A broken link loses what is under way in
both directions and gives the client another routing id. One direction may be cut alone: then what goes there is lost, until
the heartbeat finds the link broken, or not at all. With `repeats`, messages that are sent until answered also arrive twice,
and late. Daemons die between their turns and come back: a slave with what it has written down (or rebooted, with nothing
running), a master with nothing, one epoch later. A master may also be deposed without knowing it: for a while it serves those
who have not heard of the next one. Executors are modelled after the SDK's driver.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.invariants import check_invariants, check_revocations
from helpers.recorded_core import Steps
from helpers.sim_link import Link
from offerd import messages as m
from offerd.core.scheduler_core import Call, Deliver, End, SchedulerCore
from offerd.core.scheduler_core import Send as SchedulerSend
from offerd.daemons.recording import Core
from offerd.ids import ContainerID, ExecutorID, PeerID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd.wire import codec
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.core.actions import Drop as MasterDrop
from offerd_master.core.actions import LaterEpochSeen
from offerd_master.core.actions import Send as MasterSend
from offerd_master.core.events import PeerLost, Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import Settings
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.records import ContainerCheckpoint, ExitRecord, JournalRecord
from offerd_slave.settings import SlaveSettings

EXECUTOR = m.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
TURN_S = 0.001
DISK_BYTES = 10 << 30
TURNS_A_CHECK = 5
WHIMS_END_AT = 130.0


@dataclass
class Rules:
    """How a world's master allocates, and what its frameworks want beside running their tasks."""

    module: type[Allocator] = DrfAllocator
    settings: Settings = field(default_factory=lambda: Settings(adoption_grace_s=30.0))
    roles: tuple[str, ...] = ("*",)  # of the schedulers, in turn
    minimum_offers: tuple[Resources | None, ...] = (None,)  # of the slaves, in turn
    durations_s: tuple[float, ...] = (0.0, 0.01, 0.5, 3.0)
    has_whims: bool = False


class World:
    """Virtual time, links and faults. The master's accounts are checked after all it does, or (three times as fast) after
    one turn of `TURNS_A_CHECK`: what is wrong in them stays wrong.
    """

    def __init__(
        self,
        seed: int,
        slaves: int,
        schedulers: int,
        tasks: int,
        rules: Rules | None = None,
        *,
        checks_often: bool = True,
        repeats: bool = False,
        patience_s: float = 0.0,
    ) -> None:
        self.random = random.Random(seed)
        self.rules = rules or Rules()
        self.checks_often = checks_often
        self.revoked = 0
        self.repeats = repeats
        self.patience_s = patience_s
        self.now = 100.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.epoch = 0
        self._steps: list[Steps] = []
        self.deposed: list[MasterNode] = []
        self.master = MasterNode(self)
        self.slaves = [SlaveNode(self, i) for i in range(slaves)]
        self.schedulers = [SchedulerNode(self, i, tasks) for i in range(schedulers)]
        for node in self.clients():
            node.start()

    def clients(self) -> list[SlaveNode | SchedulerNode]:
        """Everybody who is connected to the master; nobody yet while the world is being made."""
        return [*getattr(self, "slaves", []), *getattr(self, "schedulers", [])]

    def at(self, delay_s: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, what))

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Let the world go on until something holds; AssertionError if it does not in this much virtual time."""
        deadline = self.now + limit_s
        while not until():
            if not self._agenda or self._agenda[0][0] > deadline:
                raise AssertionError(f"at {self.now:.3f}: it has not come to hold; {self.unfinished()}")
            self.now, _, what = heapq.heappop(self._agenda)
            what()

    def unfinished(self) -> str:
        return "; ".join(f"{s.name}: {sorted(set(s.tasks) - set(s.ended))}" for s in self.schedulers)

    def steps(self, who: str, name: str, make: Callable[[], Core]) -> Steps:
        """What a core does from now on, for `write_recordings`."""
        self._steps.append(Steps(who, name, make))
        return self._steps[-1]

    def write_recordings(self, directory: Path) -> None:
        """Of every core that there was, one file."""
        for each in self._steps:
            each.write(directory, self.unfinished(), self.now)

    # -- faults ---------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """One thing goes wrong, at random."""
        choice = self.random.random()
        if choice < 0.35:
            self.random.choice(self.clients()).link.break_()
        elif choice < 0.6:
            self.random.choice(self.slaves).crash()
        elif choice < 0.75:
            self.master.restart()
        else:
            self.random.choice(self.slaves).kill_executor()

    def worse_fault(self) -> None:
        """Also what is rarer: one direction cut, a long silence, a reboot, a full disk, two masters that both act."""
        choice = self.random.random()
        if choice < 0.25:
            link = self.random.choice(self.clients()).link
            link.cut(self.random.choice([True, False]), self.random.uniform(1.0, 60.0))
        elif choice < 0.4:
            link = self.random.choice(self.clients()).link
            for upwards in (True, False):
                link.cut(upwards, self.random.uniform(1.0, 60.0))
        elif choice < 0.5:
            self.random.choice(self.slaves).crash(reboots=True)
        elif choice < 0.6:
            self.random.choice(self.slaves).fill_disk()
        elif choice < 0.75:
            self.depose()
        else:
            self.fault()

    def depose(self) -> None:
        """Another master leads. The old one does not know it yet, and neither do its peers, each for a time of its own."""
        old = self.master
        self.deposed.append(old)
        self.master = MasterNode(self)
        for client in self.clients():
            self.at(self.random.uniform(0.0, 3.0), client.link.follow)
        self.at(4.0, old.stop)


class MasterNode:
    """The master's core and its shell."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = 0
        self._ticking = False
        self._turns = 0
        self._stopped = False
        self.restart()

    def stop(self) -> None:
        """Its lease is over."""
        self._stopped = True

    def restart(self) -> None:
        self.world.epoch += 1
        self.epoch = self.world.epoch
        rules = self.world.rules
        name, epoch, now = f"master{self.epoch}", self.epoch, self.world.now

        def make() -> MasterCore:
            return MasterCore(rules.settings, name, epoch, rules.module(rules.settings.policy), now)

        self.core, self.steps = make(), self.world.steps("master", name, make)
        if getattr(self.world, "master", self) is self:
            for client in self.world.clients():
                client.link.generation += 1
        self._schedule_tick()

    def receive(self, peer: PeerID, message: m.Message) -> None:
        if self._stopped:
            return
        self._event(Received(peer, message))

    def peer_lost(self, peer: PeerID) -> None:
        self._event(PeerLost(peer))

    def _event(self, event: Received | PeerLost) -> None:
        self.steps.note(self.world.now, event)
        self._perform(self.core.handle(event, self.world.now))
        self._schedule_tick()

    def _schedule_tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.world.at(TURN_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        if self._stopped:
            return
        self.steps.note(self.world.now, None)
        actions = self.core.tick(self.world.now)
        self.world.revoked += check_revocations(self.core, actions)
        self._perform(actions)
        self._turns += 1
        if self.world.checks_often or not self._turns % TURNS_A_CHECK:
            check_invariants(self.core)
        epoch, delay_s = self.epoch, max(TURN_S, self.core.next_deadline() - self.world.now)
        self.world.at(delay_s, lambda: self._schedule_tick() if epoch == self.epoch else None)

    def _perform(self, actions: list[Any]) -> None:
        clients = {client.link.peer: client for client in self.world.clients()}
        for action in actions:
            if isinstance(action, MasterSend):
                client = clients.get(action.peer)
                if client is not None:
                    client.link.down(action.message, self.epoch, self)
            elif isinstance(action, LaterEpochSeen):
                self._stopped = True
            else:
                assert not isinstance(action, MasterDrop), action
        if self.world.checks_often:
            check_invariants(self.core)


@dataclass
class FakeExecutor:
    """What runs in one container: tasks that take a random time, statuses kept until stored."""

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
        """Its connection to another master stands."""
        if self.up:
            self._event(ev.MasterConnected())

    def crash(self, *, reboots: bool = False, longest_s: float = 8.0) -> None:
        """kill -9; somebody starts it again a little later. A reboot ends everything on its host."""
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
        """For a while; what is written still finds room."""

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
        """In this life of the daemon; what another life would do is not done."""
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
                self._tell(action.container_id, action.message)
            elif isinstance(action, act.Sync):
                number = action.number
                self._later(self.world.random.uniform(0, 0.005), lambda n=number: self._event(ev.Stored(n)))  # type: ignore[misc]
            elif isinstance(action, act.LookAtDisk):
                looked = ev.DiskLooked(self.free_bytes, DISK_BYTES)
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
                self._later(0.05, self.crash)  # its goodbye leaves first, and somebody starts it again
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
        def hello() -> None:
            if executor.alive:
                executor.connected = True
                statuses = [update.status for update in executor.unstored]
                hello = m.RegisterExecutor(executor.container_id, "token", statuses, list(executor.running))
                self._from_executor(executor, hello)

        self._later(self.world.random.uniform(0.001, 0.5), hello)

    def _from_executor(self, executor: FakeExecutor, message: m.Message) -> None:
        if self.up and executor.connected:
            (decoded,) = codec.from_executor.decode(next(codec.frames([message])))[1]
            self._event(ev.FromExecutor(executor.container_id, decoded))

    def _destroy(self, container_id: ContainerID) -> None:
        executor = self.executors.get(container_id)
        if executor is not None:
            executor.alive = False
        self._later(0.003, lambda: self._event(ev.ContainerDestroyed(container_id)))

    def _tell(self, container_id: ContainerID, message: m.Message) -> None:
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
        """Whether or not a slave listens."""
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


class SchedulerNode:
    """A scheduler's core and a framework that wants to run its tasks once each."""

    codec = codec.to_scheduler

    def __init__(self, world: World, number: int, tasks: int) -> None:
        self.world = world
        self.name = name = f"framework{number}"
        self.link = Link(world, self)
        role = world.rules.roles[number % len(world.rules.roles)]
        info = m.FrameworkInfo(
            name,
            role=role,
            executors=[EXECUTOR],
            failover_timeout_s=600.0,
            unreachable_timeout_s=world.patience_s,
        )
        self.core = SchedulerCore(info)
        limits = [2.0, 30.0, 60.0, None]
        self.waiting = [
            m.TaskInfo(
                TaskID(f"{name}-{i}"),
                Resources.of(cpus=world.random.choice([0.5, 1, 2]), mem="64M"),
                EXECUTOR.executor_id,
                time_limit_s=world.random.choice(limits),
            )
            for i in range(tasks)
        ]
        self.tasks = {task.task_id: task for task in self.waiting}
        self.ended: dict[TaskID, list[m.TaskStatus]] = {}
        self.errors: list[str] = []

    def start(self) -> None:
        self._perform(self.core.start(self.world.now))
        self._tick()
        if self.world.rules.has_whims:
            self._have_whim()

    def receive(self, epoch: int, message: m.Message) -> None:
        if self.core.obeys(epoch):
            self._perform(self.core.handle(message, self.world.now))

    def connected(self) -> None:
        """Its connection to another master stands."""
        self._perform(self.core.link_changed(False, self.world.now))
        self._perform(self.core.link_changed(True, self.world.now))

    def _have_whim(self) -> None:
        """Now and then it wants other slaves, more at once, or nothing; at last whatever it can get."""
        chance, core, now = self.world.random, self.core, self.world.now
        if now > WHIMS_END_AT:
            self._perform([*core.set_filters(m.Filters(), now), *core.set_needs_offers(True, now)])
            self._perform(core.revive_offers(now))
            return
        filters = [
            m.Filters(),
            m.Filters(minimum=Resources.of(cpus=2)),
            m.Filters(attributes_match={"rack": "r[01]"}, minimum=Resources.of(cpus=1)),
            m.Filters(attributes={"rack": "r1"}, attributes_exist=["rack"]),
            m.Filters(attributes_exist=["gpu"]),
        ]
        self._perform(core.set_filters(chance.choice(filters), now))
        self._perform(core.set_needs_offers(chance.random() < 0.8, now))
        if chance.random() < 0.3:
            self._perform(core.revive_offers(now))
        self.world.at(chance.uniform(0.2, 4.0), self._have_whim)

    def _give_up(self, task_ids: list[TaskID]) -> None:
        """A notice of revocation: sometimes some of these, or of the others, are ended by the framework itself."""
        chance = self.world.random
        mine = [*task_ids, *(task_id for task_id in self.tasks if task_id not in self.ended)]
        for task_id in chance.sample(mine, chance.randrange(len(task_ids) + 1)):
            if all(task_id != task.task_id for task in self.waiting):
                self._perform(self.core.kill_task(task_id, None, self.world.now))

    def _tick(self) -> None:
        self._perform(self.core.tick(self.world.now))
        self.world.at(max(0.05, self.core.next_deadline() - self.world.now), self._tick)

    def _perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, SchedulerSend):
                self.link.up(action.message)
            elif isinstance(action, Deliver):
                if action.status.state.terminal:
                    self.heard_end(action.status)
                self.core.delivered(action.status)
            elif isinstance(action, Call) and action.callback == "resource_offers":
                for offer in action.arguments[0]:
                    self._perform(self._answer(offer))
            elif isinstance(action, Call) and action.callback == "revocation_notice":
                self._give_up(action.arguments[0])
            elif isinstance(action, End):
                self.errors.append(f"{action.reason}: {action.message}")
        for message in self.core.acknowledgements():
            self.link.up(message)

    def heard_end(self, status: m.TaskStatus) -> None:
        self.ended.setdefault(status.task_id, []).append(status)

    def _answer(self, offer: m.Offer) -> list[Any]:
        free, taken = offer.resources, []
        for task in list(self.waiting):
            if free.covers(task.resources) and self.world.random.random() < 0.9:
                free = free - task.resources
                taken.append(task)
                self.waiting.remove(task)
        if not taken:
            return self.core.decline_offer([offer.offer_id], 1.0, self.world.now)
        return self.core.reply_to_offer([offer.offer_id], taken, 0.0, self.world.now)
