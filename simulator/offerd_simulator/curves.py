"""A quantity that changes in steps over virtual time, such as the resources that a framework holds."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise


class Curve:
    """Steps `(when, value)` from the first instant on. Changes must be added in the order of time."""

    def __init__(self, start: float = 0.0) -> None:
        self.times = [start]
        self.values = [0]

    @property
    def value(self) -> int:
        """The present value."""
        return self.values[-1]

    def add(self, when: float, change: int) -> None:
        """Change the value by this much."""
        if when == self.times[-1]:
            self.values[-1] += change
        else:
            self.times.append(when)
            self.values.append(self.values[-1] + change)

    def at(self, when: float) -> int:
        """The value at an instant; 0 before the first step."""
        place = bisect_right(self.times, when)
        return self.values[place - 1] if place else 0

    def integral(self, start: float, end: float) -> float:
        """The integral over time, in value times seconds."""
        first = max(bisect_right(self.times, start) - 1, 0)
        last = bisect_right(self.times, end)
        spans = pairwise([*self.times[first:last], end])
        total = 0.0
        for (begin, until), value in zip(spans, self.values[first:last], strict=True):
            total += max(0.0, until - max(begin, start)) * value
        return total

    def mean(self, start: float, end: float) -> float:
        return self.integral(start, end) / (end - start)

    def sampled(self, start: float, end: float, points: int) -> list[float]:
        """The means of equal spans of time, for a plot."""
        step = (end - start) / points
        return [self.mean(start + i * step, start + (i + 1) * step) for i in range(points)]
