"""A thread that looks into ZooKeeper whenever it is poked, and after the time that it has asked for.

kazoo calls listeners and watches in threads of its own, which must not be blocked: so these only poke.
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
    """`look` is called in this thread. It returns the number of seconds until it wants to be called again; None: when poked. If
    the connection breaks, or what was read is invalid, it is called again after `again_s`.
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
        """Start the client, which connects in the background, and look."""
        self._client.start_async()
        self._thread.start()

    def poke(self) -> None:
        """Look again at once; to be called from any thread."""
        self._is_poked.set()

    def is_alive(self) -> bool:
        """Whether the thread has started and not ended."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread and the client. Its session ends at once, and its ephemeral nodes are removed."""
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
                # The connection broke during the request. A listener or the next try will notice that it is back.
                log.debug("zookeeper: %r", error)
                wait_s = self._again_s
            except Exception as error:  # marked: ZooKeeper's data may come from anybody
                note_nonsense(error)
                wait_s = self._again_s
            self._is_poked.wait(wait_s)
