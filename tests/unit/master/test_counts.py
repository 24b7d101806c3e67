"""What a master counts of its work, as its followers get it."""

from __future__ import annotations

from helpers.master_harness import ClusterHarness, task
from offerd import messages as m
from offerd.messages import Reason, TaskState
from offerd.protocol.change_messages import Changes, FollowChanges, MasterNow, Timing
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.core.counts import Counts
from offerd_master.core.events import Measured


def said(cluster: ClusterHarness) -> MasterNow:
    """What the master says of itself to a new follower."""
    follower = cluster.operator()
    follower.send(FollowChanges())
    return follower.take(Changes).master


def risen(cluster: ClusterHarness, before: MasterNow) -> dict[str, int]:
    """The counts that have risen, apart from that of messages, and by how much."""
    now = said(cluster).counts
    assert now.keys() == before.counts.keys()
    more = {name: count - before.counts[name] for name, count in now.items() if count != before.counts[name]}
    assert more.pop("messages_received") > 0, "a question is a message, too"
    return more


def test_a_new_master_has_counted_nothing_but_what_was_asked() -> None:
    now = said(ClusterHarness())
    assert now.counts == {**Counts().tallies(), "messages_received": 1}
    assert now.epoch == 10


def test_offers_are_counted_by_how_they_end() -> None:
    cluster = ClusterHarness(offer_timeout_s=30.0)
    before = said(cluster)
    framework = cluster.framework()
    slave = cluster.slave()
    framework.accept(framework.offer(), tasks=[task("t1")], refuse_seconds=100.0)
    assert risen(cluster, before) == {"offers_made": 1, "offers_accepted": 1, "tasks_launched": 1}

    before = said(cluster)
    slave.finish(framework, "t1")
    framework.decline(framework.offer(), refuse_seconds=1.0)
    cluster.advance(2.0)
    framework.inbox.clear()
    assert risen(cluster, before) == {"offers_made": 2, "offers_declined": 1, "status_updates": 1}

    before = said(cluster)
    cluster.advance(31.0)
    assert risen(cluster, before) == {"offers_rescinded": 1, "offers_unanswered": 1, "offers_made": 1}

    before = said(cluster)
    cluster.lose_peer(slave)
    cluster.advance(cluster.settings.reconnect_grace_s + 1)
    assert risen(cluster, before)["offers_rescinded"] >= 1


def test_a_repeated_status_counts_as_a_repeat() -> None:
    cluster = ClusterHarness()
    framework, slave = cluster.framework(), cluster.slave()
    framework.accept(framework.offer(), tasks=[task("t1")])
    before = said(cluster)
    slave.status(framework, "t1", TaskState.RUNNING, container_id="C")
    assert risen(cluster, before) == {"status_updates": 1}
    slave.status(framework, "t1", TaskState.RUNNING, container_id="C")
    assert risen(cluster, before) == {"status_updates": 2, "status_repeats": 1}
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    made = risen(cluster, before)
    assert (made["status_updates"], made["status_repeats"]) == (3, 1), "its end is news"
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    assert risen(cluster, before)["status_repeats"] == 2, "its scheduler has not acknowledged the end"
    slave_id = slave.slave_id
    framework.send(m.Acknowledge(framework.framework_id, slave_id, [(task("t1").task_id, 2)]))
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    assert risen(cluster, before)["status_repeats"] == 3, "its slave has missed the acknowledgement"


def test_tasks_that_their_time_limit_ends_are_counted() -> None:
    cluster = ClusterHarness()
    framework, slave = cluster.framework(), cluster.slave()
    framework.accept(framework.offer(), tasks=[task("t1"), task("t2")])
    before = said(cluster)
    slave.status(framework, "t1", TaskState.KILLED, reason=Reason.TASK_TIMEOUT)
    slave.status(framework, "t2", TaskState.KILLED)
    made = risen(cluster, before)
    assert (made["timeouts"], made["status_updates"]) == (1, 2)


def test_revoked_tasks_are_counted_at_the_notice_and_at_the_kill() -> None:
    policy = Policy(roles={"owner": Terms(guarantee=Resources.of(cpus=4))})
    cluster = ClusterHarness(policy=policy, revoke_after_s=5.0, revoke_grace_s=5.0)
    greedy = cluster.framework("greedy", role="guest")
    cluster.slave("cpus=4,mem=4G")
    greedy.accept(greedy.offer(), tasks=[task(f"t{i}", time_limit_s=60.0) for i in range(4)])
    before = said(cluster)
    cluster.framework("owner", role="owner")
    cluster.advance(7.0)
    made = risen(cluster, before)
    assert made["revocations"] == 4
    assert "revocation_kills" not in made
    cluster.advance(7.0)
    assert risen(cluster, before)["revocation_kills"] == 4


def test_what_the_daemon_has_measured_goes_to_followers_beside_what_the_core_knows() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    cluster.framework("waits")
    timing = Timing([1] * 11, 0.5)
    cluster.turn(Measured({"messages_sent": 7}, {"connections": 3}, {"tick": timing}))
    now = said(cluster)
    assert now.counts["messages_sent"] == 7
    assert now.gauges == {
        "followers": 1, "offers": 1, "peers": 2, "dirty_slaves": 0, "idle_slaves": 0, "connections": 3,
    }  # fmt: skip
    assert now.timings == {"tick": timing}
