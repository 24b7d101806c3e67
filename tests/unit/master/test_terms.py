"""Terms that the operator changes while the master runs: weights, guarantees, limits."""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, task
from offerd import messages as m
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.lottery import LotteryAllocator
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.allocation.priority import PriorityAllocator

MODULES = pytest.mark.parametrize("module", [DrfAllocator, PriorityAllocator, LotteryAllocator])


def cluster_with(policy: Policy | None = None, module: type[Allocator] = DrfAllocator) -> ClusterHarness:
    return ClusterHarness(
        policy=policy or Policy(), module=module, ping_interval_s=1e6, offer_timeout_s=1e6, revoke_after_s=5.0
    )


def take_one_cpu_at_a_time(cluster: ClusterHarness, *frameworks: FrameworkPeer, tasks: int) -> dict[str, int]:
    """Each framework launches one task of a cpu per offer, until `tasks` run in all; returns how many each has."""
    got = {framework.info.name: 0 for framework in frameworks}
    while sum(got.values()) < tasks:
        (framework,) = [each for each in frameworks if each.inbox]
        number = cluster.now
        framework.accept(
            framework.offer(),
            tasks=[task(f"{framework.info.name}-{number}", "cpus=1,mem=1M", time_limit_s=10.0)],
        )
        got[framework.info.name] += 1
        cluster.advance(0.01)
    return got


def test_a_weight_that_was_changed_decides_what_is_offered_from_then_on() -> None:
    """Mesos: UpdateWeight."""
    cluster = cluster_with()
    cluster.slave("cpus=30,mem=1G")
    one, two = cluster.framework("one", role="one"), cluster.framework("two", role="two")
    assert take_one_cpu_at_a_time(cluster, one, two, tasks=12) == {"one": 6, "two": 6}
    cluster.change_terms(Policy({"one": Terms(weight=2.0)}))
    # What both held before counts: 18 of 27 are the heavy one's.
    assert take_one_cpu_at_a_time(cluster, one, two, tasks=15) == {"one": 12, "two": 3}


@MODULES
def test_the_new_module_knows_what_every_framework_holds(module: type[Allocator]) -> None:
    cluster = cluster_with(module=module)
    slave = cluster.slave("cpus=4,mem=4G")
    first = cluster.framework("first")
    first.accept(first.offer(), tasks=[task("t", "cpus=1,mem=1G")])
    slave.take(m.RunTasks)
    held = dict(cluster.allocator.held(first.framework_id))
    offered = first.inbox[-1]
    cluster.change_terms(Policy({"other": Terms(weight=3.0)}))
    now_held = cluster.core.cluster.allocator.held(first.framework_id)
    assert {name: amount for name, amount in now_held.items() if amount} == {
        n: a for n, a in held.items() if a
    }
    assert first.inbox[-1] is offered


def test_a_new_guarantee_is_fulfilled() -> None:
    cluster = cluster_with()
    slave = cluster.slave("cpus=2,mem=2G")
    greedy = cluster.framework("greedy")
    for name in ("a", "b"):
        greedy.accept(greedy.offer(), tasks=[task(name, "cpus=1,mem=1G", time_limit_s=10.0)])
        cluster.advance(0.01)
    prod = cluster.framework("prod", role="prod")
    cluster.advance(60)
    slave.inbox.clear()
    cluster.change_terms(Policy({"prod": Terms(guarantee=Resources.parse("cpus=1,mem=1G"))}))
    cluster.advance(60)
    assert [kill.task_id for kill in slave.inbox if isinstance(kill, m.KillTask)] == ["b"]
    assert not prod.inbox
    # And taken away again: nothing is revoked any more.
    cluster.change_terms(Policy())
    slave.inbox.clear()
    cluster.advance(60)
    assert slave.inbox == []


def test_a_raised_limit_frees_what_it_held_back() -> None:
    cluster = cluster_with(Policy({"small": Terms(limit=Resources.parse("cpus=1"))}))
    cluster.slave("cpus=4,mem=4G")
    small = cluster.framework("small", role="small")
    offer = small.offer()
    assert offer.resources.millicpus == 1000
    small.accept(offer, tasks=[task("t", "cpus=1,mem=1G", time_limit_s=10.0)])
    cluster.advance(10)
    assert not small.inbox
    cluster.change_terms(Policy({"small": Terms(limit=Resources.parse("cpus=3"))}))
    assert small.offer().resources.millicpus == 2000
