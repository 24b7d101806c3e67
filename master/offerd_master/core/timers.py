"""What is due when: a heap of calls that the master owes itself."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Due = Callable[[Any, Any, float], None]
"""Called with the cluster, the subject and now."""

Timer = list[Any]
"""`[deadline, serial, due, subject]`; `due` is None once cancelled. Serials differ, so nothing after them is compared."""

_DUE = 2


class Timers:
    """Calls in the order of their deadlines; those of one deadline in the order in which they were set.

    Cancelled ones are swept out when they are the majority, so that refusals for a year, revoked every second, do not
    pile up.
    """

    __slots__ = ("_cancelled", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._serial = 0
        self._cancelled = 0

    def set(self, deadline: float, due: Due, subject: Any) -> Timer:
        self._serial += 1
        timer = [deadline, self._serial, due, subject]
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """The call is not owed any more; a timer that has run or is cancelled already is passed over."""
        if timer[_DUE] is None:
            return
        timer[2:] = [None, None]
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled > len(self._heap) // 2:
            self._heap = [kept for kept in self._heap if kept[_DUE] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_deadline(self) -> float | None:
        heap = self._heap
        while heap and heap[0][_DUE] is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def run(self, cluster: Any, now: float) -> None:
        """Make the calls that are due."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            timer = heapq.heappop(self._heap)
            due, subject = timer[2:]
            timer[2:] = [None, None]
            due(cluster, subject, now)
