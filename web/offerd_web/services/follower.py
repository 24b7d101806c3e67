"""Follows the leading master: a thread that asks what has changed, and hands each answer to the gateway's event loop.

It asks for more only when the answer before has been taken over, so a slow gateway asks less often, and the master never waits
for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from offerd.core.replica import Replica
from offerd.errors import MasterUnreachable, OfferdError
from offerd.masters.clusters import Where
from offerd.operator import OperatorClient
from offerd.protocol.change_messages import Changes

log = logging.getLogger("offerd.web")

RETRY_S = 1.0
"""Time between two tries while the master refuses us."""
WAIT_S = 1.0
"""How long the master may wait where nothing changes. So often we hear that it is there; and so long it may take to stop."""
ANSWER_S = 3.0
"""How long an answer may take beside that."""


class Follower:
    """`take` is called in the event loop with each answer, and `absent` with a reason while there is none."""

    def __init__(
        self, master: Where, replica: Replica, take: Callable[[Changes], None], absent: Callable[[str], None]
    ) -> None:
        self._master = master
        self._replica = replica
        self._take = take
        self._absent = absent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.leader = ""
        """`HOST:PORT` of the master that answered last; empty: none has."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin. `take` and `absent` are called in this loop."""
        self._loop = loop
        self._thread.start()

    async def stop(self) -> None:
        """End, after the answer that is waited for at most."""
        self._is_ending.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with OperatorClient(self._master, timeout_s=ANSWER_S) as client:
            client.tries_on = True
            while not self._is_ending.is_set():
                try:
                    changes = client.changes(self._replica, wait_s=WAIT_S)
                except MasterUnreachable as error:
                    self._in_loop(self._absent, str(error))
                except OfferdError as error:
                    log.warning("%s", error)
                    self._in_loop(self._absent, str(error))
                    self._is_ending.wait(RETRY_S)
                else:
                    self.leader = client.leader
                    self._in_loop(self._take, changes)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Call it in the event loop, and wait until it has returned."""
        assert self._loop is not None
        done = threading.Event()

        def call() -> None:
            try:
                function(*arguments)
            finally:
                done.set()

        self._loop.call_soon_threadsafe(call)
        while not done.wait(ANSWER_S) and not self._is_ending.is_set():
            log.warning("an answer of the master has waited for %.0f s to be taken over", ANSWER_S)
