"""A thread that looks into ZooKeeper: whenever it is poked, and again when the time that it has asked for is over.

kazoo calls listeners and watches in threads of its own, which must not be kept: they only poke.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from offerd.masters.zookeeper_access import note_nonsense

if TYPE_CHECKING:
    from kazoo.client import KazooClient

log = logging.getLogger("offerd.zookeeper")


class ZooKeeperThread:
    """`look` is called in this thread, and returns after how many seconds it wants to be called again; None: when it is poked.
    Where the connection breaks, or what was read makes no sense, it is called again after `again_s`.
    """

    def __init__(
        self, client: KazooClient, name: str, look: Callable[[], float | None], again_s: float
    ) -> None:
        self._client = client
        self._look = look
        self._again_s = again_s
        self._is_poked = threading.Event()
        self.is_closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the client, which connects in time, and look."""
        self._client.start_async()
        self._thread.start()

    def poke(self) -> None:
        """Have it look again at once; from any thread."""
        self._is_poked.set()

    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread and the client. Its session ends at once, and its ephemeral nodes go."""
        self.is_closing = True
        self.poke()
        self._client.stop()
        self._thread.join()
        self._client.close()

    def _work(self) -> None:
        from kazoo.exceptions import KazooException

        while not self.is_closing:
            self._is_poked.clear()
            try:
                wait_s = self._look()
            except (KazooException, TimeoutError) as error:
                # The connection broke under the question; a listener hears of its return, or the next try finds it.
                log.debug("zookeeper: %r", error)
                wait_s = self._again_s
            except Exception as error:  # marked: what was read may be anybody's
                note_nonsense(error)
                wait_s = self._again_s
            self._is_poked.wait(wait_s)
