"""A small plot for a terminal: a quantity over time in block characters."""

from __future__ import annotations

from collections.abc import Sequence

_LEVELS = " ▁▂▃▄▅▆▇█"


def resample(samples: Sequence[tuple[float, float]], columns: int) -> list[float]:
    """Reduce ordered `(time, value)` pairs to the mean of each of `columns` equal spans of time; a span without a value keeps
    the value before it.
    """
    if not samples:
        return []
    first, last = samples[0][0], samples[-1][0]
    span = (last - first) / columns or 1.0
    sums, counts = [0.0] * columns, [0] * columns
    for when, value in samples:
        column = min(int((when - first) / span), columns - 1)
        sums[column] += value
        counts[column] += 1
    values: list[float] = []
    for total, count in zip(sums, counts, strict=True):
        values.append(total / count if count else (values[-1] if values else 0.0))
    return values


def plot(values: Sequence[float], height: int, ceiling: float = 1.0) -> list[str]:
    """`height` lines with one character for each value; `ceiling` is the full height, and any value above zero is visible."""
    eighths = [
        min(round(value / ceiling * height * 8), height * 8) or (1 if value > 0 else 0) for value in values
    ]
    return [
        "".join(_LEVELS[min(max(amount - row * 8, 0), 8)] for amount in eighths)
        for row in range(height - 1, -1, -1)
    ]
