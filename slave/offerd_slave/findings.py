"""Results of a thread for the slave's loop: a queue, and a descriptor that wakes the loop."""

from __future__ import annotations

import os
import queue
from contextlib import suppress

from offerd_isolation.base import Limitation


class Findings:
    """`fd` is readable when `take` has something."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._found: queue.SimpleQueue[Limitation] = queue.SimpleQueue()

    def put(self, limitation: Limitation) -> None:
        """Add a result; called by the thread."""
        self._found.put(limitation)
        os.eventfd_write(self.fd, 1)

    def take(self) -> list[Limitation]:
        """All results since the last call."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        news = []
        with suppress(queue.Empty):
            while True:
                news.append(self._found.get_nowait())
        return news

    def close(self) -> None:
        """To be called when the thread has ended."""
        os.close(self.fd)
