"""A follower that is slow, or that asks at a bad moment, is sent what it needs and no more."""

from __future__ import annotations

from helpers.master_harness import ClusterHarness, task
from helpers.shadow import EVERYTHING
from offerd.core.replica import Replica
from offerd.protocol.change_messages import Changes
from offerd_master.core import following


def ask(cluster: ClusterHarness, replica: Replica, limit: int = 1000) -> Changes:
    """One question, its answer taken over. Frameworks are not looked at for it."""
    following.note_follower(cluster.core.cluster, cluster.now)
    changes = following.changes_since(
        cluster.core.cluster, EVERYTHING, replica.question(limit=limit), cluster.now
    )
    replica.apply(changes)
    return changes


def test_a_follower_that_misses_ends_is_sent_how_many_and_not_everything_again() -> None:
    cluster = ClusterHarness(max_ended_tasks=3, max_ended_tasks_per_framework=3)
    framework, slave = cluster.framework(), cluster.slave("cpus=4,mem=8G")
    framework.accept(framework.offer(), tasks=[task("seen"), task("stays")])
    replica = Replica()
    assert ask(cluster, replica).is_reset
    assert {name for _, name in replica.tasks} == {"seen", "stays"}
    slave.finish(framework, "seen")
    for number in range(5):
        framework.accept(framework.offer(), tasks=[task(f"brief-{number}")])
        slave.finish(framework, f"brief-{number}")
    changes = ask(cluster, replica)
    assert (changes.is_reset, changes.ended_missed) == (False, 3)
    assert [record.task_id for record in changes.ended] == ["brief-2", "brief-3", "brief-4"]
    assert {name for _, name in replica.tasks} == {"stays"}, (
        "the end of a task that it knew was among the missed"
    )


def test_however_many_tasks_end_what_is_open_is_not_held_up() -> None:
    cluster = ClusterHarness()
    framework, slave = cluster.framework(), cluster.slave("cpus=4,mem=8G")
    replica = Replica()
    ask(cluster, replica)
    for number in range(8):
        framework.accept(framework.offer(), tasks=[task(f"brief-{number}")])
        slave.finish(framework, f"brief-{number}")
    framework.accept(framework.offer(), tasks=[task("stays")])
    changes = ask(cluster, replica, limit=6)
    assert changes.has_more
    assert len(changes.ended) == 3
    assert "stays" in {name for _, name in replica.tasks}


def test_a_framework_whose_name_alone_was_sent_is_forgotten_too() -> None:
    cluster = ClusterHarness(checks_invariants=False)
    replica = Replica()
    ask(cluster, replica)
    following.scan_frameworks(cluster.core.cluster)
    framework_id = cluster.framework().framework_id
    ask(cluster, replica)
    assert framework_id in replica.framework_infos
    assert framework_id not in replica.frameworks
    del cluster.core.cluster.frameworks[framework_id]
    following.scan_frameworks(cluster.core.cluster)
    assert ask(cluster, replica).forgotten_frameworks == [framework_id]
    assert framework_id not in replica.framework_infos
