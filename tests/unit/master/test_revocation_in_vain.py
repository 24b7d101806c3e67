"""Tasks must not be lost in vain: because of a limit, slow ends, two in need, frameworks that decline, or a new master."""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.errors import BadInput
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms

AFTER_S, GRACE_S = 5.0, 30.0


def terms(guarantee: str = "", limit: str | None = None) -> Terms:
    return Terms(
        guarantee=Resources.parse(guarantee), limit=None if limit is None else Resources.parse(limit)
    )


def cluster_with(policy: Policy, now: float = 1000.0) -> ClusterHarness:
    return ClusterHarness(
        now,
        policy=policy,
        ping_interval_s=1e6,
        offer_timeout_s=1e6,
        revoke_after_s=AFTER_S,
        revoke_grace_s=GRACE_S,
    )


def full_slave(cluster: ClusterHarness, framework: FrameworkPeer, cpus: int, prefix: str = "t") -> SlavePeer:
    """A slave on which a task of this framework holds each cpu; the framework wants no more."""
    slave = cluster.slave(f"cpus={cpus},mem={cpus}G", long_fraction=1.0)
    for number in range(cpus):
        one = task(f"{prefix}{number}", "cpus=1,mem=1G", time_limit_s=None)
        framework.accept(framework.offer(), tasks=[one])
        cluster.advance(0.01)
    return slave


def killed(slave: SlavePeer) -> list[TaskID]:
    return [message.task_id for message in slave.inbox if isinstance(message, m.KillTask)]


def end(slave: SlavePeer, framework: FrameworkPeer, *task_ids: str) -> None:
    for task_id in task_ids:
        slave.status(framework, task_id, TaskState.KILLED)


def guaranteed(framework: FrameworkPeer) -> Resources:
    framework.inbox.clear()
    framework.send(m.GetGuaranteedShare())
    return framework.take(m.GuaranteedShare).resources


# -- Policies -----------------------------------------------------------------------------------------------------------


def test_a_guarantee_is_a_part_of_the_next_one_around_it_whatever_stands_between() -> None:
    with pytest.raises(BadInput, match="its guarantee of cpus is less than those of the roles within it"):
        Policy({"a": terms("cpus=10"), "a/b": Terms(weight=2.0), "a/b/c": terms("cpus=20")})
    cluster = cluster_with(
        Policy({"a": terms("cpus=10"), "a/b": Terms(weight=2.0), "a/b/c": terms("cpus=4")})
    )
    cluster.slave("cpus=20,mem=1G")
    assert guaranteed(cluster.framework(role="a/b")) == Resources.of(cpus=6)


def test_more_than_a_limit_around_it_allows_cannot_be_guaranteed() -> None:
    with pytest.raises(BadInput, match="its guarantee of cpus is more than the limit of 'a'"):
        Policy({"a": terms(limit="cpus=1"), "a/b": terms("cpus=4")})


# -- Victims ------------------------------------------------------------------------------------------------------------


def test_where_a_limit_is_reached_only_those_under_it_can_make_room() -> None:
    cluster = cluster_with(Policy({"prod": terms("cpus=4", limit="cpus=4")}))
    other, first = cluster.framework("other"), cluster.framework("first", role="prod")
    first.send(m.SetNeedsOffers(False))
    outside = full_slave(cluster, other, 4, "other")
    other.send(m.SetNeedsOffers(False))
    first.send(m.SetNeedsOffers(True))
    inside = full_slave(cluster, first, 4, "first")
    first.send(m.SetNeedsOffers(False))
    cluster.framework("second", role="prod")
    cluster.advance(AFTER_S + GRACE_S + 10)
    assert killed(outside) == []
    assert killed(inside) == ["first3", "first2"]


def test_while_killed_tasks_take_their_time_to_die_no_more_are_killed() -> None:
    cluster = cluster_with(Policy({"prod": terms("cpus=1")}))
    greedy = cluster.framework("greedy")
    slave = full_slave(cluster, greedy, 4)
    prod = cluster.framework("prod", role="prod")
    cluster.advance(600)
    assert killed(slave) == ["t3"]
    end(slave, greedy, "t3")
    prod.offer()
    cluster.advance(600)
    assert killed(slave) == ["t3"]


def test_what_a_victim_gives_up_counts_for_one_framework_only() -> None:
    cluster = cluster_with(Policy({"a": terms("cpus=1"), "b": terms("cpus=1")}))
    greedy = cluster.framework("greedy")
    slave = full_slave(cluster, greedy, 4)
    a, b = cluster.framework("a", role="a"), cluster.framework("b", role="b")
    cluster.advance(AFTER_S + 2)
    assert len([x for x in greedy.inbox if isinstance(x, m.RevocationNotice)]) == 2
    slave.status(greedy, "t0", TaskState.FINISHED)
    cluster.advance(GRACE_S)
    assert len(killed(slave)) == 1
    end(slave, greedy, *killed(slave))
    assert len([f for f in (a, b) if any(isinstance(x, m.ResourceOffers) for x in f.inbox)]) == 2


def test_nothing_is_revoked_for_a_framework_that_declines_free_room() -> None:
    cluster = cluster_with(Policy({"prod": terms("cpus=2")}))
    greedy = cluster.framework("greedy")
    slaves = [full_slave(cluster, greedy, 4, f"s{number}-") for number in range(4)]
    greedy.send(m.SetNeedsOffers(False))
    prod = cluster.framework("prod", role="prod")
    for _ in range(600):
        cluster.advance(1)
        for slave in slaves:
            for task_id in killed(slave):
                end(slave, greedy, task_id)
            slave.inbox.clear()
        while prod.inbox:
            prod.decline(*prod.offers(), refuse_seconds=5.0)
        greedy.inbox.clear()
    left = len(cluster.core.cluster.frameworks[greedy.framework_id].tasks)
    assert left == 14, "two made room for its guarantee"


# -- Beginnings and ends ------------------------------------------------------------------------------------------------


def test_a_new_master_revokes_nothing_before_all_slaves_have_had_time_to_return() -> None:
    cluster = cluster_with(Policy({"prod": terms("cpus=2")}))
    slave = cluster.slave("cpus=4,mem=4G", registers=False)
    slave.info = m.SlaveInfo("host", slave.info.resources, SlaveID("S-1-0001"), long_fraction=1.0)
    greedy = m.FrameworkInfo("greedy", FrameworkID("F-1-0001"), executors=[])
    executor = ExecutorID("e")
    container = ContainerID("c")
    running = [
        m.RunningTask(greedy.framework_id, executor, TaskID(f"t{n}"), Resources.of(cpus=1), TaskState.RUNNING)
        for n in range(4)
    ]
    slave.register([m.RunningExecutor(greedy, executor, container)], running)
    cluster.framework("prod", role="prod")
    cluster.advance(cluster.settings.adoption_grace_s - 1)
    assert cluster.core.cluster.revocations == []
    cluster.advance(AFTER_S + 3)
    assert len(cluster.core.cluster.revocations) == 1


def test_a_framework_that_has_ended_has_no_part_of_a_guarantee() -> None:
    cluster = cluster_with(Policy({"prod": terms("cpus=4")}))
    first = cluster.framework("first", role="prod")
    slave = full_slave(cluster, first, 4)
    second = cluster.framework("second", role="prod")
    assert guaranteed(second) == Resources.of(cpus=2)
    first.send(m.TeardownFramework())
    assert guaranteed(second) == Resources.of(cpus=4)
    cluster.change_terms(Policy({"prod": terms("cpus=3")}))
    assert guaranteed(second) == Resources.of(cpus=3)
    end(slave, first, "t0", "t1", "t2", "t3")
    assert guaranteed(second) == Resources.of(cpus=3)
