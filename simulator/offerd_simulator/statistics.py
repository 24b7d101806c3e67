"""Means with confidence intervals, quantiles, and independent random streams."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and half the width of its confidence interval (NaN for a single value, which has no spread)."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
        """From independent values, by Student's distribution. Raises `ValueError` if there are none."""
        sample = list(values)
        if not sample:
            raise ValueError("an estimate needs values")
        if len(sample) < 2:
            return cls(sample[0], math.nan)
        spread = stdev(sample) / math.sqrt(len(sample))
        return cls(fmean(sample), student_quantile((1 + confidence) / 2, len(sample) - 1) * spread)

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width

    def contains(self, value: float) -> bool:
        """Whether the value is in the interval."""
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> Estimate:
        return Estimate(self.mean * factor, self.half_width * abs(factor))

    def reciprocal(self, factor: float) -> Estimate:
        """`factor` divided by this, for a narrow interval (first order)."""
        return Estimate(factor / self.mean, abs(factor) * self.half_width / self.mean**2)


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t (Cornish-Fisher expansion: within 1 % from 4 degrees of freedom on)."""
    z = NormalDist().inv_cdf(probability)
    n = freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def quantile(values: Sequence[float], probability: float) -> float:
    """The value that this fraction of the values does not exceed, interpolated linearly. NaN if there are none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = probability * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def stream(seed: int, *purpose: object) -> random.Random:
    """A separate random stream for each purpose: draws from one do not change another."""
    return random.Random(":".join(map(str, (seed, *purpose))))


def harmonic(k: int) -> float:
    """H_k = 1 + 1/2 + ... + 1/k."""
    return math.fsum(1 / i for i in range(1, k + 1))
