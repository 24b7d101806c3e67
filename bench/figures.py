"""The result of a measurement: samples, and rows of the table with their baseline and bound."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Samples:
    """One figure, measured once or several times."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Samples:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Bound:
    """The requirement on the median, or on the ratio to the baseline if `of_ratio`: at least or at most `limit`."""

    limit: float
    at_least: bool = True
    of_ratio: bool = False

    def is_met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Row:
    """A line of the table. `ratios` are taken pair by pair, from an offerd run and the baseline run beside it."""

    measure: str
    unit: str
    offerd: Samples | None
    baseline: Samples | None = None
    baseline_name: str = ""
    ratios: Samples | None = None
    bound: Bound | None = None

    @property
    def met(self) -> bool | None:
        """None if there is no requirement."""
        if self.bound is None:
            return None
        judged = self.ratios if self.bound.of_ratio else self.offerd
        return judged is not None and self.bound.is_met_by(judged.median)


@dataclass
class Findings:
    """The results of one subject: rows, and tables or remarks to print below them (Markdown)."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def beside(offerd: Sequence[float], baseline: Sequence[float]) -> Samples:
    """Ratios of pairs measured one after the other, under the same load of the machine."""
    return Samples.of(ours / theirs for ours, theirs in zip(offerd, baseline, strict=True))


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def number(value: float) -> str:
    """Three significant digits, or whole thousands: 0.41, 8.02, 153, 12,345."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(samples: Samples) -> str:
    """`median (least-most)`, or the single value."""
    if len(samples.values) == 1:
        return number(samples.median)
    return f"{number(samples.median)} ({number(samples.least)}-{number(samples.most)})"
