"""Checks the memory of containers and tasks, in a thread of its own, for isolation modules that cannot limit it.

It checks about once a second, and rests twenty times as long as a check took: a thousand processes cost a few percent of one
processor. Between two checks a task may use all memory of the host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from offerd_isolation.base import Isolation, Limitation
from offerd_slave.core.memory import Memory
from offerd_slave.findings import Findings

LOOK_AGAIN_S = 1.0
REST = 20.0


class MemoryWatch:
    """`fd` is readable when `found` has something. If the isolation module limits memory, nothing is checked."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._findings = Findings()
        self.fd = self._findings.fd
        self._watched: list[Memory] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory-watch", daemon=True)
        if isolation.memory_note:
            self._thread.start()

    def watch(self, containers: Iterable[Memory]) -> None:
        """Check these containers from now on, and no others."""
        self._watched = list(containers)

    def found(self) -> list[Limitation]:
        """The tasks and containers found over their memory since the last call."""
        return self._findings.take()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._findings.close()

    def _work(self) -> None:
        rest_s = LOOK_AGAIN_S
        while not self._closing.wait(rest_s):
            began = time.monotonic()
            for each in self._watched:
                if self._closing.is_set():
                    return
                for limitation in self._isolation.over_memory(
                    each.container_id, each.whole_bytes, each.tasks
                ):
                    self._findings.put(limitation)
            rest_s = max(LOOK_AGAIN_S, REST * (time.monotonic() - began))
