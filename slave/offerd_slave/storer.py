"""The journal behind the loop: writes at once, syncs in a thread of its own (group commit)."""

from __future__ import annotations

import os
import queue
import threading

from offerd_slave.journal import Journal
from offerd_slave.records import JournalRecord


class Storer:
    """`write` is done when it returns; `sync` when its number comes out of `finished`.

    `fdatasync` releases the interpreter, so the loop goes on meanwhile; one is under way at most, and whatever is written
    during it is covered by the next. `fd` becomes readable when `finished` has news.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, OSError | None]] = queue.SimpleQueue()
        self._under_way = 0
        self._thread = threading.Thread(target=self._work, name="journal-sync", daemon=True)
        self._thread.start()

    def write(self, records: list[JournalRecord]) -> None:
        """One write for all. Raises OSError (disk full, read-only); then nothing of them stands in the journal."""
        self.journal.append(records)

    def sync(self, number: int) -> None:
        """Bring what is written to the disk, then report this number."""
        self._under_way += 1
        self._wanted.put(number)

    def finished(self) -> list[tuple[int, OSError | None]]:
        """Numbers whose sync is done, with what went wrong."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        done = []
        while not self._done.empty():
            done.append(self._done.get())
        self._under_way -= len(done)
        return done

    @property
    def idle(self) -> bool:
        """Whether no sync is under way: the journal's file may be replaced only then."""
        return self._under_way == 0

    def close(self) -> None:
        """End the thread; the journal's owner closes the journal."""
        self._wanted.put(None)
        self._thread.join()
        os.close(self.fd)

    def _work(self) -> None:
        while (number := self._wanted.get()) is not None:
            error: OSError | None = None
            try:
                self.journal.sync()
            except OSError as caught:
                error = caught
            self._done.put((number, error))
            os.eventfd_write(self.fd, 1)
