"""Looks at the memory of containers and tasks, in a thread of its own, for isolation modules that cannot have it limited.

It looks about once a second, and rests twenty times as long as it worked: a thousand processes cost a few percent of one
processor. Between two looks a task may take what the host has.
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
    """`fd` is readable when `found` has news. Nothing is looked at where memory is limited."""

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
        """From now on these, and no others."""
        self._watched = list(containers)

    def found(self) -> list[Limitation]:
        """Who is over, since the last call."""
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
