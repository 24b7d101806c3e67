"""A cluster in virtual time: the master's core, and the peers that are connected to it.

The core is the one that `offerd master` runs, with its allocation module. It is given its peers' messages and the virtual time,
and its messages are handed to the peers. Messages are passed as objects: there are no bytes and no sockets.

The master works in turns, as its daemon does: it handles what has arrived, then ticks. A turn takes no virtual time unless the
cluster has a `clock`. With one, the master is busy for as many virtual seconds as the core's work took on that clock; its
answers leave at the end of the turn, and what arrives meanwhile waits. Python's garbage collector is off in such turns, because
nearly all objects that it would visit are the simulator's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

from offerd import messages as m
from offerd.ids import PeerID
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.core.actions import Action, Drop, Send
from offerd_master.core.events import Event, Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import MasterSettings
from offerd_simulator.engine import Alarm, Engine

NO_PINGS_S = 1e9
"""Ping interval where no peer can be lost: pings would only cost computing time."""
TURN_S = 0.001
"""How long the master collects messages before it handles them."""
EPOCH = 1


class Client(Protocol):
    """A peer of the master: a slave or a scheduler."""

    def receive(self, message: m.Message) -> None: ...


class Cluster:
    """A master's core and its peers. `clock` (seconds) measures the core's computing time; None: it takes no time."""

    def __init__(
        self,
        engine: Engine,
        *,
        allocator: Allocator | None = None,
        settings: MasterSettings | None = None,
        turn_s: float = TURN_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.engine = engine
        self.settings = settings or MasterSettings(ping_interval_s=NO_PINGS_S)
        self.core = MasterCore(
            self.settings, "simulated", EPOCH, allocator or DrfAllocator(self.settings.policy), engine.now
        )
        self.clients: dict[PeerID, Client] = {}
        self.turn_s = turn_s
        self.busy_s = 0.0
        self.longest_turn_s = 0.0
        self.clock = clock
        self._busy_until = 0.0
        self._inbox: list[Event] = []
        self._turn = Alarm(self.engine, self._take_turn)

    # -- Peers ------------------------------------------------------------------------------------------------------

    def connect(self, name: str, client: Client) -> PeerID:
        """Connect a peer; messages to it reach its `receive`."""
        peer = PeerID(name.encode())
        self.clients[peer] = client
        return peer

    def to_master(self, peer: PeerID, message: m.Message) -> None:
        """Send a message to the master, which handles it in its next turn."""
        self._inbox.append(Received(peer, message))
        self._turn.set(max(self.engine.now + self.turn_s, self._busy_until))

    # -- The master's turns -----------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        now = self.engine.now
        inbox, self._inbox = self._inbox, []
        actions: list[Action] = []
        if self.clock is None:
            self._compute(inbox, now, actions)
            self._perform(actions)
        else:
            gc.disable()
            started = self.clock()
            self._compute(inbox, now, actions)
            cost_s = self.clock() - started
            gc.enable()
            self.busy_s += cost_s
            self.longest_turn_s = max(self.longest_turn_s, cost_s)
            self._busy_until = now + cost_s
            self.engine.at(self._busy_until, self._perform, actions)
        self._turn.set(max(self.core.next_deadline(), self._busy_until, now + self.turn_s))

    def _compute(self, inbox: list[Event], now: float, actions: list[Action]) -> None:
        """Run the core for one turn."""
        handle = self.core.handle
        for event in inbox:
            actions += handle(event, now)
        actions += self.core.tick(now)

    def _perform(self, actions: list[Action]) -> None:
        clients = self.clients
        for action in actions:
            if type(action) is Send:
                client = clients.get(action.peer)
                if client is not None:
                    client.receive(action.message)
            elif type(action) is Drop:
                raise AssertionError(f"the master drops a simulated peer: {action.why}")
