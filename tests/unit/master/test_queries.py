"""Operators' questions, pages that fit into frames, and why a framework waits."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import ContainerID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.core.events import MessagesUnsent


def busy(**settings: Any) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """On four cpus: two open tasks (one of them running) and one that has ended."""
    cluster = ClusterHarness(**settings)
    slave = cluster.slave("cpus=4,mem=4G", "node1", files_address="node1:5051")
    framework = cluster.framework("job", user="u", hostname="client")
    infos = [
        task("run", command=m.CommandInfo(["sleep"]), name="a sleep"),
        task("wait", time_limit_s=None),
        task("done"),
    ]
    framework.accept(framework.offer(), tasks=infos)
    slave.take(m.RunTasks)
    framework.inbox.clear()
    cluster.advance(1.0)
    slave.status(framework, "run", TaskState.RUNNING, container_id=ContainerID("c1"))
    slave.status(framework, "done", TaskState.RUNNING, container_id=ContainerID("c1"))
    cluster.advance(2.0)
    slave.status(
        framework,
        "done",
        TaskState.FAILED,
        2,
        reason="COMMAND_EXITED",
        message="bad",
        exit_status=7,
        usage=m.TaskUsage(1.5, 1 << 20),
    )
    framework.inbox.clear()
    return cluster, slave, framework


def test_the_cluster_at_a_glance() -> None:
    cluster, _, _ = busy()
    operator = cluster.operator()
    operator.send(om.GetCluster())
    answer = operator.take(om.Cluster)
    assert (answer.master_id, answer.epoch, answer.slaves, answer.frameworks) == ("M-test", 10, 1, 1)
    assert answer.total == Resources.parse("cpus=4,mem=4G")
    assert answer.used == Resources.parse("cpus=2,mem=2G")
    assert answer.offered == Resources.parse("cpus=2,mem=2G")
    assert answer.tasks == {"TASK_FAILED": 1, "TASK_RUNNING": 1, "TASK_STAGING": 1}
    assert (answer.up_s, answer.allocator, bool(answer.version)) == (3.0, "drf", True)


def test_the_daemon_counts_what_no_frame_could_hold() -> None:
    cluster = ClusterHarness()
    operator = cluster.operator()
    cluster.turn(MessagesUnsent(2), MessagesUnsent(3))
    operator.send(om.GetCluster())
    assert operator.take(om.Cluster).unsent_messages == 3


@pytest.mark.parametrize("out", ["deactivated", "draining", "disk"])
def test_resources_free_on_slaves_that_take_no_tasks_are_withheld(out: str) -> None:
    cluster, slave, _ = busy()
    cluster.slave("cpus=1,mem=1G", "other")
    operator = cluster.operator()

    def look() -> om.Cluster:
        operator.send(om.GetCluster())
        answer: om.Cluster = operator.take(om.Cluster)
        return answer

    before = look()
    assert (before.withheld, before.usable) == (Resources(), {"cpus": 5_000, "mem": 5 << 30})
    says = m.SlaveUsage(0, 0, disk_full=True) if out == "disk" else m.SlaveUsage(0, 0, mode=out)
    slave.send(says)
    after = look()
    assert (after.total, after.used) == (before.total, before.used)
    assert after.withheld == Resources.parse("cpus=2,mem=2G")
    assert after.usable == {"cpus": 3_000, "mem": 3 << 30}
    slave.send(m.SlaveUsage(0, 0, mode="active"))
    assert look().withheld == Resources()


def test_slaves_are_listed_with_what_is_used_offered_and_free() -> None:
    cluster, slave, _ = busy()
    slave.send(m.SlaveUsage(1500, 77, 2))
    operator = cluster.operator()
    operator.send(om.GetSlaves())
    (summary,) = operator.take(om.Slaves).slaves
    assert (summary.info.slave_id, summary.info.hostname, summary.state) == (
        slave.slave_id,
        "node1",
        "active",
    )
    assert (summary.used, summary.free) == (Resources.parse("cpus=2,mem=2G"), Resources())
    assert (summary.long_used, summary.tasks, summary.executors) == ({"cpus": 1000, "mem": 1 << 30}, 2, 1)
    assert (summary.used_millicpus, summary.used_mem_bytes, summary.since_s) == (1500, 77, 3.0)


def test_lost_and_draining_slaves_are_listed_as_such() -> None:
    cluster = ClusterHarness()
    lost, draining = cluster.slave(), cluster.slave()
    lost.answers_pings = False
    cluster.advance(31.0)
    draining.send(m.SlaveUsage(0, 0, draining=True))
    operator = cluster.operator()
    operator.send(om.GetSlaves())
    states = {s.info.slave_id: s.state for s in operator.take(om.Slaves).slaves}
    assert states == {lost.slave_id: "lost", draining.slave_id: "draining"}


def test_frameworks_are_listed_active_disconnected_and_ended() -> None:
    cluster, _, framework = busy()
    away, gone = cluster.framework("away", failover_timeout_s=100.0), cluster.framework("gone")
    cluster.lose_peer(away)
    gone.send(m.TeardownFramework())
    operator = cluster.operator()
    operator.send(om.GetFrameworks(ended=True))
    found = {f.framework_id: f for f in operator.take(om.Frameworks).frameworks}
    assert {f.name: f.state for f in found.values()} == {
        "job": "active",
        "away": "disconnected",
        "gone": "ended",
    }
    job = found[framework.framework_id]
    assert (job.user, job.hostname, job.used) == ("u", "client", Resources.parse("cpus=2,mem=2G"))
    assert job.dominant_share == pytest.approx(1.0), "with its offers"
    assert job.tasks == {"TASK_FAILED": 1, "TASK_RUNNING": 1, "TASK_STAGING": 1}
    operator.send(om.GetFrameworks())
    assert [f.name for f in operator.take(om.Frameworks).frameworks] == ["job", "away"]


def test_tasks_are_listed_with_how_they_run_or_ended_and_where_their_files_are() -> None:
    cluster, slave, _framework = busy()
    operator = cluster.operator()
    operator.send(om.GetTasks())
    found = {t.task_id: t for t in operator.take(om.Tasks).tasks}
    run, wait, done = (found[TaskID(name)] for name in ("run", "wait", "done"))
    assert (run.state, run.name, run.hostname, run.slave_id) == (
        TaskState.RUNNING,
        "a sleep",
        "node1",
        slave.slave_id,
    )
    assert (run.launched_s, run.ran_s, run.ended_s) == (3.0, 2.0, None)
    assert (run.files_address, run.sandbox) == ("node1:5051", "containers/c1/tasks/run")
    assert (wait.state, wait.time_limit_s, wait.ran_s, wait.sandbox) == (TaskState.STAGING, None, 0.0, "")
    assert (done.state, done.reason, done.message, done.exit_status) == (
        TaskState.FAILED,
        "COMMAND_EXITED",
        "bad",
        7,
    )
    assert (done.ran_s, done.ended_s, done.sandbox) == (2.0, 0.0, "containers/c1")
    assert (done.user, done.usage) == (run.user, m.TaskUsage(1.5, 1 << 20))
    assert done.user == "u"
    assert run.usage is None
    operator.send(om.GetTasks(ended=False))
    assert len(operator.take(om.Tasks).tasks) == 2


def test_one_task_is_found_in_all_frameworks() -> None:
    cluster, slave, _ = busy()
    other = cluster.framework("other")
    cluster.advance(31.0)
    offer = next(
        o for message in other.inbox if isinstance(message, m.ResourceOffers) for o in message.offers
    )
    other.accept(offer, tasks=[task("run")])
    operator = cluster.operator()
    operator.send(om.GetTasks(task_id=TaskID("run")))
    assert [t.framework_name for t in operator.take(om.Tasks).tasks] == ["job", "other"]
    operator.send(om.GetTasks(task_id=TaskID("run"), framework_id=other.framework_id))
    assert [t.framework_name for t in operator.take(om.Tasks).tasks] == ["other"]
    operator.send(om.GetTasks(task_id=TaskID("never")))
    assert operator.take(om.Tasks).tasks == []
    assert slave.take(m.RunTasks)


def test_listings_go_in_pages_without_gaps_or_doubles() -> None:
    cluster = ClusterHarness()
    slaves = {cluster.slave("cpus=1,mem=1G").slave_id for _ in range(7)}
    frameworks = {cluster.framework(f"f{n}").framework_id for n in range(7)}
    operator = cluster.operator()
    seen: list[str] = []
    after = SlaveID("")
    while True:
        operator.send(om.GetSlaves(after, 3))
        page = operator.take(om.Slaves)
        seen += [slave.info.slave_id for slave in page.slaves]
        assert len(page.slaves) <= 3
        if not page.more:
            break
        after = page.slaves[-1].info.slave_id
    assert seen == sorted(slaves)
    operator.send(om.GetFrameworks(limit=4))
    first = operator.take(om.Frameworks)
    operator.send(om.GetFrameworks(first.frameworks[-1].framework_id, 4))
    second = operator.take(om.Frameworks)
    assert [f.framework_id for f in first.frameworks + second.frameworks] == sorted(frameworks)
    assert (first.more, second.more) == (True, False)


def test_ten_thousand_tasks_are_listed_in_pages() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2000,mem=2000G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task(f"t{n}") for n in range(1500)])
    slave.inbox.clear()
    operator = cluster.operator()
    seen: list[str] = []
    after = ""
    while True:
        operator.send(om.GetTasks(after))
        page = operator.take(om.Tasks)
        seen += [t.task_id for t in page.tasks]
        if not page.next_after:
            break
        after = page.next_after
    assert sorted(seen) == sorted(f"t{n}" for n in range(1500))


def test_pages_of_tasks_have_neither_gaps_nor_doubles_whatever_ids_and_however_often_used() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=200,mem=200G")
    frameworks = [cluster.framework(f"f{number}") for number in range(3)]
    expected = []
    ids = ["a", "a-b", "a.b", "a0", "a:", "b", "B", "b-1", "b10", "b2"]

    def taken(framework: FrameworkPeer) -> list[m.Offer]:
        offers = [o for said in framework.inbox if isinstance(said, m.ResourceOffers) for o in said.offers]
        framework.inbox.clear()
        return offers

    for framework in frameworks:
        framework.send(m.SetNeedsOffers(False))
        framework.decline(*taken(framework), refuse_seconds=0.0)
    for framework in frameworks:
        framework.send(m.SetNeedsOffers(True))
        for run in range(3):
            cluster.advance(2.0)
            framework.accept(*taken(framework), tasks=[task(task_id) for task_id in ids])
            expected += [(framework.framework_id, task_id) for task_id in ids]
            for task_id in ids if run < 2 else ():
                slave.status(framework, task_id, TaskState.FINISHED)
        framework.send(m.SetNeedsOffers(False))
        framework.decline(*taken(framework), refuse_seconds=0.0)
    operator = cluster.operator()
    for limit in (1, 2, 3, 7, 1000):
        seen, after = [], ""
        while True:
            operator.send(om.GetTasks(after, limit))
            page = operator.take(om.Tasks)
            assert len(page.tasks) <= limit
            seen += [(t.framework_id, t.task_id) for t in page.tasks]
            if not page.next_after:
                break
            after = page.next_after
        assert sorted(seen) == sorted(expected)
        assert [framework_id for framework_id, _ in seen] == sorted(f for f, _ in expected)


def test_a_page_of_long_entries_ends_early_and_fits_into_a_frame() -> None:
    cluster = ClusterHarness()
    for _ in range(30):
        cluster.slave(attributes={"blob": "x" * 60_000})
    operator = cluster.operator()
    operator.send(om.GetSlaves())
    page = operator.take(om.Slaves)
    assert page.more
    assert 1 <= len(page.slaves) < 30


def test_an_operator_may_kill_anybodys_task() -> None:
    cluster, slave, framework = busy()
    operator = cluster.operator()
    operator.send(om.KillAnyTask(TaskID("run")))
    assert operator.take(om.Done).ok
    assert slave.take(m.KillTask).framework_id == framework.framework_id
    for question in (
        om.KillAnyTask(TaskID("done")),
        om.KillAnyTask(TaskID("run"), FrameworkID("F-other")),
        om.KillAnyTask(TaskID("x" * 250)),
    ):
        operator.send(question)
        answer = operator.take(om.Done)
        assert (answer.ok, "no task" in answer.message) == (False, True)


def test_a_task_id_of_two_frameworks_needs_the_framework() -> None:
    cluster, slave, _ = busy()
    other = cluster.framework("other")
    cluster.slave("cpus=4,mem=4G")
    other.accept(other.offer(), tasks=[task("run")])
    operator = cluster.operator()
    operator.send(om.KillAnyTask(TaskID("run")))
    answer = operator.take(om.Done)
    assert not answer.ok
    assert other.framework_id in answer.message
    operator.send(om.KillAnyTask(TaskID("run"), other.framework_id))
    assert operator.take(om.Done).ok
    assert slave.inbox == []


# -- Why a framework waits ----------------------------------------------------------------------------------------------


def why(
    cluster: ClusterHarness, framework: FrameworkPeer, wanted: str, limit_s: float | None = 5.0
) -> tuple[str, str]:
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(framework.framework_id, Resources.parse(wanted), limit_s))
    answer = operator.take(om.Waiting)
    return answer.why, answer.message


def test_waiting_for_any_slave() -> None:
    cluster = ClusterHarness()
    assert why(cluster, cluster.framework(), "cpus=1")[0] == "no_slaves"


def test_waiting_for_a_slave_that_is_large_enough() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=2,mem=2G")
    cluster.slave("cpus=4,mem=2G")
    reason, message = why(cluster, cluster.framework(), "cpus=8")
    assert reason == "no_slave_large_enough"
    assert "cpus=8" in message
    assert "cpus=4" in message


def test_waiting_for_more_than_long_tasks_may_ever_hold() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework()
    assert why(cluster, framework, "cpus=3", None)[0] == "long_task_cap"
    assert why(cluster, framework, "cpus=3", 60.0)[0] == "not_yet"


def test_waiting_for_a_long_task_to_end() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=8G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task(f"t{n}", time_limit_s=None) for n in range(2)])
    reason, message = why(cluster, framework, "cpus=1", None)
    assert reason == "long_task_cap"
    assert "60 s" in message


def test_waiting_for_others() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=2,mem=2G")
    greedy, framework = cluster.framework("greedy"), cluster.framework()
    greedy.accept(greedy.offer(), tasks=[task("t1"), task("t2")])
    reason, message = why(cluster, framework, "cpus=1")
    assert reason == "others_share"
    assert message == (
        'no slave has cpus=1 free; the most that is free on one is cpus=0 (host1); held there: cpus=2 by framework "greedy"'
    )


def test_what_is_missing_is_reported_with_amounts_and_holders() -> None:
    cluster = ClusterHarness(checks_invariants=False)
    cluster.slave("cpus=8,mem=10G", hostname="slave-1")
    cluster.slave("cpus=8,mem=2G", hostname="slave-2")
    grid = cluster.framework("grid")
    offers = {offer.hostname: offer for offer in grid.offers()}
    grid.accept(offers["slave-1"], tasks=[task("t1", "cpus=3,mem=2G")], refuse_seconds=600.0)
    grid.accept(offers["slave-2"], tasks=[task("t2", "cpus=8,mem=2G")], refuse_seconds=600.0)
    for name in ("nightly", "weekly"):
        batch = cluster.framework(name, role="batch")
        size = "cpus=1,mem=1G" if name == "nightly" else "cpus=2,mem=1G"
        batch.accept(batch.offer(), tasks=[task(name, size)], refuse_seconds=600.0)
    framework = cluster.framework()
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(framework.framework_id, Resources.parse("cpus=8,mem=1G"), 5.0))
    answer = operator.take(om.Waiting)
    assert answer.message == (
        "no slave has cpus=8,mem=1G free; the most that is free on one is cpus=2,mem=6G (slave-1); "
        'held there: cpus=3 by framework "grid", cpus=3 by role "batch"'
    )
    assert (answer.needed, answer.free) == ({"cpus": 8000, "mem": 1 << 30}, {"cpus": 2000, "mem": 6 << 30})
    assert answer.slave == "slave-1"
    assert [(each.kind, each.name, each.amounts["cpus"]) for each in answer.holders] == [
        ("framework", "grid", 3000),
        ("role", "batch", 3000),
    ]
    operator.send(om.ExplainFramework("framework"))
    (offered, full) = operator.take(om.Explanation).causes
    assert full.text == 'nothing is free there; held: cpus=8,mem=2G by framework "grid"'
    assert (offered.why, offered.free, full.free) == ("offered", {}, {})


def test_the_largest_of_many_holders_are_named_and_the_others_summed_up() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=66,mem=1G", hostname="one")
    for number in range(1, 12):
        each = cluster.framework(f"f{number}")
        each.accept(each.offer(), tasks=[task("t", f"cpus={number},mem=1M")], refuse_seconds=600.0)
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(FrameworkID(""), Resources.parse("cpus=2"), 5.0))
    answer = operator.take(om.Waiting)
    assert [(each.kind, each.name) for each in answer.holders] == [
        *(("framework", f"f{number}") for number in range(11, 3, -1)),
        ("rest", ""),
    ]
    assert answer.holders[-1].amounts["cpus"] == 6000
    assert answer.message.endswith(
        'held there: cpus=11 by framework "f11", cpus=10 by framework "f10" and 7 others'
    )
    assert len(answer.message) <= 200


def test_what_long_tasks_and_limits_leave_is_reported_with_amounts() -> None:
    policy = Policy({"small": Terms(limit=Resources.of(cpus=3))})
    cluster = ClusterHarness(policy=policy)
    cluster.slave("cpus=4,mem=4G", hostname="one")
    other, framework = cluster.framework("other", role="small"), cluster.framework(role="small")
    other.accept(other.offer(), tasks=[task("t1", "cpus=2,mem=1G", time_limit_s=None)], refuse_seconds=600.0)
    assert why(cluster, framework, "cpus=1", None)[1] == (
        "tasks without a time limit of at most 60 s may together hold 50% of a slave; left of that on one: cpus=0; "
        'held there: cpus=2 by framework "other"'
    )
    assert why(cluster, framework, "cpus=2", 5.0)[1] == (
        'its limit leaves cpus=1, and cpus=2 is needed; held under it: cpus=2 by framework "other", cpus=1 by this framework'
    )
    assert why(cluster, framework, "cpus=3", None)[1] == (
        "tasks without a time limit of at most 60 s may together hold 50% of a slave, at most cpus=2 on one"
    )


def why_not_all(
    cluster: ClusterHarness, framework: FrameworkPeer, count: int, limit_s: float | None, per_slave: int = 0
) -> om.Waiting:
    operator = cluster.operator()
    wanted = Resources.parse("cpus=1,mem=64M")
    asked = om.ExplainWaiting(framework.framework_id, wanted, limit_s, count=count, per_slave=per_slave)
    operator.send(asked)
    return operator.take(om.Waiting)


def test_several_tasks_at_once_wait_for_what_one_alone_would_get() -> None:
    cluster = ClusterHarness()
    for _ in range(3):
        cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    for count, limit_s, reason, text in (
        (3, None, "not_yet", ""),
        (4, None, "long_task_cap", "room for 3 of 4: "),
        (6, 60.0, "not_yet", ""),
        (7, 60.0, "too_few_slaves", "room for 6 of 7: "),
    ):
        answer = why_not_all(cluster, framework, count, limit_s)
        assert (answer.why, answer.message[: len(text)]) == (reason, text)
        assert answer.short_limit_s == (60.0 if reason == "long_task_cap" else 0.0)
    spread = why_not_all(cluster, framework, 4, 60.0, per_slave=1)
    assert (spread.why, spread.message) == (
        "too_few_to_spread",
        "room for 3 of 4: at most 1 on one slave: only 3 have room for cpus=1,mem=64M",
    )
    assert why_not_all(cluster, framework, 7, 60.0, per_slave=1).why == "too_few_slaves"


def test_several_tasks_at_once_wait_for_others_and_for_their_long_tasks() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=8G")
    other, framework = cluster.framework("other"), cluster.framework()
    other.accept(other.offer(), tasks=[task("t1", time_limit_s=None)])
    assert why_not_all(cluster, framework, 4, 5.0).why == "others_share"
    assert why_not_all(cluster, framework, 2, None).message.startswith("room for 1 of 2: ")
    assert why_not_all(cluster, framework, 2, 5.0).why == "not_yet"


def test_a_limit_leaves_room_for_some_of_several() -> None:
    policy = Policy(frameworks={"framework": Terms(limit=Resources.of(cpus=3))})
    cluster = ClusterHarness(policy=policy)
    cluster.slave("cpus=2,mem=2G")
    cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    assert why_not_all(cluster, framework, 3, 5.0).why == "not_yet"
    assert why_not_all(cluster, framework, 4, 5.0).why == "limit_reached"


def test_waiting_where_every_slave_is_deactivated() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    operator = cluster.operator()
    operator.send(om.ChangeSlaveMode(slave.slave_id, "deactivated"))
    reason, message = why(cluster, cluster.framework(), "cpus=1")
    assert (reason, message.split(":")[0]) == ("no_slaves", "none of the 1 slaves takes tasks")


def test_waiting_because_of_its_own_filters() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    framework.send(m.SetFilters(m.Filters(attributes={"disk": "ssd"}, attributes_exist=["gpu"])))
    reason, message = why(cluster, framework, "cpus=1")
    assert (reason, message.rpartition("attributes ")[2]) == ("filtered", "disk=ssd,gpu")
    framework.send(m.SetFilters(m.Filters(slave_ids=[SlaveID("S-none")])))
    reason, message = why(cluster, framework, "cpus=1")
    assert (reason, message) == (
        "filtered",
        "the framework's own filters exclude slaves that are large enough",
    )


def test_waiting_because_it_has_refused() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    framework.decline(framework.offer(), refuse_seconds=8.0)
    reason, message = why(cluster, framework, "cpus=1")
    assert reason == "refused"
    assert "8.0 s" in message


def test_waiting_because_of_a_limit() -> None:
    policy = Policy(frameworks={"framework": Terms(limit=Resources.of(cpus=2))})
    cluster = ClusterHarness(policy=policy)
    cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework()
    assert why(cluster, framework, "cpus=2")[0] == "not_yet", "it is offered as much"
    assert why(cluster, framework, "cpus=3")[0] == "limit_reached"
    framework.accept(framework.offer(), tasks=[task("t1", "cpus=2,mem=1G")])
    assert why(cluster, framework, "cpus=1")[0] == "limit_reached"


def test_waiting_for_a_minimum_offer() -> None:
    cluster = ClusterHarness(minimum_offer=Resources.of(cpus=2))
    cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1", "cpus=3,mem=1G")])
    reason, message = why(cluster, framework, "cpus=1")
    assert reason == "minimum_offer_not_free"
    assert message == (
        "less is free than the slave's minimum offer, cpus=2: cpus=1 (host1); held there: cpus=3 by this framework"
    )


def test_waiting_for_a_scheduler() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework(failover_timeout_s=600.0)
    cluster.lose_peer(framework)
    assert why(cluster, framework, "cpus=1")[0] == "no_scheduler"


def test_waiting_for_the_offer_it_holds() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=2,mem=2G")
    assert why(cluster, cluster.framework(), "cpus=1")[0] == "not_yet"


def test_a_scheduler_may_ask_for_itself() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    framework.send(om.ExplainWaiting(framework.framework_id, Resources.parse("cpus=1")))
    assert framework.take(om.Waiting).why == "no_slaves"
