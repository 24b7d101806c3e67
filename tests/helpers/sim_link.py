"""A connection in the simulated world: delayed, in order, cut one way or both, broken, moved to another master."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from offerd import messages as m
from offerd.ids import PeerID
from offerd.wire import codec

if TYPE_CHECKING:
    from helpers.sim_cluster import MasterNode, World
    from helpers.sim_scheduler import SchedulerNode
    from helpers.sim_slave import SlaveNode

HEARTBEAT_S = 15.0
"""How long a link with one direction cut exists before ZeroMQ breaks it."""
MAY_REPEAT = (
    m.StatusUpdate,
    m.Acknowledge,
    m.RegisterSlave,
    m.RegisterFramework,
    m.SlaveUsage,
    m.Ping,
    m.Pong,
)
"""Messages that are repeated: one of these may arrive twice, and after later messages."""


class Link:
    """A client's connection to the master."""

    def __init__(self, world: World, client: SlaveNode | SchedulerNode) -> None:
        self.world = world
        self.client = client
        self.generation = 0
        self.master: MasterNode | None = None
        self._last = {True: 0.0, False: 0.0}
        self._cut_until = {True: 0.0, False: 0.0}
        self._breaks_at = 0.0

    @property
    def peer(self) -> PeerID:
        return PeerID(f"{self.client.name}#{self.generation}".encode())

    def up(self, message: m.Message) -> None:
        (decoded,) = codec.to_master.decode(next(codec.frames([message])))[1]
        peer, master = self.peer, self.master or self.world.master
        self.master = master
        self._carry(True, decoded, lambda: master.receive(peer, decoded))

    def down(self, message: m.Message, epoch: int, master: MasterNode) -> None:
        if master is not (self.master or self.world.master):
            return  # the connection is closed
        reader = self.client.codec
        _, (decoded,) = reader.decode(next(codec.frames([message], epoch)))
        self._carry(False, decoded, lambda: self.client.receive(epoch, decoded))

    def cut(self, upwards: bool, seconds: float) -> None:
        """Lose all messages in this direction for so long. Most links are found broken before that, by their heartbeat."""
        self._cut_until[upwards] = self.world.now + seconds
        if self.world.random.random() < 0.7:
            generation = self.generation
            self.world.at(HEARTBEAT_S, lambda: self.break_() if generation == self.generation else None)

    def mend(self) -> None:
        """Carry messages again."""
        self._cut_until = {True: 0.0, False: 0.0}

    def follow(self) -> None:
        """The client connects to the new leader."""
        if self.master is not None and self.master is not self.world.master:
            before, old = self.peer, self.master
            self.generation += 1
            self.master = self.world.master
            self.world.at(0.01, lambda: old.peer_lost(before))
            self.client.connected()

    def _carry(self, upwards: bool, message: m.Message, arrive: Callable[[], None]) -> None:
        if self.world.now < self._cut_until[upwards]:
            return
        generation = self.generation
        if self.world.repeats and isinstance(message, MAY_REPEAT) and self.world.random.random() < 0.1:
            late_s = self.world.random.uniform(0.0, 5.0)
            self.world.at(late_s, lambda: arrive() if generation == self.generation else None)
        when = max(self.world.now + self.world.random.uniform(0.0001, 0.01), self._last[upwards])
        self._last[upwards] = when
        self.world.at(when - self.world.now, lambda: arrive() if generation == self.generation else None)

    def break_(self) -> None:
        before, master = self.peer, self.master or self.world.master
        self.generation += 1
        self.master = self.world.master
        self.world.at(0.01, lambda: master.peer_lost(before))
