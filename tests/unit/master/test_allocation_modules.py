"""Strict priority, the lottery, and modules of third parties."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path

import pytest

from helpers.filling import fill, pair
from helpers.master_harness import ClusterHarness, task
from offerd.errors import BadInput
from offerd.ids import FrameworkID
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.choose import load_allocator
from offerd_master.allocation.lottery import LotteryAllocator
from offerd_master.allocation.policy import Policy, Terms, parse_policy
from offerd_master.allocation.priority import PriorityAllocator

A, A2, B, C = FrameworkID("A"), FrameworkID("A2"), FrameworkID("B"), FrameworkID("C")
ONE = pair(1, 1)
THREE = Policy(roles={"high": Terms(priority=2), "low": Terms(priority=-1), "low/night": Terms(weight=2.0)})


def join(module: Allocator, **roles: str) -> None:
    for name, role in roles.items():
        module.add_framework(FrameworkID(name), role, name)
        module.set_wanting(FrameworkID(name), True)


# -- Strict priority ----------------------------------------------------------------------------------------------------


def test_the_highest_priority_goes_first_whatever_it_holds() -> None:
    module = PriorityAllocator(THREE)
    module.add_total(pair(10, 10))
    join(module, A="low", B="*", C="high")
    module.charge(C, pair(9, 9))
    assert list(module.ranked()) == [C, B, A]
    module.set_wanting(C, False)
    assert list(module.ranked()) == [B, A]


def test_equals_in_priority_share_by_drf() -> None:
    module = PriorityAllocator(Policy())
    module.add_total(pair(9, 18))
    join(module, A="*", B="*")
    picks = fill(module, pair(9, 18), {A: pair(1, 4), B: pair(3, 1)})
    assert (picks.count(A), picks.count(B)) == (3, 2), "case 1 of the paper"


def test_a_role_has_the_priority_of_the_role_around_it_and_a_framework_its_own() -> None:
    policy = Policy(THREE.roles, {"B": Terms(priority=7)})
    module = PriorityAllocator(policy)
    join(module, A="low/night", B="low/night", C="*")
    assert list(module.ranked()) == [B, C, A]


def test_nothing_is_due_below_the_highest_priority_that_wants_something() -> None:
    module = PriorityAllocator(THREE)
    module.add_total(pair(10, 10))
    join(module, A="low", B="high", C="high")
    assert module.fair_shares() == {A: 0.0, B: 0.5, C: 0.5}


def test_a_band_that_comes_late_knows_the_whole_cluster() -> None:
    module = PriorityAllocator(THREE)
    module.add_total(pair(10, 10))
    module.add_total(pair(10, 10))
    module.remove_total(pair(10, 10))
    join(module, A="high")
    module.charge(A, pair(5, 1))
    assert module.share(A) == 0.5


# -- The lottery --------------------------------------------------------------------------------------------------------


def test_slots_go_by_weight_in_the_long_run() -> None:
    """Section 4.3: p slots become p * s_i / sum of s_j for framework i."""
    module = LotteryAllocator(Policy.of_weights({"a": 3.0, "b": 2.0, "c": 1.0}))
    join(module, A="a", B="b", C="c")
    won = Counter(next(iter(module.ranked())) for _ in range(6000))
    assert won[A] == pytest.approx(3000, rel=0.05)
    assert won[B] == pytest.approx(2000, rel=0.06)
    assert won[C] == pytest.approx(1000, rel=0.1)


def test_a_role_has_its_part_however_many_frameworks_are_in_it() -> None:
    module = LotteryAllocator(Policy())
    join(module, A="a", B="b", C="b")
    won = Counter(next(iter(module.ranked())) for _ in range(4000))
    assert won[A] == pytest.approx(2000, rel=0.06)
    assert won[B] == pytest.approx(won[C], rel=0.15)


def test_every_framework_that_wants_something_is_drawn_once() -> None:
    module = LotteryAllocator(Policy.of_weights({"heavy": 1e9}))
    join(module, A="heavy", **{f"f{n}": "*" for n in range(20)})
    for _ in range(20):
        order = list(module.ranked())
        assert len(order) == len(set(order)) == 21
        assert order[0] == A
    module.set_wanting(A, False)
    assert A not in list(module.ranked())


def test_the_second_draw_is_among_the_others_by_their_tickets() -> None:
    """Even if the first holds nearly all tickets, so that blind draws hit no other."""
    module = LotteryAllocator(Policy.of_weights({"a": 1e12, "b": 3.0, "c": 1.0}))
    join(module, A="a", B="b", C="c")
    second = Counter(list(module.ranked())[1] for _ in range(2000))
    assert second[B] == pytest.approx(1500, rel=0.06)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    def drawn(seed: int) -> list[FrameworkID]:
        module = LotteryAllocator(Policy(options={"seed": seed}))
        join(module, A="*", B="*", C="*")
        return [next(iter(module.ranked())) for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_source_of_chance_may_be_given() -> None:
    module = LotteryAllocator(Policy(), iter([0.99, 0.0, 0.5]).__next__)
    join(module, A="*", B="*", C="*")
    assert list(module.ranked()) == [C, A, B]


def test_a_framework_that_wants_nothing_counts_among_the_lots_only_while_it_holds_something() -> None:
    module = LotteryAllocator(Policy.of_weights({"a": 1.0, "b": 1.0}))
    join(module, A="a", A2="a", B="b")
    module.set_wanting(A2, False)
    module.charge(A2, ONE)

    def chance_of_a() -> float:
        wins = Counter(next(iter(module.ranked())) for _ in range(2000))
        return wins[A] / 2000

    assert chance_of_a() == pytest.approx(1 / 3, abs=0.05)  # a quarter against a half
    module.refund(A2, ONE)
    assert chance_of_a() == pytest.approx(1 / 2, abs=0.05)


def test_the_rest_of_a_draw_is_in_proportion_too() -> None:
    """A framework with nearly all tickets is drawn first; the others are put into order after blind draws."""
    module = LotteryAllocator(Policy.of_weights({"whale": 1e6, "two": 2.0}))
    join(module, A="whale", B="two", C="one")
    second = Counter(list(module.ranked())[1] for _ in range(2000))
    assert second[B] / 2000 == pytest.approx(2 / 3, abs=0.05)


# -- In a master --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [PriorityAllocator, LotteryAllocator])
def test_every_module_keeps_the_part_for_long_tasks(module: type[Allocator]) -> None:
    cluster = ClusterHarness(module=module)
    slave = cluster.slave("cpus=4,mem=4G", long_fraction=0.5)
    framework = cluster.framework()
    offer = framework.offer()
    assert offer.long_quantities["cpus"] == 2000
    framework.accept(offer, tasks=[task(f"t{n}", time_limit_s=None) for n in range(3)])
    assert [len(run.tasks) for run in [slave.inbox[0]]] == [2]  # type: ignore[attr-defined]
    assert framework.update().reason == "LONG_TASK_CAP"


def test_the_lower_priority_is_offered_what_the_higher_declines() -> None:
    cluster = ClusterHarness(module=PriorityAllocator, policy=THREE)
    low, high = cluster.framework(role="low"), cluster.framework(role="high")
    cluster.slave()
    high.decline(high.offer(), refuse_seconds=60.0)
    assert low.offer().resources.millicpus == 4000


# -- Loading ------------------------------------------------------------------------------------------------------------


def test_a_third_partys_module_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip installs it: a module, and a description that names it."""
    (tmp_path / "newest_first.py").write_text(
        textwrap.dedent(
            """
            from offerd_master.allocation.drf import DrfAllocator

            class NewestFirst(DrfAllocator):
                def ranked(self):
                    return sorted(super().ranked(), reverse=True)
            """
        )
    )
    described = tmp_path / "newest_first-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: newest-first\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[offerd.allocators]\nnewest = newest_first:NewestFirst\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = load_allocator("newest", Policy())
    join(module, A="*", B="*")
    assert list(module.ranked()) == [B, A]


def test_offerds_own_modules_are_found() -> None:
    for name, kind in (("priority", PriorityAllocator), ("lottery", LotteryAllocator)):
        assert isinstance(load_allocator(name, Policy()), kind)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("drf", {"seed": 1}, "no option 'seed'; this module has: none"),
        ("lottery", {"sed": 1}, "no option 'sed'; this module has: seed"),
        ("lottery", {"seed": "one"}, "whole number"),
    ],
)
def test_an_unknown_option_is_named(name: str, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load_allocator(name, Policy(options=options))


# -- What an operator writes --------------------------------------------------------------------------------------------


def test_terms_are_read_from_a_table() -> None:
    table = {
        "module": "drf",
        "options": {"seed": 3},
        "roles": {"prod": {"weight": 2, "priority": 1, "guarantee": "cpus=4,mem=8G", "limit": "cpus=40"}},
        "frameworks": {"nightly": {"priority": -1}},
    }
    policy = parse_policy(table)
    assert policy.roles["prod"].guarantee.millicpus == 4000
    assert policy.roles["prod"].limit is not None
    assert (policy.weight("prod"), policy.weight("other")) == (2.0, 1.0)
    assert policy.priority("prod/x", "a") == 1
    assert policy.priority("prod/x", "nightly") == -1
    assert policy.options == {"seed": 3}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"role": {}}, "no 'role'; known: module"),
        ({"roles": 3}, r"\[allocation.roles\] must be a table"),
        ({"roles": {"a": {"wieght": 2}}}, "no 'wieght'; known: weight"),
        ({"roles": {"a": {"weight": "2"}}}, "number above zero"),
        ({"roles": {"a": {"weight": 0}}}, "number above zero"),
        ({"roles": {"a": {"priority": 1.5}}}, "whole number"),
        ({"roles": {"a": {"guarantee": 4}}}, 'as in guarantee = "cpus=4,mem=8G"'),
        ({"roles": {"a": {"guarantee": "cpus"}}}, "NAME=AMOUNT"),
        ({"roles": {"a": {"guarantee": "ports=[1-2]"}}}, "not ranges or sets"),
        ({"roles": {"a": {"guarantee": "cpus=2", "limit": "cpus=1"}}}, "raise the limit"),
        ({"roles": {"a//b": {}}}, "path of names"),
        ({"roles": {"a/.": {}}}, "path of names"),
        ({"roles": {"a": {"guarantee": "cpus=3"}, "a/b/c": {"guarantee": "cpus=2"}, "a/d": {"guarantee": "cpus=2"}}},
         "its guarantee of cpus is less than those of the roles within it together"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_in_one_line(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        parse_policy(table)
    assert "\n" not in str(caught.value)
