"""Weighted DRF in the paper's cases (numbered as in the reference, part 5.3), and its accounts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.filling import fill, pair
from offerd.errors import BadInput
from offerd.ids import FrameworkID
from offerd.resources import NOTHING, Resources
from offerd_master.allocation.choose import load_allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy, Terms

A, B = FrameworkID("A"), FrameworkID("B")


def allocator(
    total: Resources, *ids: FrameworkID, weights: Mapping[str, float] | None = None
) -> DrfAllocator:
    """Each framework has a role with its own name, so that weights can be given to it."""
    drf = DrfAllocator(Policy.of_weights(weights or {}))
    drf.add_total(total)
    for framework_id in ids:
        drf.add_framework(framework_id, framework_id if weights else "*")
        drf.set_wanting(framework_id, True)
    return drf


CASE_1 = (pair(9, 18), {A: pair(1, 4), B: pair(3, 1)})


def test_case_1_the_example_of_the_paper() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B)
    picks = fill(drf, total, demands)
    assert picks == [A, B, A, B, A], "A first, as ties go to the lower id; the paper's B,A,A,B,A ends alike"
    assert drf.held(A) == {"cpus": 3, "mem": 12}
    assert drf.held(B) == {"cpus": 6, "mem": 2}
    assert drf.share(A) == drf.share(B) == pytest.approx(2 / 3)


def test_case_1_in_the_papers_order_when_a_was_offered_last() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B)
    drf.offer(A, NOTHING)
    assert fill(drf, total, demands) == [B, A, A, B, A]


def test_case_3_ten_users_and_a_liar() -> None:
    total = pair(90, 90)
    ids = [FrameworkID(f"user{n}") for n in range(10)]
    demands = {framework_id: pair(0, 1) for framework_id in ids[1:]} | {ids[0]: pair(1, 0)}
    drf = allocator(total, *ids)
    fill(drf, total, demands)
    assert [drf.share(framework_id) for framework_id in ids] == [1.0] + [pytest.approx(1 / 9)] * 9
    honest, liar = demands, {**demands, ids[0]: pair(1, 1)}
    assert honest != liar
    drf = allocator(total, *ids)
    fill(drf, total, liar)
    assert [drf.share(framework_id) for framework_id in ids] == [pytest.approx(1 / 10)] * 10


def test_case_4_drf_gives_each_half_where_asset_fairness_does_not() -> None:
    total, demands = pair(30, 30), {A: pair(1, 3), B: pair(1, 1)}
    picks = fill(allocator(total, A, B), total, demands)
    assert (picks.count(A), picks.count(B)) == (5, 15)


def test_case_5_discrete() -> None:
    total, demands = pair(21, 21), {A: pair(3, 2), B: pair(4, 1)}
    drf = allocator(total, A, B)
    picks = fill(drf, total, demands)
    assert (picks.count(A), picks.count(B)) == (3, 3), "within one task of the continuous 3.5 and 2.625"
    assert drf.held(A)["cpus"] + drf.held(B)["cpus"] == 21


@pytest.mark.parametrize("a_says", [pair(16, 1), pair(16, 8)], ids=["honest", "lying"])
def test_case_6_a_lie_gains_nothing(a_says: Resources) -> None:
    """Divisible: 25/6 and 100/3 tasks both ways. With whole tasks, A has the same both ways."""
    total, demands = pair(100, 100), {A: a_says, B: pair(1, 2)}
    picks = fill(allocator(total, A, B), total, demands)
    assert picks.count(A) == int(25 / 6)
    shares_equal_at = picks.index(A, picks.index(A) + 1)
    assert picks[:shares_equal_at].count(B) == pytest.approx(8, abs=1), (
        "B has 8 tasks of 0.02 for each of 0.16"
    )
    assert picks.count(B) >= int(100 / 3)


def test_case_7_twenty_and_ten_tasks() -> None:
    total, demands = pair(100, 100), {A: pair(4, 1), B: pair(1, 8)}
    picks = fill(allocator(total, A, B), total, demands)
    assert (picks.count(A), picks.count(B)) == (20, 10)


def test_case_8_weights_two_to_one() -> None:
    total, demands = CASE_1
    drf = allocator(total, A, B, weights={A: 2.0})
    picks = fill(drf, total, demands)
    assert (picks.count(A), picks.count(B)) == (4, 1)


def test_case_8_b_wants_one_task_only() -> None:
    total, demands = CASE_1
    picks = fill(allocator(total, A, B), total, demands, limits={B: 1})
    assert (picks.count(A), picks.count(B)) == (4, 1)


def test_shares_stand_as_the_weights_do() -> None:
    total = pair(3000, 3000)
    drf = allocator(total, A, B, weights={A: 2.0, B: 1.0})
    fill(drf, total, {A: pair(1, 1), B: pair(1, 1)})
    assert drf.share(A) / drf.share(B) == pytest.approx(2.0, rel=0.01)


def test_roles_share_first_and_then_the_frameworks_within() -> None:
    total = pair(600, 600)
    drf = DrfAllocator(Policy())
    drf.add_total(total)
    ids = [FrameworkID(name) for name in ("a1", "a2", "b1")]
    for framework_id in ids:
        drf.add_framework(framework_id, framework_id[0])
        drf.set_wanting(framework_id, True)
    fill(drf, total, {framework_id: pair(1, 1) for framework_id in ids})
    assert [round(drf.share(framework_id), 3) for framework_id in ids] == [0.25, 0.25, 0.5]


def test_a_nested_role_shares_what_its_parent_has() -> None:
    """`a/x`, `a/y` and the frameworks of `a` itself are three parts of a's half (Mesos: NestedRoleDRF)."""
    drf = DrfAllocator(Policy.of_weights({"a/x": 2.0}))
    total = pair(800, 800)
    drf.add_total(total)
    roles = {"x1": "a/x", "y1": "a/y", "y2": "a/y", "own1": "a", "own2": "a", "b1": "b"}
    ids = {name: FrameworkID(name) for name in roles}
    for name, role in roles.items():
        drf.add_framework(ids[name], role)
        drf.set_wanting(ids[name], True)
    fill(drf, total, {framework_id: pair(1, 1) for framework_id in ids.values()})
    shares = {name: round(drf.share(ids[name]), 4) for name in roles}
    assert shares == {"x1": 0.25, "y1": 0.0625, "y2": 0.0625, "own1": 0.0625, "own2": 0.0625, "b1": 0.5}
    assert {name: round(part, 4) for name, part in drf.fair_shares().items()} == shares


def test_a_framework_has_a_weight_within_its_role() -> None:
    drf = DrfAllocator(Policy(frameworks={"heavy": Terms(weight=3.0)}))
    total = pair(400, 400)
    drf.add_total(total)
    for framework_id, name in ((A, "heavy"), (B, "light")):
        drf.add_framework(framework_id, "*", name)
        drf.set_wanting(framework_id, True)
    fill(drf, total, {A: pair(1, 1), B: pair(1, 1)})
    assert (drf.share(A), drf.share(B)) == (0.75, 0.25)


def test_the_order_in_which_slaves_and_frameworks_come_does_not_matter() -> None:
    """Mesos: NoDoubleAccounting."""
    orders = []
    for slaves_first in (True, False):
        drf = DrfAllocator(Policy())
        if slaves_first:
            drf.add_total(pair(10, 10))
        for framework_id, role in ((A, "a"), (B, "b")):
            drf.add_framework(framework_id, role)
            drf.set_wanting(framework_id, True)
            drf.charge(framework_id, pair(1 + (framework_id == A), 1))
        if not slaves_first:
            drf.add_total(pair(10, 10))
        orders.append((list(drf.ranked()), drf.share(A), drf.share(B), dict(drf.fair_shares())))
    assert orders[0] == orders[1] == ([B, A], 0.2, 0.1, {A: 0.5, B: 0.5})


def test_equals_take_turns() -> None:
    """Mesos: SameShareFairness."""
    drf = allocator(pair(10, 10), A, B)
    order = []
    for _ in range(4):
        first = next(iter(drf.ranked()))
        drf.offer(first, NOTHING)
        order.append(first)
    assert order == [A, B, A, B]


def test_only_those_who_want_something_are_ranked() -> None:
    drf = allocator(pair(10, 10), A, B)
    drf.set_wanting(A, False)
    assert list(drf.ranked()) == [B]
    drf.set_wanting(B, False)
    assert list(drf.ranked()) == []
    drf.set_wanting(A, True)
    assert list(drf.ranked()) == [A]


def test_a_resource_that_no_slave_has_any_more_counts_for_nothing() -> None:
    drf = allocator(pair(10, 10), A)
    drf.charge(A, pair(5, 5))
    drf.remove_total(pair(10, 10))
    assert drf.share(A) == 0.0
    assert list(drf.ranked()) == [A]


def test_a_module_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"no allocation module is called 'nope'; there are: drf"):
        load_allocator("nope", Policy())
    assert isinstance(load_allocator("drf", Policy()), DrfAllocator)


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
    drf = DrfAllocator(Policy.of_weights({"r1": 2.0}))
    drf.add_total(pair(1000, 1000))
    ids = [FrameworkID(f"f{n}") for n in range(6)]
    for n, framework_id in enumerate(ids):
        drf.add_framework(framework_id, f"r{n % 2}")
        drf.set_wanting(framework_id, True)
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
            list(drf.ranked())
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
    assert list(drf.ranked()) == expected


def test_removed_frameworks_leave_nothing_behind() -> None:
    drf = allocator(pair(10, 10), A, B, weights={A: 2.0})
    drf.charge(A, pair(5, 5))
    list(drf.ranked())
    drf.refund(A, pair(5, 5))
    drf.remove_framework(A)
    drf.remove_framework(B)
    assert list(drf.ranked()) == []
    drf.add_framework(A, "A")
    drf.set_wanting(A, True)
    assert list(drf.ranked()) == [A]
