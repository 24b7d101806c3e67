"""The thread that writes the history, so that nobody waits for the disk.

What waits is written together, and is bounded: while the disk is full, or too slow, the oldest is dropped, and a gap is left in
its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from offerd_web.history.batch import Batch, Gap
from offerd_web.history.schema import HistoryError
from offerd_web.history.store import History

log = logging.getLogger("offerd.web")

MAX_WAITING = 50_000
"""Ends, samples and changes that may wait: those of five seconds in a very busy cluster, and some 100 MB."""
MAX_TOGETHER = 3000
"""So many are written in one transaction, or one batch."""
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 30.0


class _Waiting(NamedTuple):
    batch: Batch
    size: int
    since: float
    """When it came, on the monotonic clock."""
    after: float
    """The time of the batch before it."""


class Writer:
    """Give it batches with `put`; end it with `close`. `History.write` is called by its thread alone."""

    def __init__(
        self, history: History, max_waiting: int = MAX_WAITING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = history
        self._max_waiting = max_waiting
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._size = 0  # of the queue, and of what is being written
        self._last_at: float | None = None
        self._writing_since: float | None = None
        self._gap: Gap | None = None
        self._is_ending = False
        self._why_failing = ""
        self._pause_s = FIRST_PAUSE_S
        self.dropped = 0
        """Batches that were dropped."""
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Have this batch written, after those before it. Returns at once."""
        if batch.is_empty:
            self._last_at = batch.at
            return
        with self._changed:
            after = batch.at if self._last_at is None else min(self._last_at, batch.at)
            self._last_at = batch.at
            waiting = _Waiting(batch, _size(batch), self._clock(), after)
            self._queue.append(waiting)
            self._size += waiting.size
            self._drop_oldest()
            self._changed.notify()

    @property
    def lag_s(self) -> float:
        """How long the oldest that is not written has waited, in seconds."""
        with self._changed:
            since = self._writing_since
            if since is None and self._queue:
                since = self._queue[0].since
            return 0.0 if since is None else max(self._clock() - since, 0.0)

    @property
    def why_failing(self) -> str:
        """Why nothing can be written now; empty: it can."""
        return self._why_failing

    def close(self) -> None:
        """Write what waits, if that can be, and end the thread. The history is not closed."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join()
        if self._queue:
            log.error("the history lacks the last %d answers of the master", len(self._queue))

    # -- The thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_on()
        except BaseException as error:
            self._why_failing = f"the thread that writes the history has ended: {error!r}"
            log.critical("%s", self._why_failing)
            raise

    def _write_on(self) -> None:
        while (taken := self._take()) is not None:
            with self._changed:
                gap, self._gap = self._gap, None
            batches = [each.batch for each in taken]
            if gap is not None:
                batches.insert(0, Batch(at=gap.until, gaps=(gap,)))
            try:
                self._history.write(*batches)
            except HistoryError as error:
                self._put_back(taken, gap)
                if not self._wait_to_try_again(str(error)):
                    return
            else:
                self._note_written(taken)

    def _take(self) -> list[_Waiting] | None:
        """What to write together. None: there is nothing more, ever."""
        with self._changed:
            while not self._queue:
                if self._is_ending:
                    return None
                self._changed.wait()
            taken, size = [self._queue.popleft()], 0
            size = taken[0].size
            while self._queue and size + self._queue[0].size <= MAX_TOGETHER:
                taken.append(self._queue.popleft())
                size += taken[-1].size
            self._writing_since = taken[0].since
            return taken

    def _put_back(self, taken: list[_Waiting], gap: Gap | None) -> None:
        with self._changed:
            self._writing_since = None
            self._gap = _wider(self._gap, gap)
            self._queue.extendleft(reversed(taken))
            self._drop_oldest()

    def _note_written(self, taken: list[_Waiting]) -> None:
        with self._changed:
            self._writing_since = None
            self._size -= sum(each.size for each in taken)
        if self._why_failing:
            log.warning("the history is written again; it lacks %d answers of the master", self.dropped)
            self._why_failing, self._pause_s = "", FIRST_PAUSE_S

    def _wait_to_try_again(self, why: str) -> bool:
        """Returns whether to try."""
        if not self._why_failing:
            log.error("the history is not written: %s", why)
        self._why_failing = why
        end = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        with self._changed:
            while not self._is_ending and (left_s := end - self._clock()) > 0:
                self._changed.wait(left_s)
            return not self._is_ending

    def _drop_oldest(self) -> None:
        """Until the rest may wait. What is being written is not in the queue, and stays."""
        while self._size > self._max_waiting and len(self._queue) > 1:
            oldest = self._queue.popleft()
            self._size -= oldest.size
            self.dropped += 1
            missed = len(oldest.batch.ended) + oldest.batch.ended_missed
            self._gap = _wider(self._gap, Gap(oldest.after, oldest.batch.at, missed))


def _size(batch: Batch) -> int:
    return 1 + len(batch.ended) + len(batch.frameworks) + len(batch.slave_changes) + len(batch.shares)


def _wider(one: Gap | None, other: Gap | None) -> Gap | None:
    """Both in one."""
    if one is None or other is None:
        return one or other
    missed = (one.missed or 0) + (other.missed or 0)
    return Gap(min(one.since, other.since), max(one.until, other.until), missed)
