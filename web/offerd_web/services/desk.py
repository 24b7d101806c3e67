"""Questions and orders that the gateway passes on to the master, in a few threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from offerd.masters.clusters import Where, resolve
from offerd.operator import OperatorClient
from offerd.operator_messages import Rights
from offerd.workers import Workers
from offerd_web.services.refusal import Refusal

T = TypeVar("T")

THREADS = 4
MOST_WAITING = 64
"""Questions that may wait for a thread. Beyond that they are refused."""
PATIENCE_S = 5.0


class Desk:
    """Passes on questions. They come from the event loop, and are asked in threads."""

    def __init__(self, master: Where) -> None:
        self._master = master
        self.has_keys = resolve(master).keys is not None
        self._workers = Workers(THREADS, "desk")
        self._lock = threading.Lock()
        self._idle: list[OperatorClient] = []
        self._waiting = 0
        self._is_closed = False

    async def ask(self, question: Callable[[OperatorClient], T]) -> T:
        """What this function returns; it is called in a thread, with a client. Raises what it raises, and `Refusal` if too many
        questions wait.
        """
        if self._waiting >= MOST_WAITING:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MOST_WAITING} questions wait for the master already; try again",
                {"Retry-After": "1"},
            )
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._workers.submit(self._ask, question))
        finally:
            self._waiting -= 1

    def _ask(self, question: Callable[[OperatorClient], T]) -> T:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = OperatorClient(self._master, timeout_s=PATIENCE_S)
        try:
            return question(client)
        finally:
            with self._lock:
                if not self._is_closed:
                    self._idle.append(client)
                    client = None
            if client is not None:
                client.close()

    async def rights(self) -> dict[str, Rights]:
        """The rights of all owners of keys that the master knows."""
        return await self.ask(lambda client: {key.name: key.rights for key in client.known_keys()})

    def close(self) -> None:
        """Close the connections that are idle; the others close when their question is answered."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
        self._workers.shutdown(wait=False)
