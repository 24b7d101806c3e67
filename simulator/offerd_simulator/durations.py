"""Durations of tasks: distributions with the same mean, from which one can draw and whose tails are known."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from statistics import NormalDist


class Durations(ABC):
    """A distribution with mean `mean_s`."""

    name: str

    def __init__(self, mean_s: float) -> None:
        self.mean_s = mean_s

    @abstractmethod
    def draw(self, source: random.Random) -> float: ...

    @abstractmethod
    def survival(self, limit_s: float) -> float:
        """The fraction of tasks that take longer."""

    def wasted(self, limit_s: float) -> float:
        """The lost fraction of the time of tasks that are tried with this limit and, if killed, run again without one. It is at
        most one half, by Markov's inequality: limit * P(X > limit) <= E[X].
        """
        lost = limit_s * self.survival(limit_s)
        return lost / (self.mean_s + lost)


class Uniform(Durations):
    """Nearly equal: within 20 % of the mean."""

    name = "alike (± 20 %)"

    def draw(self, source: random.Random) -> float:
        return source.uniform(0.8 * self.mean_s, 1.2 * self.mean_s)

    def survival(self, limit_s: float) -> float:
        return min(1.0, max(0.0, (1.2 * self.mean_s - limit_s) / (0.4 * self.mean_s)))


class Exponential(Durations):
    name = "exponential"

    def draw(self, source: random.Random) -> float:
        return source.expovariate(1 / self.mean_s)

    def survival(self, limit_s: float) -> float:
        return math.exp(-limit_s / self.mean_s)


class LogNormal(Durations):
    """Sigma is 1.5, so the median is a third of the mean, as in Facebook's traces."""

    name = "log-normal"
    sigma = 1.5

    @property
    def _mu(self) -> float:
        return math.log(self.mean_s) - self.sigma**2 / 2

    def draw(self, source: random.Random) -> float:
        return source.lognormvariate(self._mu, self.sigma)

    def survival(self, limit_s: float) -> float:
        return 1 - NormalDist(self._mu, self.sigma).cdf(math.log(limit_s))


class Pareto(Durations):
    """Heavy tail: alpha is 1.5, cut at a hundred times the smallest value."""

    name = "Pareto"
    alpha, most = 1.5, 100.0

    @property
    def _least_s(self) -> float:
        a, c = self.alpha, self.most
        mean_of_least: float = (a - c ** (1 - a)) / (a - 1)
        return self.mean_s / mean_of_least

    def draw(self, source: random.Random) -> float:
        return self._least_s * min(source.paretovariate(self.alpha), self.most)

    def survival(self, limit_s: float) -> float:
        if limit_s >= self.most * self._least_s:
            return 0.0
        part: float = (self._least_s / limit_s) ** self.alpha
        return min(1.0, part)


KINDS: tuple[type[Durations], ...] = (Uniform, Exponential, LogNormal, Pareto)
