"""What the master's daemon measures of itself, for the core to hand on to followers."""

from __future__ import annotations

from typing import Any

from offerd.daemons.timings import Histogram, LoopLag
from offerd.wire.transport import Server
from offerd_master.core.events import Measured
from offerd_master.inbox import Inbox

MEASURE_S = 1.0
"""How often the core is given new figures, while somebody follows."""


class Measuring:
    """Begins when the master leads."""

    def __init__(self, now: float) -> None:
        self.lag = LoopLag(now)
        self.tick = Histogram()
        """One tick of the core: what is due, the turn of allocation, the answers to followers."""
        self._due_at = now

    def is_due(self, now: float) -> bool:
        """Whether the core's figures are old."""
        return now >= self._due_at

    def figures(self, now: float, inbox: Inbox, server: Server[Any]) -> Measured:
        """The figures of this moment."""
        self._due_at = now + MEASURE_S
        gauges = {
            "connections": server.connections,
            "peers_with_backlog": server.peers_with_backlog,
            "peers_waiting": inbox.peers_waiting,
            "bytes_waiting": inbox.bytes_waiting,
        }
        timings = {"tick": self.tick.timing(), "loop_lag": self.lag.histogram.timing()}
        return Measured({"messages_sent": server.sent}, gauges, timings)
