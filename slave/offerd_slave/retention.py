"""How long the files of ended tasks and executors are kept.

A framework that has read a task's output or result has the executor remove it. Other files are removed by age, sooner on a
full disk; if there are very many, the oldest are removed. Files that a task keeps for its framework are removed by age alone,
or with their executor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_AGE_S = 30.0
"""Files younger than this may not have been read yet: even a full disk does not remove them."""
LEAST_AGE_OF_MANY_S = 600.0
"""Files younger than this are not removed for being too many."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long files are kept, for how many ended tasks of each executor, and for how many ended executors."""

    delay_s: float = 7 * 86400.0
    most_tasks: int = 1000
    headroom: float = 0.1
    """Part of the disk that should stay free: when no more than this is left, everything is old enough to be removed."""
    most_executors: int = 10_000

    def greatest_age_s(self, free_fraction: float) -> float:
        """Older files are removed. The age falls as the disk fills up, as in Mesos: delay * max(0, 1 - headroom - usage)."""
        return self.delay_s * max(0.0, free_fraction - self.headroom)


USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class Leftover:
    """The files of one task, and when it ended, by the wall clock, which can be compared after a restart."""

    name: str
    ended_s: float
    is_kept: bool = False
    """Whether the task keeps them for its framework."""


def leftovers_to_remove(
    found: Iterable[Leftover], now_s: float, free_fraction: float, bounds: Bounds
) -> list[Leftover]:
    """The leftovers of one executor that are to be removed, the oldest first."""
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
