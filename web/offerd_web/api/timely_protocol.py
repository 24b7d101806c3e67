"""HTTP connections on which each request must come, and each answer be taken, in time."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0
"""A client must have sent the whole of a request so long after its beginning; of its first one, after the connection's."""
TAKE_S = 30.0
"""A client that takes nothing of an answer for so long is hung up on."""
LOOK_S = 1.0
"""How often a connection is looked at."""
MORE_CONNECTIONS = 100
"""So many beyond the limit are answered that it is reached. All others are hung up on at once."""
OWES = (h11.IDLE, h11.SEND_BODY)


class TimelyProtocol(H11Protocol):
    """uvicorn's own waits for ever for a request that has begun, and for a client that reads no more: a few thousand such
    connections would shut all others out.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late_s = self._stuck_s = 0.0
        self._late_after: object = None
        self._unsent_bytes = 0
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        limit = self.limit_concurrency
        if limit is not None and len(self.connections) > limit + MORE_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        # uvicorn times a connection that is kept without a request, until the next one begins.
        owes = self.conn.their_state in OWES and self.timeout_keep_alive_task is None
        self._late_s = self._late_s + LOOK_S if owes and self._late_after is self.cycle else 0.0
        self._late_after = self.cycle
        unsent_bytes = self.transport.get_write_buffer_size()
        is_stuck = 0 < self._unsent_bytes <= unsent_bytes
        self._stuck_s = self._stuck_s + LOOK_S if is_stuck else 0.0
        self._unsent_bytes = unsent_bytes
        if self._late_s >= REQUEST_S or self._stuck_s >= TAKE_S:
            # Closing would wait until the client has taken the rest.
            self.transport.abort()
