"""What DRF promises (Ghodsi et al., section 4), for whole tasks: each promise within the error that whole tasks allow.

An allocation of whole tasks is within one largest task of the divisible ideal, so a comparison of two may be off by two: envy
by 1.8 with demands (54, 1), (55, 1), (58, 2), (56, 2). A lie can decide whether another user's last task still fits. All that
is then free of the scarce resource may go to the liar's tasks, which gains it the amounts of two such tasks.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helpers.filling import fill, pair
from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy

WHOLE = 1000
TOTAL = pair(WHOLE, WHOLE)
demand = st.tuples(st.integers(1, 60), st.integers(1, 60))
demands = st.lists(demand, min_size=2, max_size=5)
Vector = tuple[int, int]


def allocate(wanted: list[Vector]) -> list[int]:
    """How many tasks each user has when no user can have another one."""
    drf = DrfAllocator(Policy())
    drf.add_total(TOTAL)
    ids = [FrameworkID(f"user{number}") for number in range(len(wanted))]
    for framework_id in ids:
        drf.add_framework(framework_id, "*")
        drf.set_wanting(framework_id, True)
    picks = fill(drf, TOTAL, {fid: pair(*vector) for fid, vector in zip(ids, wanted, strict=True)})
    return [picks.count(framework_id) for framework_id in ids]


def size(vector: Vector) -> float:
    """The dominant share of one task."""
    return max(vector) / WHOLE


def use_of(bundle: Vector, vector: Vector) -> float:
    """The dominant share that a user with such tasks can make of a bundle."""
    return min(bundle[0] / vector[0], bundle[1] / vector[1]) * size(vector)


@given(demands)
def test_pareto_efficiency_nobody_can_have_another_task(wanted: list[Vector]) -> None:
    counts = allocate(wanted)
    left = [WHOLE - sum(n * vector[r] for n, vector in zip(counts, wanted, strict=True)) for r in (0, 1)]
    assert min(left) >= 0
    assert not any(vector[0] <= left[0] and vector[1] <= left[1] for vector in wanted)


@given(demands)
def test_sharing_incentive_nobody_has_less_than_an_equal_slice_would_give(wanted: list[Vector]) -> None:
    counts = allocate(wanted)
    mean_task = sum(map(size, wanted)) / len(wanted)
    for count, vector in zip(counts, wanted, strict=True):
        assert count * size(vector) >= 1 / len(wanted) - mean_task - 1e-9


@given(demands)
def test_envy_freeness_nobody_would_rather_have_what_another_has(wanted: list[Vector]) -> None:
    counts = allocate(wanted)
    slack = 2 * max(map(size, wanted))
    for mine, vector in zip(counts, wanted, strict=True):
        for theirs, other in zip(counts, wanted, strict=True):
            bundle = (theirs * other[0], theirs * other[1])
            assert use_of(bundle, vector) <= mine * size(vector) + slack + 1e-9


@given(demands, demand)
def test_strategy_proofness_a_lie_gains_nothing(wanted: list[Vector], lie: Vector) -> None:
    honest, lying = allocate(wanted), allocate([lie, *wanted[1:]])
    bundle = (lying[0] * lie[0], lying[0] * lie[1])
    largest = [max(vector[r] for vector in [lie, *wanted]) for r in (0, 1)]
    worth = max(largest[r] / wanted[0][r] for r in (0, 1)) * size(wanted[0])
    assert use_of(bundle, wanted[0]) <= honest[0] * size(wanted[0]) + 2 * worth + 1e-9


@given(demand, st.integers(2, 6))
def test_equals_are_treated_as_equals(vector: Vector, users: int) -> None:
    counts = allocate([vector] * users)
    assert max(counts) - min(counts) <= 1


def test_shares_are_of_quantities_whatever_their_unit() -> None:
    """Millicpus and bytes: a share is a fraction of the total."""
    drf = DrfAllocator(Policy())
    drf.add_total(Resources.of(cpus=10, mem="100G"))
    user = FrameworkID("user")
    drf.add_framework(user, "*")
    drf.charge(user, Resources.of(cpus=1, mem="20G"))
    assert drf.share(user) == 0.2
