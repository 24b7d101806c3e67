"""A whole cluster in one process, from one seed: the real cores of master, slaves and schedulers, in a simulated world.

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
from helpers.shadow import check_replica
from helpers.sim_scheduler import SchedulerNode
from helpers.sim_slave import TURN_S, SlaveNode
from offerd import messages as m
from offerd.daemons.recording import Core
from offerd.ids import PeerID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.core.actions import Drop as MasterDrop
from offerd_master.core.actions import LaterEpochSeen
from offerd_master.core.actions import Send as MasterSend
from offerd_master.core.events import PeerLost, Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import MasterSettings

TURNS_A_CHECK = 5


@dataclass
class Rules:
    """How a world's master allocates, and what its frameworks want beside running their tasks."""

    module: type[Allocator] = DrfAllocator
    settings: MasterSettings = field(default_factory=lambda: MasterSettings(adoption_grace_s=30.0))
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
        """All clients of the master; none while the world is being made."""
        return [*getattr(self, "slaves", []), *getattr(self, "schedulers", [])]

    def at(self, delay_s: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, what))

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Run the world until a condition holds; AssertionError if it does not within this much virtual time."""
        deadline = self.now + limit_s
        while not until():
            if not self._agenda or self._agenda[0][0] > deadline:
                raise AssertionError(f"at {self.now:.3f}: it has not come to hold; {self.unfinished()}")
            self.now, _, what = heapq.heappop(self._agenda)
            what()

    def unfinished(self) -> str:
        return "; ".join(f"{s.name}: {sorted(set(s.tasks) - set(s.ended))}" for s in self.schedulers)

    def steps(self, who: str, name: str, make: Callable[[], Core]) -> Steps:
        """Record a core from now on, for `write_recordings`."""
        self._steps.append(Steps(who, name, make))
        return self._steps[-1]

    def write_recordings(self, directory: Path) -> None:
        """Write a file for every core."""
        for each in self._steps:
            each.write(directory, self.unfinished(), self.now)

    # -- faults ---------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """Cause one random fault."""
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
        """Cause a random fault, perhaps a rare one: one direction cut, long silence, reboot, full disk, two acting masters."""
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
        """Another master leads. The old one and its peers learn that later, each at another time."""
        old = self.master
        self.deposed.append(old)
        self.master = MasterNode(self)
        for client in self.clients():
            self.at(self.random.uniform(0.0, 3.0), client.link.follow)
        self.at(4.0, old.stop)


class MasterNode:
    """The master's core and a simulated daemon."""

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
            check_replica(self.core, self.world.now)
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
            check_replica(self.core, self.world.now)
