"""Pacing: how a busy loop gets more to do in each turn.

A turn costs about the same (waking with cold caches, polling, reading, one write per peer, one sync) however many messages it
handles. A busy loop that took its next turn as soon as one message is there would spend its time on turns. So it waits a moment
before it reads: a small part of the time that a task takes from launch to end. Half a dozen loops in a row then delay a task
little, and each turn finds several tasks. With few tasks in flight, or at a low rate, nothing waits.
"""

from __future__ import annotations

import time

FEW_TASKS = 64
"""With fewer tasks there is nothing to collect."""
BUSY_TASKS_PER_S = 500.0
"""At a lower rate there is no need to save turns."""
LONGEST_PAUSE_S = 0.005
SHORTEST_PAUSE_S = 1e-4
"""A sleep costs about this much; a shorter one is not worth it."""
PART = 32
"""The pause is this part of the time that a task takes. (8 left a quarter of two cores idle at 10,000 tasks/s.)"""
RATE_WINDOW_S = 0.1


class Pacer:
    """Keeps the starts of a loop's turns apart."""

    def __init__(self) -> None:
        self._started = 0.0
        self._pause = 0.0
        self._measured_at = time.monotonic()
        self._ended_before = 0

    def collect(self, in_flight: int, ended: int) -> None:
        """Call when there is something to read, before reading it. `in_flight`: the tasks that the loop handles now; `ended`:
        how many have ended so far, ever.
        """
        now = time.monotonic()
        elapsed_s = now - self._measured_at
        if elapsed_s >= RATE_WINDOW_S:
            self._pause = _pause(in_flight, (ended - self._ended_before) / elapsed_s)
            self._measured_at, self._ended_before = now, ended
        if self._pause:
            rest = self._started + self._pause - now
            if rest >= SHORTEST_PAUSE_S:
                time.sleep(rest)
                now += rest
        self._started = now


def _pause(in_flight: int, tasks_per_s: float) -> float:
    if in_flight < FEW_TASKS or tasks_per_s < BUSY_TASKS_PER_S:
        return 0.0
    return min(LONGEST_PAUSE_S, in_flight / (PART * tasks_per_s))
