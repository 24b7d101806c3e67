"""The journal behind the loop: writes at once, syncs in a thread of its own (group commit)."""

from __future__ import annotations

import os
import queue
import threading
import time

from offerd_slave.journal import Journal
from offerd_slave.records import JournalRecord

FEW_TASKS = 8
SLOW_SYNC_S = 0.001


class Storer:
    """`write` is done when it returns; `sync` when its number comes out of `finished`.

    `fdatasync` releases the interpreter, so the loop goes on meanwhile; one is under way at most, and whatever is written
    during it is covered by the next. `fd` becomes readable when `finished` has news.

    With a thread to hand it to, a sync costs two more wake-ups and another turn of the loop. So `sync_now` does it in the
    loop's own thread where that is the better bargain: few tasks that could wait for it, and a disk that has been quick.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, OSError | None]] = queue.SimpleQueue()
        self._under_way = 0
        self._last_took_s = SLOW_SYNC_S
        self._thread = threading.Thread(target=self._work, name="journal-sync", daemon=True)
        self._thread.start()

    def write(self, records: list[JournalRecord]) -> list[tuple[JournalRecord, str]]:
        """One write for all; returns those that cannot be written at all, and why. Raises OSError (disk full, read-only); then
        nothing of them stands in the journal."""
        return self.journal.append(records)

    def sync(self, number: int) -> None:
        """Bring what is written to the disk, then report this number."""
        self._under_way += 1
        self._wanted.put(number)

    def sync_now(self, tasks: int) -> bool:
        """Bring it to the disk at once, if that is worth it with so many tasks around. False: use `sync`. Raises OSError."""
        if tasks > FEW_TASKS or self._under_way or self._last_took_s >= SLOW_SYNC_S:
            return False
        self._timed_sync()
        return True

    def _timed_sync(self) -> None:
        begun = time.monotonic()
        self.journal.sync()
        self._last_took_s = time.monotonic() - begun

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
                self._timed_sync()
            except OSError as caught:
                error = caught
            self._done.put((number, error))
            os.eventfd_write(self.fd, 1)
