"""How long files of what has ended are kept.

They belong to the framework: whoever has read the output of a task, or its result, says so to the executor, which removes it
then. What nobody asks for goes by age, the sooner the fuller the disk, and of very many the oldest go; what a task keeps for
its framework goes by age alone, or with its executor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_AGE_S = 30.0
"""Whose end is not longer ago may not have been read: a full disk is no reason yet..."""
LEAST_AGE_OF_MANY_S = 600.0
"""... and a large number is none before this."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long files of what has ended are kept, and of how many tasks of each executor, and executors."""

    delay_s: float = 7 * 86400.0
    most_tasks: int = 1000
    headroom: float = 0.1
    """Part of the disk that is to stay free: with that much left, everything is old enough."""
    most_executors: int = 10_000

    def greatest_age_s(self, free_fraction: float) -> float:
        """What is older goes. The fuller the disk, the sooner (as Mesos has it): delay * max(0, 1 - headroom - usage)."""
        return self.delay_s * max(0.0, free_fraction - self.headroom)


USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class Leftover:
    """Of one task that has ended at this time of the wall clock, which is comparable after a restart."""

    name: str
    ended_s: float
    is_kept: bool = False
    """For its framework."""


def leftovers_to_remove(
    found: Iterable[Leftover], now_s: float, free_fraction: float, bounds: Bounds
) -> list[Leftover]:
    """Which of one executor's are to go, the oldest first."""
    by_age = sorted(found, key=lambda each: each.ended_s)
    of_number = [each for each in by_age if not each.is_kept]
    too_many = set(of_number[: max(0, len(of_number) - bounds.most_tasks)])
    greatest_age_s = max(bounds.greatest_age_s(free_fraction), LEAST_AGE_S)

    def is_to_go(each: Leftover) -> bool:
        age_s = now_s - each.ended_s
        if age_s >= bounds.delay_s:
            return True
        return not each.is_kept and (
            age_s >= greatest_age_s or (each in too_many and age_s >= LEAST_AGE_OF_MANY_S)
        )

    return [each for each in by_age if is_to_go(each)]
