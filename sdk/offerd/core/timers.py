"""What is due when, for pure cores and for loops: no clock inside, `now` is an argument.

Times are seconds on the clock of the caller's choice. Setting and taking cost O(log n). Cancelled timers are removed when they
are the majority: tens of thousands of tasks a second may each set a time limit of a minute and cancel it a millisecond later,
and year-long refusals may be revoked every second; neither may pile up.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar, TypeVarTuple

K = TypeVar("K", bound=Hashable)
Ts = TypeVarTuple("Ts")

Timer = list[Any]
"""`[when, serial, what]`; `what` is None once taken or cancelled. Serials are unique, so comparing two timers stops there."""

_WHAT = 2
_FEW = 64
"""Fewer cancelled timers than this are not worth removing."""


class Timers(Generic[*Ts]):
    """Timers in the order of their times; those of the same time, in the order of setting."""

    __slots__ = ("_cancelled", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._serial = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """How many timers are set."""
        return len(self._heap) - self._cancelled

    def set(self, when: float, *what: *Ts) -> Timer:
        """Set a timer for `when`. Returns it for `cancel`."""
        self._serial += 1
        timer = [when, self._serial, what]
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Cancel a timer. Does nothing if it was taken or cancelled already."""
        if timer[_WHAT] is None:
            return
        timer[_WHAT] = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._heap) // 2:
            self._heap = [kept for kept in self._heap if kept[_WHAT] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_deadline(self) -> float | None:
        """The earliest time, or None."""
        heap = self._heap
        while heap and heap[0][_WHAT] is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def take(self, now: float) -> tuple[*Ts] | None:
        """Take out the first timer if it is due."""
        when = self.next_deadline()
        if when is None or when > now:
            return None
        timer = heapq.heappop(self._heap)
        what: tuple[*Ts] = timer[_WHAT]
        timer[_WHAT] = None
        return what

    def due(self, now: float) -> Iterator[tuple[*Ts]]:
        """Take out every due timer, one by one and in order, including those set meanwhile."""
        while (what := self.take(now)) is not None:
            yield what


class KeyedTimers(Generic[K]):
    """At most one timer per key."""

    __slots__ = ("_by_key", "_timers")

    def __init__(self) -> None:
        self._timers: Timers[K] = Timers()
        self._by_key: dict[K, Timer] = {}

    def __len__(self) -> int:
        """How many keys are set."""
        return len(self._by_key)

    def set(self, key: K, when: float) -> None:
        """Set the key's timer to `when`, in place of an earlier time."""
        self.cancel(key)
        self._by_key[key] = self._timers.set(when, key)

    def when(self, key: K) -> float | None:
        """When the key is due; None if it has no timer."""
        timer = self._by_key.get(key)
        return None if timer is None else timer[0]

    def cancel(self, key: K) -> None:
        """Cancel the key's timer, if there is one."""
        timer = self._by_key.pop(key, None)
        if timer is not None:
            self._timers.cancel(timer)

    def next_deadline(self) -> float | None:
        """The earliest time, or None."""
        return self._timers.next_deadline()

    def due(self, now: float) -> Iterator[K]:
        """Take out every due key, one by one and in order, including those set meanwhile."""
        for (key,) in self._timers.due(now):
            del self._by_key[key]
            yield key
