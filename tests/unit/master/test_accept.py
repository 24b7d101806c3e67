"""Accepts: what is launched, what fails, and why."""

from __future__ import annotations

import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd.values import ranges as rng


def offered(
    resources: str = "cpus=4,mem=4G", executors: list[m.ExecutorInfo] | None = None
) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer, m.Offer]:
    cluster = ClusterHarness()
    slave = cluster.slave(resources)
    framework = cluster.framework(executors=executors if executors is not None else [EXECUTOR])
    return cluster, slave, framework, framework.offer()


def test_tasks_reach_the_slave_in_one_message_with_all_that_they_need() -> None:
    cluster, slave, framework, offer = offered()
    infos = [task("t1", data=b"payload"), task("t2", command=m.CommandInfo(["true"]), name="a name")]
    framework.accept(offer, tasks=infos, refuse_seconds=60.0)
    run = slave.take(m.RunTasks)
    assert (run.framework.framework_id, run.framework.name) == (framework.framework_id, "framework")
    assert run.framework.executors == [], "executors travel beside the framework, not inside it"
    assert (run.executor, run.tasks) == (EXECUTOR, infos)
    cluster.assert_nothing_else_sent()


def test_tasks_of_two_executors_go_in_two_messages_in_order() -> None:
    second = m.ExecutorInfo(ExecutorID("second"), command=m.CommandInfo(["x"]))
    _, slave, framework, offer = offered(executors=[EXECUTOR, second])
    framework.accept(offer, tasks=[task("a1"), task("b1", executor_id="second"), task("a2")])
    runs = slave.take_all(m.RunTasks)
    assert [(r.executor.executor_id, [t.task_id for t in r.tasks]) for r in runs] == [
        ("default", ["a1", "a2"]),
        ("second", ["b1"]),
    ]


BAD = [
    (task("t", "cpus=5"), TaskState.ERROR, Reason.OFFER_EXCEEDED),
    (task("t", "cpus=1,gpus=1"), TaskState.ERROR, Reason.OFFER_EXCEEDED),
    (task("t", "cpus=1,ports=[1-2]"), TaskState.ERROR, Reason.OFFER_EXCEEDED),
    (task("good0"), TaskState.ERROR, Reason.TASK_ID_DUPLICATE),
    (task("t", ""), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", time_limit_s=-1.0), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", time_limit_s=0.0), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", kill_grace_s=-1.0), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", executor_id="nobody"), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", executor_id="empty"), TaskState.ERROR, Reason.TASK_INVALID),
    (task(""), TaskState.ERROR, Reason.TASK_INVALID),
    (task("../etc"), TaskState.ERROR, Reason.TASK_INVALID),
    (task("t", "cpus=2.5", time_limit_s=None), TaskState.LOST, Reason.LONG_TASK_CAP),
]


@pytest.mark.parametrize(("bad", "state", "reason"), BAD)
def test_one_bad_task_fails_alone(bad: m.TaskInfo, state: TaskState, reason: Reason) -> None:
    cluster, slave, framework, offer = offered(executors=[EXECUTOR, m.ExecutorInfo(ExecutorID("empty"))])
    framework.accept(offer, tasks=[task("good0"), bad, task("good1")], refuse_seconds=60.0)
    assert [t.task_id for t in slave.take(m.RunTasks).tasks] == ["good0", "good1"]
    status = framework.update(state)
    assert (status.task_id, status.reason) == (bad.task_id, reason)
    assert (status.source, status.sequence) == ("master", 0)
    assert status.message
    assert cluster.drops == []
    cluster.assert_nothing_else_sent()


def test_an_id_too_long_to_be_sent_back_drops_its_sender() -> None:
    cluster, _slave, framework, offer = offered()
    framework.accept(offer, tasks=[task("x" * 200)])
    assert [drop.peer for drop in cluster.drops] == [framework.peer]
    assert "a task id of 200 characters" in framework.take(m.Dropped).why
    cluster.assert_nothing_else_sent()


def test_a_task_that_fits_no_message_fails() -> None:
    _cluster, _slave, framework, offer = offered(
        executors=[m.ExecutorInfo(ExecutorID("default"), "m", data=b"x" * 200_000)]
    )
    framework.accept(offer, tasks=[task("big", data=b"x" * 900_000)])
    status = framework.update(TaskState.ERROR)
    assert status.reason == Reason.TASK_INVALID
    assert "does not fit" in status.message


def test_tasks_too_large_for_one_message_go_in_several() -> None:
    _cluster, slave, framework, offer = offered(
        executors=[m.ExecutorInfo(ExecutorID("default"), "m", data=b"x" * 200_000)]
    )
    infos = [task(f"t{n}", "cpus=0.01", data=b"x" * 9_000) for n in range(100)]
    framework.accept(offer, tasks=infos)
    runs = [message for message in slave.inbox if isinstance(message, m.RunTasks)]
    assert len(runs) > 1
    assert [t.task_id for run in runs for t in run.tasks] == [info.task_id for info in infos]


def test_a_thousand_tasks_of_a_thousandth_fit_exactly_into_one_cpu() -> None:
    cluster, slave, framework, offer = offered("cpus=1")
    framework.accept(offer, tasks=[task(f"t{n}", "cpus=0.001") for n in range(1001)])
    assert len(slave.take(m.RunTasks).tasks) == 1000
    assert framework.update(TaskState.ERROR).reason == Reason.OFFER_EXCEEDED
    cluster.assert_nothing_else_sent()


def test_offers_of_several_slaves_are_refused_and_free_again() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    cluster.slave()
    framework = cluster.framework()
    one, two = framework.offers()
    framework.accept(one, two, tasks=[task("t1"), task("t2")])
    assert [framework.update(TaskState.LOST).reason for _ in range(2)] == [Reason.OFFER_INVALID] * 2
    assert len(framework.offers()) == 2
    cluster.assert_nothing_else_sent()


def test_an_offer_named_twice_is_refused() -> None:
    cluster, _slave, framework, offer = offered()
    framework.accept(offer, offer, tasks=[task("t1", "cpus=8")])
    assert framework.update(TaskState.LOST).reason == Reason.OFFER_INVALID
    framework.offer()
    cluster.assert_nothing_else_sent()


def test_an_accept_without_offers_fails_its_tasks() -> None:
    cluster, _slave, framework, _offer = offered()
    framework.accept(tasks=[task("t1")])
    assert framework.update(TaskState.LOST).reason == Reason.OFFER_INVALID
    cluster.assert_nothing_else_sent()


def test_on_four_cpus_two_of_three_tasks_without_a_limit_run() -> None:
    _cluster, slave, framework, offer = offered("cpus=4,mem=8G")
    framework.accept(offer, tasks=[task(f"t{n}", "cpus=1", time_limit_s=None) for n in range(3)])
    assert [t.task_id for t in slave.take(m.RunTasks).tasks] == ["t0", "t1"]
    assert framework.update(TaskState.LOST).reason == Reason.LONG_TASK_CAP
    rest = framework.offer()
    assert rest.resources.millicpus == 2000
    assert rest.long_quantities["cpus"] == 0
    framework.accept(rest, tasks=[task(f"short{n}", "cpus=1", time_limit_s=60.0) for n in range(2)])
    assert len(slave.take(m.RunTasks).tasks) == 2


def test_a_limit_above_the_slaves_short_limit_is_long() -> None:
    _cluster, _slave, framework, offer = offered("cpus=4")
    framework.accept(offer, tasks=[task("t", "cpus=3", time_limit_s=60.1)])
    assert framework.update(TaskState.LOST).reason == Reason.LONG_TASK_CAP


def test_the_long_part_is_free_again_when_a_long_task_ends() -> None:
    _cluster, slave, framework, offer = offered("cpus=4")
    framework.accept(offer, tasks=[task("t0", "cpus=2", time_limit_s=None)])
    slave.take(m.RunTasks)
    rest = framework.offer()
    assert rest.long_quantities == {"cpus": 0}
    slave.finish(framework, "t0")
    assert framework.offer().long_quantities == {"cpus": 2000}


def test_two_offers_of_one_slave_do_not_double_the_long_part() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4")
    first, second = cluster.framework("first"), cluster.framework("second")
    first.accept(first.offer(), tasks=[task("short", "cpus=2")])
    slave.take(m.RunTasks)
    one = second.offer()
    slave.finish(first, "short")
    other = first.offer()
    assert one.long_quantities == other.long_quantities == {"cpus": 2000}
    first.accept(other, tasks=[task("long1", "cpus=2", time_limit_s=None)])
    second.accept(one, tasks=[task("long2", "cpus=2", time_limit_s=None)])
    assert [t.task_id for run in slave.take_all(m.RunTasks) for t in run.tasks] == ["long1"]
    assert second.update(TaskState.LOST).reason == Reason.LONG_TASK_CAP


def test_an_executors_own_resources_are_charged_once_and_freed_when_it_exits() -> None:
    heavy = m.ExecutorInfo(ExecutorID("default"), "m", resources=Resources.parse("cpus=1,mem=1G"))
    _cluster, slave, framework, offer = offered("cpus=4,mem=4G", [heavy])
    framework.accept(offer, tasks=[task("t1"), task("t2")])
    slave.take(m.RunTasks)
    rest = framework.offer()
    assert rest.resources == Resources.parse("cpus=1,mem=1G")
    assert rest.executor_ids == ["default"]
    framework.decline(rest, refuse_seconds=3600.0)
    slave.finish(framework, "t1", "t2")
    assert framework.offer().resources == Resources.parse("cpus=2,mem=2G")
    exited = m.ExecutorExited(framework.framework_id, ExecutorID("default"), ContainerID("c"), 3, "crashed")
    slave.send(exited)
    lost = framework.take(m.ExecutorLost)
    assert (lost.executor_id, lost.exit_status, lost.message) == ("default", 3, "crashed")
    # The second task's and the executor's: more than was refused.
    assert framework.offer().resources == Resources.parse("cpus=2,mem=2G")


def test_executor_resources_are_not_long() -> None:
    heavy = m.ExecutorInfo(ExecutorID("default"), "m", resources=Resources.parse("cpus=2"))
    _cluster, slave, framework, offer = offered("cpus=4", [heavy])
    framework.accept(offer, tasks=[task("t1", "cpus=2", time_limit_s=None)])
    assert len(slave.take(m.RunTasks).tasks) == 1


def test_the_first_task_needs_room_for_its_executor() -> None:
    heavy = m.ExecutorInfo(ExecutorID("default"), "m", resources=Resources.parse("cpus=2"))
    _cluster, _slave, framework, offer = offered("cpus=4", [heavy])
    framework.accept(offer, tasks=[task("t1", "cpus=3")])
    assert framework.update(TaskState.ERROR).reason == Reason.OFFER_EXCEEDED


def test_ports_are_held_and_given_back_as_numbers() -> None:
    _cluster, slave, framework, offer = offered("cpus=4,ports=[100-109]")
    framework.accept(offer, tasks=[task("t1", "cpus=1,ports=[102-103]"), task("t2", "cpus=1,ports=[103]")])
    slave.take(m.RunTasks)
    assert framework.update(TaskState.ERROR).reason == Reason.OFFER_EXCEEDED
    rest = framework.offer()
    assert rest.resources.ranges == {"ports": [(100, 101), (104, 109)]}
    framework.decline(rest, refuse_seconds=0.0)
    slave.finish(framework, "t1")
    assert framework.offer().resources.ranges == {"ports": [(100, 109)]}


def test_a_slave_in_very_many_pieces_is_offered_only_in_part() -> None:
    cluster, slave, framework, offer = offered("cpus=100,ports=[1-60000]")
    for n in range(17):
        every_other = ",".join(str(port) for port in range(n * 500 + 1, n * 500 + 501, 2))
        framework.accept(offer, tasks=[task(f"t{n}", f"cpus=0.1,ports=[{every_other}]")])
        slave.take(m.RunTasks)
        offer = framework.offer()
    assert len(offer.resources.ranges["ports"]) == 4096
    assert rng.size(cluster.core.cluster.slaves[slave.slave_id].free.rest.ranges["ports"]) > 50_000
