"""Long and short slots: how much of a slave long tasks may hold together.

The master checks this at accept, and the slave again at launch, because the master's view may be old; both use this module.
Quantities are those of `Resources.quantities`: millicpus, bytes, numbers of ports or words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from offerd.resources import Resources

ONE_CPU = 1000
"""One cpu in millicpus. With this module's memory for one task, it is the default size of a task of `offerd run`."""
ONE_TASK_MEM_BYTES = 128 << 20


def clip_grace(grace_s: float, max_grace_s: float) -> float:
    """The grace that a slave grants to somebody who asks for this one, in seconds; 0 for a number that makes no sense."""
    if 0 <= grace_s <= max_grace_s:
        return grace_s
    return max_grace_s if grace_s > 0 else 0.0


def is_long(
    time_limit_s: float | None,
    short_limit_s: float,
    kill_grace_s: float | None = None,
    max_grace_s: float = math.inf,
) -> bool:
    """Whether a task counts as long: it has no time limit, or one above the slave's short limit. A grace that the task asks for
    counts as part of its limit, as the task may use that time; the slave's default grace does not.
    """
    if time_limit_s is None:
        return True
    if kill_grace_s is None:
        return time_limit_s > short_limit_s
    return time_limit_s + clip_grace(kill_grace_s, max_grace_s) > short_limit_s


def long_quantities(total: Resources, fraction: float) -> dict[str, int]:
    """How much of each resource long tasks may hold together on a slave with `total`, rounded down.

    `fraction` is taken as the decimal that a person wrote: 0.29 of 100 is 29, not the 28 of binary floating point. Unless it is
    0, it is at least the share of one cpu in the slave (so a slave of one cpu is all theirs), and leaves memory for one task if
    the slave has it: otherwise a task with default options could never run there.
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
    """Cached: slow to compute, and mostly the same for a whole cluster."""
    return Fraction(str(fraction))


def fits(held: Mapping[str, int], cap: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether there is room under `cap` for a long task that takes `wanted`, beside long tasks that hold `held`."""
    return all(held.get(name, 0) + amount <= cap.get(name, 0) for name, amount in wanted.items())


def left(held: Mapping[str, int], cap: Mapping[str, int], offered: Mapping[str, int]) -> dict[str, int]:
    """How much of `offered` long tasks may still take: an offer's `long_quantities`. Names with nothing left are 0."""
    return {
        name: max(0, min(amount, cap.get(name, 0) - held.get(name, 0))) for name, amount in offered.items()
    }
