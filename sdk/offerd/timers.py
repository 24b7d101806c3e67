"""Timers for pure cores: what is due, and when to look again."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """One deadline per key. Setting, cancelling and expiring cost O(log n) with n the timers that are set.

    Cancelled entries stay in the heap until they outnumber the live ones: tens of thousands of tasks a second each set
    a time limit of a minute and cancel it a millisecond later, and the heap must not grow with that.
    """

    def __init__(self) -> None:
        self._when: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0  # breaks ties in the order of setting, so that keys need no order of their own

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: K, when: float) -> None:
        """Due at `when`; replaces the key's earlier deadline."""
        self._when[key] = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 64 + 2 * len(self._when):
            self._compact()

    def when(self, key: K) -> float | None:
        """When the key is due, or None if it is not set."""
        return self._when.get(key)

    def cancel(self, key: K) -> None:
        """Never mind; fine if it is not set."""
        self._when.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        heap = self._heap
        while heap and self._when.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[K]:
        """Take out, one by one and in order, every key whose deadline has come (also those set meanwhile)."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._when[key]
            yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
