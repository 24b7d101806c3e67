"""Collecting: how a busy loop gets more to do per turn.

A turn costs the same few dozen microseconds (waking, polling, reading, one write per peer, one sync) however many messages
it carries. A loop that takes its next turn as soon as one message is there therefore spends itself on turns when it is busy.
So a busy loop waits a moment before it reads: the more tasks are in flight, the less each of them suffers, and the more
there is to collect. With one task in flight, or after a quiet moment, nothing waits.
"""

from __future__ import annotations

import time

PAUSE_PER_TASK_S = 5e-6
LONGEST_PAUSE_S = 0.001
SHORTEST_PAUSE_S = 1e-4
"""A sleep costs about as much as this; shorter ones are not worth it."""


class Pacer:
    """Keeps the starts of a loop's turns apart."""

    def __init__(self) -> None:
        self._started = 0.0

    def collect(self, in_flight: int) -> None:
        """Call when there is something to read, before reading it; `in_flight` is the number of tasks that share the loop."""
        pause = in_flight * PAUSE_PER_TASK_S
        if pause >= SHORTEST_PAUSE_S:
            rest = self._started + min(pause, LONGEST_PAUSE_S) - time.monotonic()
            if rest >= SHORTEST_PAUSE_S:
                time.sleep(rest)
        self._started = time.monotonic()
