"""Histograms of how long a daemon's steps take, in the buckets of `offerd.protocol.change_messages.TIMING_BOUNDS_S`."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from offerd.protocol.change_messages import TIMING_BOUNDS_S, Timing

AT_ONCE_S = 1e-4
"""A wait that takes less has found something that was there before it began."""


class Histogram:
    """Counts durations. One thread adds; others may read at any time, and then find the last duration or do not."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(TIMING_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float) -> None:
        """It took this long once more."""
        self.counts[bisect_left(TIMING_BOUNDS_S, took_s)] += 1
        self.sum_s += took_s

    def timing(self) -> Timing:
        """As it is now."""
        return Timing(list(self.counts), self.sum_s)


class LoopLag:
    """How long a daemon's loop leaves waiting what it has to do: in each turn the time from when something was there to read,
    or was due, to when the loop begins to read.

    A loop that has slept was free until it woke. One that has not slept finds what came during its last turn, perhaps right
    after that began to read: so the whole turn counts, which is the longest that anything has waited.
    """

    __slots__ = ("_due_at", "_read_at", "_ready_at", "_waits_at", "histogram")

    def __init__(self, now: float) -> None:
        """The loop begins."""
        self.histogram = Histogram()
        self._read_at = self._ready_at = self._waits_at = self._due_at = now

    def waits(self, now: float, due_at: float) -> None:
        """The loop waits for something to read, and at the latest until `due_at`."""
        self._waits_at, self._due_at = now, due_at

    def woke(self, now: float) -> None:
        """The wait is over."""
        self._ready_at = now if now - self._waits_at >= AT_ONCE_S else self._read_at
        if self._due_at < self._ready_at:
            # What was due before the last turn began to read was done in it.
            self._ready_at = max(self._due_at, self._read_at)

    def reads(self, now: float) -> None:
        """The loop begins to read."""
        self.histogram.add(max(0.0, now - self._ready_at))
        self._read_at = now


def buckets_of(timing: Timing) -> list[tuple[str, float]]:
    """The bounds of a timing's buckets as Prometheus writes them, each with how many durations were no longer."""
    counts = timing.counts[: len(TIMING_BOUNDS_S) + 1]
    counts += [0] * (len(TIMING_BOUNDS_S) + 1 - len(counts))
    return list(zip((*map(str, TIMING_BOUNDS_S), "+Inf"), accumulate(counts), strict=True))
