"""Weighted DRF against the cases of the paper (numbers as in the reference, part 5.3), and its accounts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.errors import BadInput
from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import load_allocator
from offerd_master.allocation.drf import DrfAllocator

A, B = FrameworkID("A"), FrameworkID("B")


def progressive_filling(
    drf: DrfAllocator,
    total: Resources,
    demands: Mapping[FrameworkID, Resources],
    limits: Mapping[FrameworkID, int] | None = None,
) -> list[FrameworkID]:
    """Algorithm 1: give one task to the lowest share whose task still fits, until none fits; returns the picks. Ties go
    to the lower id: nobody is said to have been offered anything.
    """
    left = total
    picks: list[FrameworkID] = []
    while True:
        for framework_id in drf.ranked(demands):
            demand = demands[framework_id]
            is_done = limits is not None and picks.count(framework_id) >= limits.get(framework_id, 1 << 30)
            if left.covers(demand) and not is_done:
                break
        else:
            return picks
        left -= demand
        drf.charge(framework_id, demand)
        picks.append(framework_id)


def pair(cpus: int, mem: int) -> Resources:
    return Resources({name: amount for name, amount in (("cpus", cpus), ("mem", mem)) if amount})


def allocator(
    total: Resources, *ids: FrameworkID, weights: Mapping[str, float] | None = None
) -> DrfAllocator:
    """Each framework has a role of its own name, so that weights may be given to it."""
    drf = DrfAllocator(weights or {})
    drf.add_total(total)
    for framework_id in ids:
        drf.add_framework(framework_id, framework_id if weights else "*")
    return drf


CASE_1 = (pair(9, 18), {A: pair(1, 4), B: pair(3, 1)})


def test_case_1_the_example_of_the_paper() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B)
    picks = progressive_filling(drf, total, demands)
    assert picks == [A, B, A, B, A], "A first, as ties go to the lower id; the paper's B,A,A,B,A ends alike"
    assert drf.held(A) == {"cpus": 3, "mem": 12}
    assert drf.held(B) == {"cpus": 6, "mem": 2}
    assert drf.share(A) == drf.share(B) == pytest.approx(2 / 3)


def test_case_1_in_the_papers_order_when_a_was_offered_last() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B)
    drf.offered(A)
    assert progressive_filling(drf, total, demands) == [B, A, A, B, A]


def test_case_3_ten_users_and_a_liar() -> None:
    total = pair(90, 90)
    ids = [FrameworkID(f"user{n}") for n in range(10)]
    demands = {framework_id: pair(0, 1) for framework_id in ids[1:]} | {ids[0]: pair(1, 0)}
    drf = allocator(total, *ids)
    progressive_filling(drf, total, demands)
    assert [drf.share(framework_id) for framework_id in ids] == [1.0] + [pytest.approx(1 / 9)] * 9
    honest, liar = demands, {**demands, ids[0]: pair(1, 1)}
    assert honest != liar
    drf = allocator(total, *ids)
    progressive_filling(drf, total, liar)
    assert [drf.share(framework_id) for framework_id in ids] == [pytest.approx(1 / 10)] * 10


def test_case_4_drf_gives_each_half_where_asset_fairness_does_not() -> None:
    total, demands = pair(30, 30), {A: pair(1, 3), B: pair(1, 1)}
    picks = progressive_filling(allocator(total, A, B), total, demands)
    assert (picks.count(A), picks.count(B)) == (5, 15)


def test_case_7_twenty_and_ten_tasks() -> None:
    total, demands = pair(100, 100), {A: pair(4, 1), B: pair(1, 8)}
    picks = progressive_filling(allocator(total, A, B), total, demands)
    assert (picks.count(A), picks.count(B)) == (20, 10)


def test_case_8_weights_two_to_one() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B, weights={A: 2.0})
    picks = progressive_filling(drf, total, demands)
    assert (picks.count(A), picks.count(B)) == (4, 1)


def test_case_8_b_wants_one_task_only() -> None:
    total, demands = CASE_1
    picks = progressive_filling(allocator(total, A, B), total, demands, limits={B: 1})
    assert (picks.count(A), picks.count(B)) == (4, 1)


def test_shares_stand_as_the_weights_do() -> None:
    total = pair(3000, 3000)
    drf = allocator(total, A, B, weights={A: 2.0, B: 1.0})
    progressive_filling(drf, total, {A: pair(1, 1), B: pair(1, 1)})
    assert drf.share(A) / drf.share(B) == pytest.approx(2.0, rel=0.01)


def test_roles_share_first_and_then_the_frameworks_within() -> None:
    total = pair(600, 600)
    drf = DrfAllocator({})
    drf.add_total(total)
    ids = [FrameworkID(name) for name in ("a1", "a2", "b1")]
    for framework_id in ids:
        drf.add_framework(framework_id, framework_id[0])
    progressive_filling(drf, total, {framework_id: pair(1, 1) for framework_id in ids})
    assert [round(drf.share(framework_id), 3) for framework_id in ids] == [0.25, 0.25, 0.5]


def test_equals_take_turns() -> None:
    drf = allocator(pair(10, 10), A, B)
    order = []
    for _ in range(4):
        first = next(iter(drf.ranked({A, B})))
        drf.offered(first)
        order.append(first)
    assert order == [A, B, A, B]


def test_only_candidates_are_ranked() -> None:
    drf = allocator(pair(10, 10), A, B)
    assert list(drf.ranked({B})) == [B]
    assert list(drf.ranked(set())) == []


def test_a_resource_that_no_slave_has_any_more_counts_for_nothing() -> None:
    drf = allocator(pair(10, 10), A)
    drf.charge(A, pair(5, 5))
    drf.remove_total(pair(10, 10))
    assert drf.share(A) == 0.0
    assert list(drf.ranked({A})) == [A]


def test_a_module_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"no allocation module 'nope'; installed: .*drf"):
        load_allocator("nope", {})
    assert isinstance(load_allocator("drf", {}), DrfAllocator)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(1, 50),
        st.integers(1, 50),
        st.sampled_from(["charge", "refund", "ask", "total"]),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_lazy_order_is_the_order_computed_anew(steps: list[tuple[int, int, int, str]]) -> None:
    drf = DrfAllocator({"r1": 2.0})
    drf.add_total(pair(1000, 1000))
    ids = [FrameworkID(f"f{n}") for n in range(6)]
    for n, framework_id in enumerate(ids):
        drf.add_framework(framework_id, f"r{n % 2}")
    held: dict[FrameworkID, list[Resources]] = {framework_id: [] for framework_id in ids}
    total = [1000, 1000]
    for which, cpus, mem, what in steps:
        framework_id = ids[which]
        if what == "charge":
            drf.charge(framework_id, pair(cpus, mem))
            held[framework_id].append(pair(cpus, mem))
        elif what == "refund" and held[framework_id]:
            drf.refund(framework_id, held[framework_id].pop())
        elif what == "ask":
            list(drf.ranked(set(ids)))
        elif what == "total":
            drf.add_total(pair(cpus, mem))
            total = [total[0] + cpus, total[1] + mem]

    def dominant(amounts: list[Resources]) -> float:
        return max(
            sum(a.scalars["cpus"] for a in amounts) / total[0],
            sum(a.scalars["mem"] for a in amounts) / total[1],
        )

    roles = {f"r{n}": [a for i in ids[n::2] for a in held[i]] for n in range(2)}
    role_order = sorted(
        roles, key=lambda role: (dominant(roles[role]) / (2.0 if role == "r1" else 1.0), role)
    )
    expected = [
        framework_id
        for role in role_order
        for framework_id in sorted(ids[int(role[1]) :: 2], key=lambda i: (dominant(held[i]), i))
    ]
    assert list(drf.ranked(set(ids))) == expected


def test_removed_frameworks_leave_nothing_behind() -> None:
    drf = allocator(pair(10, 10), A, B, weights={A: 2.0})
    drf.charge(A, pair(5, 5))
    list(drf.ranked({A, B}))
    drf.refund(A, pair(5, 5))
    drf.remove_framework(A)
    drf.remove_framework(B)
    assert list(drf.ranked({A, B})) == []
    drf.add_framework(A, "A")
    assert list(drf.ranked({A})) == [A]
