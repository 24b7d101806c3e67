"""Writes the journal at once, and syncs it in a thread of its own (group commit)."""

from __future__ import annotations

import os
import queue
import threading
import time

from offerd.daemons.timings import Histogram
from offerd_slave.journal import Journal
from offerd_slave.records import JournalRecord

FEW_TASKS = 8
SLOW_SYNC_S = 0.001


class Storer:
    """`write` is done when it returns; a `sync` is done when `finished` returns its number.

    `fdatasync` releases the interpreter, so the loop goes on meanwhile. At most one is under way, and the next one covers
    what is written during it. `fd` becomes readable when `finished` has something.

    A sync in another thread costs two more wake-ups and another turn of the loop. So `sync_now` does it in the loop's own
    thread if that is cheaper: if few tasks would have to wait for it, and the disk has been fast.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, OSError | None]] = queue.SimpleQueue()
        self._under_way = 0
        self._last_took_s = SLOW_SYNC_S
        self.syncs = Histogram()
        """How long each sync took. (Only one thread syncs at a time.)"""
        self._thread = threading.Thread(target=self._work, name="journal-sync", daemon=True)
        self._thread.start()

    def write(self, records: list[JournalRecord]) -> list[tuple[JournalRecord, str]]:
        """Write all records at once; returns those that the format cannot express, and why. Raises `OSError` (disk full,
        read-only); then none of them is in the journal."""
        return self.journal.append(records)

    def sync(self, number: int) -> None:
        """Sync what is written, and have `finished` return this number then."""
        self._under_way += 1
        self._wanted.put(number)

    def sync_now(self, tasks: int) -> bool:
        """Sync at once, if that is cheaper with this number of tasks. False: it was not done, use `sync`. Raises `OSError`."""
        if tasks > FEW_TASKS or self._under_way or self._last_took_s >= SLOW_SYNC_S:
            return False
        self._timed_sync()
        return True

    def _timed_sync(self) -> None:
        begun = time.monotonic()
        self.journal.sync()
        self._last_took_s = time.monotonic() - begun
        self.syncs.add(self._last_took_s)

    def finished(self) -> list[tuple[int, OSError | None]]:
        """The numbers of finished syncs, each with its error, if any."""
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
        """Whether no sync is under way: only then may the journal's file be replaced."""
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
                self._timed_sync()
            except OSError as caught:
                error = caught
            self._done.put((number, error))
            os.eventfd_write(self.fd, 1)
