"""Guarantees and limits in a master: the order of offers, what is taken back, and from whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import FrameworkID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator, RevocableTask
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.lottery import LotteryAllocator
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.allocation.priority import PriorityAllocator

MODULES = pytest.mark.parametrize("module", [DrfAllocator, PriorityAllocator, LotteryAllocator])
GRACE_S, AFTER_S = 30.0, 5.0


def guarantee(amount: str) -> Terms:
    return Terms(guarantee=Resources.parse(amount))


def cluster_with(policy: Policy, **more: Any) -> ClusterHarness:
    return ClusterHarness(policy=policy, ping_interval_s=1e6, offer_timeout_s=1e6, **more)


def fill_with(framework: FrameworkPeer, *tasks: m.TaskInfo) -> None:
    """Run these on the present offer, and want no more."""
    framework.accept(framework.offer(), tasks=tasks)
    framework.send(m.SetNeedsOffers(False))
    framework.decline(*_offers(framework))


def killed(slave: SlavePeer) -> list[TaskID]:
    kills = [message for message in slave.inbox if isinstance(message, m.KillTask)]
    assert all(kill.reason == Reason.REVOKED for kill in kills)
    return [kill.task_id for kill in kills]


def greedy_and_prod(
    *, held: str = "cpus=4,mem=4G", policy: Policy | None = None, **more: Any
) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer, FrameworkPeer]:
    """A slave full of four tasks of `greedy`, launched one by one, and `prod`, to which half of it is guaranteed."""
    cluster = cluster_with(policy or Policy({"prod": guarantee("cpus=2,mem=2G")}), **more)
    slave = cluster.slave(held)
    greedy = cluster.framework("greedy")
    for number in range(4):
        greedy.accept(greedy.offer(), tasks=[task(f"t{number}", "cpus=1,mem=1G", time_limit_s=None)][:1])
        cluster.advance(0.01)
    prod = cluster.framework("prod", role="prod")
    return cluster, slave, greedy, prod


@pytest.fixture
def long_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slaves that may be full of long tasks."""
    slave = ClusterHarness.slave

    def all_long(self: ClusterHarness, *arguments: Any, **more: Any) -> SlavePeer:
        return slave(self, *arguments, long_fraction=1.0, **more)

    monkeypatch.setattr(ClusterHarness, "slave", all_long)


# -- Guarantees ---------------------------------------------------------------------------------------------------------


@MODULES
def test_a_framework_under_its_guarantee_is_first_with_any_module(module: type[Allocator]) -> None:
    """Mesos: QuotaAgainstStarvation."""
    policy = Policy({"prod": guarantee("cpus=4,mem=4G"), "vip": Terms(priority=9, weight=1000.0)})
    cluster = cluster_with(policy, module=module)
    prod, vip = cluster.framework(role="prod"), cluster.framework(role="vip")
    cluster.slave("cpus=4,mem=4G")
    prod.offer()
    cluster.slave("cpus=4,mem=4G")
    if module is not LotteryAllocator:
        vip.offer()


def test_a_framework_reads_its_guarantee_and_frameworks_of_a_role_have_equal_parts() -> None:
    policy = Policy({"prod": guarantee("cpus=3")}, {"own": guarantee("mem=1G")})
    cluster = cluster_with(policy)
    cluster.slave("cpus=4,mem=4G")
    first = cluster.framework("first", role="prod/web", registers=False)
    first.register()
    first.inbox.clear()

    def asked(framework: FrameworkPeer) -> Resources:
        framework.inbox.clear()
        framework.send(m.GetGuaranteedShare())
        return framework.take(m.GuaranteedShare).resources

    assert asked(first) == Resources.of(cpus=3)
    second = cluster.framework("second", role="prod")
    assert asked(first) == asked(second) == Resources.of(cpus="1.5")
    third = cluster.framework("own", role="prod")
    assert asked(third) == Resources.of(mem="1G"), "its own goes before its role's"
    second.send(m.TeardownFramework())
    assert asked(first) == Resources.of(cpus=3)


def test_a_roles_own_part_is_what_its_inner_roles_leave() -> None:
    cluster = cluster_with(Policy({"a": guarantee("cpus=3"), "a/b": guarantee("cpus=2")}))
    cluster.slave("cpus=4,mem=4G")
    for role, cpus in (("a", 1), ("a/b", 2)):
        framework = cluster.framework(role=role)
        framework.inbox.clear()
        framework.send(m.GetGuaranteedShare())
        assert framework.take(m.GuaranteedShare).resources == Resources.of(cpus=cpus)


def test_guarantees_that_do_not_fit_shrink_together_and_grow_back() -> None:
    cluster = cluster_with(Policy({"a": guarantee("cpus=6"), "b": guarantee("cpus=2")}))
    slave = cluster.slave("cpus=4,mem=4G")
    a, b = cluster.framework(role="a"), cluster.framework(role="b")

    def asked(framework: FrameworkPeer) -> Resources:
        framework.inbox.clear()
        framework.send(m.GetGuaranteedShare())
        return framework.take(m.GuaranteedShare).resources

    assert (asked(a), asked(b)) == (Resources.of(cpus=3), Resources.of(cpus=1))
    cluster.advance(1.5)
    assert "more cpus is guaranteed (8000) than the cluster has (4000)" in cluster.logs[-1].text
    cluster.slave("cpus=4,mem=4G")
    assert (asked(a), asked(b)) == (Resources.of(cpus=6), Resources.of(cpus=2))
    slave.send(m.UnregisterSlave())
    assert asked(a) == Resources.of(cpus=3)


# -- Revocation ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("long_slots")
def test_the_latest_tasks_of_frameworks_above_their_guarantee_go_after_notice_and_grace() -> None:
    cluster, slave, greedy, prod = greedy_and_prod()
    slave.inbox.clear()
    greedy.inbox.clear()
    cluster.advance(AFTER_S - 1.0)
    cluster.assert_nothing_else_sent()
    cluster.advance(2.5)
    notice = greedy.take(m.RevocationNotice)
    assert (notice.task_ids, notice.grace_s) == (["t3", "t2"], GRACE_S)
    cluster.advance(GRACE_S - 1.0)
    cluster.assert_nothing_else_sent()
    cluster.advance(1.5)
    assert killed(slave) == ["t3", "t2"]
    slave.inbox.clear()
    for number in (3, 2):
        slave.status(greedy, f"t{number}", TaskState.KILLED, reason=Reason.REVOKED)
    assert sum(offer.resources.millicpus for offer in _offers(prod)) == 2000, (
        "it goes to whom it was taken for"
    )


@pytest.mark.usefixtures("long_slots")
def test_what_a_framework_gives_up_by_itself_counts_whichever_tasks_it_ends() -> None:
    cluster, slave, greedy, _ = greedy_and_prod()
    cluster.advance(AFTER_S + 1.5)
    greedy.inbox.clear()
    slave.inbox.clear()
    slave.finish(greedy, "t0")
    cluster.advance(GRACE_S + 1.0)
    assert killed(slave) == ["t3"], "one of the two was given up"


@pytest.mark.usefixtures("long_slots")
def test_when_all_was_given_up_nothing_is_killed() -> None:
    cluster, slave, greedy, _ = greedy_and_prod()
    cluster.advance(AFTER_S + 1.5)
    greedy.inbox.clear()
    slave.inbox.clear()
    slave.finish(greedy, "t0", "t1")
    cluster.advance(GRACE_S + 10.0)
    assert killed(slave) == []


@pytest.mark.usefixtures("long_slots")
def test_nothing_is_revoked_for_a_framework_that_wants_nothing() -> None:
    cluster, slave, greedy, prod = greedy_and_prod()
    prod.send(m.SetNeedsOffers(False))
    cluster.advance(AFTER_S + GRACE_S + 10.0)
    assert killed(slave) == []
    assert not any(isinstance(message, m.RevocationNotice) for message in greedy.inbox)


@pytest.mark.usefixtures("long_slots")
def test_a_framework_that_wants_nothing_when_the_grace_ends_gets_nothing() -> None:
    cluster, slave, _, prod = greedy_and_prod()
    cluster.advance(AFTER_S + 1.5)
    prod.send(m.SetNeedsOffers(False))
    cluster.advance(GRACE_S + 10.0)
    assert killed(slave) == []


@pytest.mark.usefixtures("long_slots")
def test_a_framework_at_its_guarantee_loses_nothing_and_the_others_do() -> None:
    policy = Policy({"prod": guarantee("cpus=2"), "safe": guarantee("cpus=2")})
    cluster = cluster_with(policy)
    slave = cluster.slave("cpus=4,mem=4G")
    safe = cluster.framework("safe", role="safe")
    fill_with(safe, task("s1"), task("s2"))
    greedy = cluster.framework("greedy")
    fill_with(greedy, task("g1"), task("g2"))
    cluster.framework("prod", role="prod")
    cluster.advance(AFTER_S + 1.5)
    assert greedy.take(m.RevocationNotice).task_ids == ["g2", "g1"]
    cluster.advance(GRACE_S + 1.0)
    assert killed(slave) == ["g2", "g1"]
    assert not any(isinstance(message, m.RevocationNotice) for message in safe.inbox)


@pytest.mark.usefixtures("long_slots")
def test_a_framework_that_came_down_to_its_guarantee_within_the_grace_loses_no_more() -> None:
    """Its other tasks have ended, and there is a new slave: at the kill, only the guarantee counts."""
    policy = Policy({"prod": guarantee("cpus=2,mem=2G"), "half": guarantee("cpus=2,mem=2G")})
    cluster = cluster_with(policy)
    slave = cluster.slave("cpus=4,mem=4G")
    half = cluster.framework("half", role="half")
    fill_with(half, *(task(f"h{n}") for n in range(4)))
    cluster.framework("prod", role="prod")
    cluster.advance(AFTER_S + 1.5)
    assert half.take(m.RevocationNotice).task_ids == ["h3", "h2"]
    slave.finish(half, "h0", "h1")
    cluster.advance(GRACE_S + 5.0)
    assert killed(slave) == []


@pytest.mark.usefixtures("long_slots")
def test_open_offers_of_others_are_taken_back_before_any_task() -> None:
    cluster = cluster_with(Policy({"prod": guarantee("cpus=2")}))
    slave = cluster.slave("cpus=2,mem=2G")
    greedy = cluster.framework("greedy")
    fill_with(greedy, task("g1"), task("g2"))
    greedy.send(m.SetNeedsOffers(True))
    cluster.slave("cpus=2,mem=2G")
    greedy.offer()
    prod = cluster.framework("prod", role="prod")
    cluster.advance(AFTER_S + 1.5)
    greedy.take(m.RescindOffer)
    assert prod.offer().resources.millicpus == 2000
    cluster.advance(GRACE_S + 10.0)
    assert killed(slave) == []


@pytest.mark.usefixtures("long_slots")
def test_tasks_on_slaves_that_are_filtered_are_left_alone() -> None:
    cluster, slave, _, prod = greedy_and_prod()
    prod.send(m.SetFilters(m.Filters(attributes_exist=["ssd"])))
    cluster.advance(AFTER_S + GRACE_S + 10.0)
    assert killed(slave) == []


@pytest.mark.usefixtures("long_slots")
def test_tasks_that_would_free_less_than_the_wanted_minimum_are_left_alone() -> None:
    """Only one of two slaves can free three cpus; the latest tasks are on the other, and would be lost for nothing."""
    cluster = cluster_with(Policy({"prod": guarantee("cpus=3,mem=3G")}))
    large = cluster.slave("cpus=4,mem=4G")
    greedy = cluster.framework("greedy")
    greedy.accept(greedy.offer(), tasks=[task(f"g{n}") for n in range(4)])
    cluster.advance(0.01)
    small = cluster.slave("cpus=2,mem=2G")
    fill_with(greedy, task("late1"), task("late2"))
    prod = cluster.framework("prod", role="prod")
    prod.send(m.SetFilters(m.Filters(minimum=Resources.of(cpus=3))))
    cluster.advance(AFTER_S + GRACE_S + 3.0)
    assert killed(small) == []
    assert killed(large) == ["g3", "g2", "g1"]


@pytest.mark.usefixtures("long_slots")
def test_a_framework_that_declines_what_is_made_free_for_it_is_not_served_again_and_again() -> None:
    cluster, slave, greedy, prod = greedy_and_prod()
    cluster.advance(AFTER_S + GRACE_S + 2.0)
    for number in (3, 2):
        slave.status(greedy, f"t{number}", TaskState.KILLED, reason=Reason.REVOKED)
    greedy.send(m.SetNeedsOffers(False))
    slave.inbox.clear()
    prod.decline(*_offers(prod), refuse_seconds=1e6)
    cluster.advance(AFTER_S + GRACE_S + 10.0)
    # What it has refused is free but not offered: only more than that could help it.
    assert len(killed(slave)) <= 2


def _offers(framework: FrameworkPeer) -> list[m.Offer]:
    offers = [
        o for message in framework.inbox if isinstance(message, m.ResourceOffers) for o in message.offers
    ]
    framework.inbox.clear()
    return offers


@pytest.mark.usefixtures("long_slots")
def test_declines_of_others_do_not_keep_a_guarantee_from_its_framework() -> None:
    """Mesos: QuotaAgainstStarvation; and an incapable framework does not stop the loop (MESOS-9554)."""
    cluster = cluster_with(Policy({"prod": guarantee("cpus=4,mem=4G")}))
    stormy = [cluster.framework(f"stormy{n}") for n in range(5)]
    stormy[0].send(m.SetFilters(m.Filters(attributes_exist=["nowhere"])))
    slave = cluster.slave("cpus=4,mem=4G")
    prod = cluster.framework("prod", role="prod")
    prod_offers = 0
    for _ in range(10):
        for framework in stormy:
            framework.decline(*_offers(framework), refuse_seconds=0.0)
        prod_offers += len(_offers(prod))
        cluster.advance(1.0)
    assert prod_offers == 1, "it was offered the slave as soon as somebody declined, and holds the offer"
    assert not stormy[0].inbox
    assert len(cluster.core.cluster.slaves[slave.slave_id].offers) == 1


@pytest.mark.usefixtures("long_slots")
def test_the_search_for_victims_becomes_seldom_while_there_are_none() -> None:
    cluster, _, _, prod = greedy_and_prod()
    prod.send(m.SetFilters(m.Filters(attributes_exist=["ssd"])))
    tries = []
    shortages = cluster.core.cluster.shortages
    for _ in range(400):
        cluster.advance(1.0)
        shortages = cluster.core.cluster.shortages
        tries.append(shortages[prod.framework_id].next_try_at)
    assert len(set(tries)) <= 12
    assert shortages[prod.framework_id].pause_s == 60.0


# -- Limits -------------------------------------------------------------------------------------------------------------


def test_an_offer_is_cut_to_the_limit_and_the_rest_goes_to_the_next() -> None:
    """Mesos: QuotaProvidesLimit, QuotaAllocationGranularity."""
    cluster = cluster_with(Policy({"small": Terms(limit=Resources.of(cpus=1, mem="1G"))}))
    small = cluster.framework("small", role="small")
    other = cluster.framework("other", role="tall")
    slave = cluster.slave("cpus=4,mem=4G")
    offer = small.offer()
    assert offer.resources == Resources.of(cpus=1, mem="1G")
    assert other.offer().resources == Resources.of(cpus=3, mem="3G")
    small.accept(offer, tasks=[task("s1", "cpus=1,mem=1G")])
    slave.take(m.RunTasks)
    cluster.slave("cpus=4,mem=4G")
    assert other.offer().resources.millicpus == 4000
    assert not small.inbox
    slave.finish(small, "s1")
    assert [o.resources for o in _offers(small)] == [Resources.of(cpus=1, mem="1G")]


def test_a_limit_holds_for_all_frameworks_of_a_role_together() -> None:
    cluster = cluster_with(Policy({"a": Terms(limit=Resources.of(cpus=3))}))
    frameworks = [cluster.framework(role="a/x"), cluster.framework(role="a")]
    for _ in range(4):
        cluster.slave("cpus=2,mem=2G")
    assert sum(o.resources.millicpus for f in frameworks for o in _offers(f)) == 3000


def test_what_a_declined_offer_leaves_of_a_limit_is_offered_elsewhere() -> None:
    cluster = cluster_with(Policy({"a": Terms(limit=Resources.of(cpus=2))}))
    framework = cluster.framework(role="a")
    first, second = cluster.slave("cpus=2,mem=2G"), cluster.slave("cpus=2,mem=2G")
    offer = framework.offer()
    assert offer.slave_id == first.slave_id
    framework.decline(offer, refuse_seconds=60.0)
    assert framework.offer().slave_id == second.slave_id


# -- Whose tasks go is the module's choice ------------------------------------------------------------------------------


class OldestFirst(DrfAllocator):
    """A third-party module: the first launched goes first, but never `t1`; and it names tasks that it was not asked about."""

    asked: list[RevocableTask]

    def revocation_order(
        self, framework_id: FrameworkID, tasks: Iterable[RevocableTask]
    ) -> Iterable[RevocableTask]:
        self.asked = list(tasks)
        oldest = [task for task in reversed(self.asked) if task.task_id != "t1"]
        invented = oldest[0]._replace(task_id=TaskID("nobody's"))
        return [invented, oldest[0]._replace(framework_id=FrameworkID("nobody")), oldest[0], *oldest]


@pytest.mark.usefixtures("long_slots")
def test_a_module_chooses_the_tasks_to_revoke() -> None:
    cluster, slave, greedy, _ = greedy_and_prod(module=OldestFirst, revoke_grace_s=GRACE_S)
    cluster.advance(AFTER_S + 1)
    module = cluster.allocator
    assert isinstance(module, OldestFirst)
    assert [task.task_id for task in module.asked] == ["t3", "t2", "t1", "t0"]
    assert {task.slave_id for task in module.asked} == {slave.slave_id}
    assert [task.launched_at for task in module.asked] == sorted(
        (task.launched_at for task in module.asked), reverse=True
    )
    assert greedy.take(m.RevocationNotice).task_ids == ["t0", "t2"]
    cluster.advance(GRACE_S + 1)
    assert killed(slave) == ["t0", "t2"]


@pytest.mark.usefixtures("long_slots")
def test_what_a_module_leaves_out_is_not_revoked() -> None:
    class Nobody(DrfAllocator):
        def revocation_order(
            self, framework_id: FrameworkID, tasks: Iterable[RevocableTask]
        ) -> Iterable[RevocableTask]:
            return []

    cluster, slave, greedy, _ = greedy_and_prod(module=Nobody)
    cluster.advance(10 * AFTER_S)
    assert killed(slave) == []
    assert not [message for message in greedy.inbox if isinstance(message, m.RevocationNotice)]


def test_a_guarantee_whose_inner_roles_leave_nothing_of_one_resource_can_be_asked_for() -> None:
    cluster = cluster_with(Policy({"a": guarantee("cpus=2,mem=2G"), "a/b": guarantee("cpus=2")}))
    cluster.slave("cpus=4,mem=4G")
    outer = cluster.framework("outer", role="a")
    outer.inbox.clear()
    outer.send(m.GetGuaranteedShare())
    assert outer.take(m.GuaranteedShare).resources == Resources.of(mem="2G")
    operator = cluster.operator()
    operator.send(om.GetFrameworks())
    assert operator.take(om.Frameworks).frameworks[0].guaranteed == Resources.of(mem="2G")
    operator.send(om.ExplainFramework("outer"))
    assert operator.take(om.Explanation).guaranteed == Resources.of(mem="2G")
