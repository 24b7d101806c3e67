"""Long and short slots: how much of a slave tasks without a (small) time limit may hold together.

The master checks at accept, the slave again at launch, because the master's view may be old; both use this module.
Quantities are those of `Resources.quantities`: millicpus, bytes, numbers of ports or words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from offerd.resources import Resources

ONE_CPU = 1000
"""In millicpus. With this much memory it is what `offerd run` gives a task of which nothing else is said."""
ONE_TASK_MEM_BYTES = 128 << 20


def clip_grace(grace_s: float, max_grace_s: float) -> float:
    """A grace that somebody asks for, as a slave grants it. What is no number of seconds is none at all."""
    if 0 <= grace_s <= max_grace_s:
        return grace_s
    return max_grace_s if grace_s > 0 else 0.0


def is_long(
    time_limit_s: float | None,
    short_limit_s: float,
    kill_grace_s: float | None = None,
    max_grace_s: float = math.inf,
) -> bool:
    """Whether a task counts against the long part: it has no time limit, or one above what is short on that slave. A grace that
    it asks for is time that it may take, and so part of its limit; the slave's own, of who asks for none, is not.
    """
    if time_limit_s is None:
        return True
    if kill_grace_s is None:
        return time_limit_s > short_limit_s
    return time_limit_s + clip_grace(kill_grace_s, max_grace_s) > short_limit_s


def long_quantities(total: Resources, fraction: float) -> dict[str, int]:
    """How much of each resource long tasks may hold together on a slave with `total`, rounded down.

    `fraction` is read as the decimal a person wrote: 0.29 of 100 is 29, not the 28 of binary floating point. Unless it is 0, it
    is at least the part that one cpu is of the slave (all of a slave of one cpu), and there is memory for one task in it, if
    the slave has that: else a task of which nothing is said could never run there.
    """
    part = _exactly(fraction)
    has_least = part > 0 and total.millicpus > 0
    if has_least:
        part = max(part, min(Fraction(1), Fraction(ONE_CPU, total.millicpus)))
    numerator, denominator = part.as_integer_ratio()
    quantities = {name: amount * numerator // denominator for name, amount in total.quantities().items()}
    if has_least and "mem" in quantities:
        quantities["mem"] = max(quantities["mem"], min(total.mem_bytes, ONE_TASK_MEM_BYTES))
    return quantities


@lru_cache(maxsize=64)
def _exactly(fraction: float) -> Fraction:
    """Slow to make, and mostly the same for a whole cluster."""
    return Fraction(str(fraction))


def fits(held: Mapping[str, int], cap: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether long tasks that hold `held` leave room under `cap` for one that takes `wanted`."""
    return all(held.get(name, 0) + amount <= cap.get(name, 0) for name, amount in wanted.items())


def left(held: Mapping[str, int], cap: Mapping[str, int], offered: Mapping[str, int]) -> dict[str, int]:
    """What of `offered` long tasks may still take: an offer's `long_quantities`. Names of which nothing is left are 0."""
    return {
        name: max(0, min(amount, cap.get(name, 0) - held.get(name, 0))) for name, amount in offered.items()
    }
