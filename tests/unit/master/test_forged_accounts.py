"""What a slave may claim of others: it moves no share by more than its size, invents little, and speaks for no other peer."""

from __future__ import annotations

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd_master.core.slaves import MAX_MET

FOREIGN = FrameworkID("F-7-0001")
"""An id given by an earlier master: slaves may know it before this master does."""


def liar_and_victim(framework_id: FrameworkID = FOREIGN) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """A slave of 4 cpus and 4G that is about to lie, an honest one of 12, and a framework on neither."""
    cluster = ClusterHarness()
    cluster.slave("cpus=12,mem=12G")
    liar = cluster.slave(registers=False)
    victim = cluster.framework(registers=False)
    victim.info = msgspec.structs.replace(victim.info, framework_id=framework_id)
    victim.register()
    victim.decline(victim.offer())
    victim.send(m.SetNeedsOffers(False))
    return cluster, liar, victim


def share(cluster: ClusterHarness, framework: FrameworkPeer) -> float:
    return cluster.core.cluster.allocator.share(framework.framework_id)


def claimed(framework: FrameworkPeer, name: str, resources: str) -> m.RunningTask:
    return running(framework, task(name, resources))


@pytest.mark.parametrize(
    "claims",
    [
        ["cpus=1000000000,mem=1G"],
        ["cpus=1000000000,mem=1T"] * 3,
        ["cpus=4,mem=4G"] * 3,
        ["cpus=3,mem=1G", "cpus=3,mem=1G", "gpus=100,cpus=1"],
    ],
)
def test_claimed_tasks_move_a_share_no_further_than_the_slave_is_large(claims: list[str]) -> None:
    cluster, liar, victim = liar_and_victim()
    liar.register(tasks=[claimed(victim, f"t{number}", claim) for number, claim in enumerate(claims)])
    assert share(cluster, victim) <= 4 / 16
    assert cluster.core.cluster.allocator.held(victim.framework_id).get("cpus", 0) <= 4000
    assert "gpus" not in cluster.core.cluster.allocator.held(victim.framework_id)


def test_claimed_executors_move_a_share_no_further_either_and_leave_no_room_for_claimed_tasks() -> None:
    cluster, liar, victim = liar_and_victim()
    greedy = m.ExecutorInfo(ExecutorID("greedy"), resources=Resources.parse("cpus=1000,mem=4G"))
    liar.register([executor(victim, greedy)], [claimed(victim, "t", "cpus=4,mem=4G")])
    held = cluster.core.cluster.allocator.held(victim.framework_id)
    assert (held.get("cpus"), held.get("mem")) == (4000, 4 << 30)


def test_what_really_runs_on_a_slave_counts_in_full() -> None:
    cluster, slave, framework = liar_and_victim()
    slave.register(
        [executor(framework)],
        [claimed(framework, "a", "cpus=1,mem=1G"), claimed(framework, "b", "cpus=3,mem=2G")],
    )
    assert cluster.core.cluster.allocator.held(framework.framework_id) == {"cpus": 4000, "mem": 3 << 30}


def test_ports_and_set_members_that_the_slave_does_not_have_are_not_counted() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4,ports=[1-10]", registers=False)
    framework = cluster.framework(framework_id=FOREIGN)
    slave.register(tasks=[claimed(framework, "t", "cpus=1,ports=[5-20]")])
    (known,) = cluster.core.cluster.slaves[slave.slave_id].tasks
    assert known.resources == Resources.parse("cpus=1,ports=[5-10]")


def test_a_framework_that_a_slave_invents_is_forgotten_when_the_slave_names_it_no_more() -> None:
    cluster, liar, _ = liar_and_victim()
    invented = m.FrameworkInfo("x", FrameworkID("F-8-0001"), "root", "prod", failover_timeout_s=1e7)
    liar.register([m.RunningExecutor(invented, ExecutorID("e"), ContainerID("c"))])
    assert FrameworkID("F-8-0001") in cluster.core.cluster.frameworks
    liar.register()
    cluster.advance(61.0)
    assert list(cluster.core.cluster.frameworks) == [FOREIGN]


def test_a_slave_can_invent_only_a_bounded_number_of_frameworks_however_often_it_registers() -> None:
    cluster, liar, _ = liar_and_victim()
    for number in range(3):
        claims = [
            m.RunningExecutor(
                m.FrameworkInfo("x", FrameworkID(f"F-8-{number}-{n}")), ExecutorID("e"), ContainerID("c")
            )
            for n in range(MAX_MET - 10)
        ]
        liar.send(m.RegisterSlave(liar.info, claims))
        liar.info = msgspec.structs.replace(liar.info, slave_id=liar.take(m.SlaveRegistered).slave_id)
        liar.inbox.clear()
        assert len(cluster.core.cluster.frameworks) <= MAX_MET + 1


def test_role_and_user_of_an_invented_framework_are_its_own_when_its_scheduler_comes() -> None:
    cluster = ClusterHarness()
    liar = cluster.slave(registers=False)
    invented = m.FrameworkInfo("x", FOREIGN, "root", "prod")
    liar.register([m.RunningExecutor(invented, EXECUTOR.executor_id, ContainerID("c"))])
    owner = cluster.framework(framework_id=FOREIGN, user="alice", role="science")
    (known,) = cluster.core.cluster.frameworks.values()
    assert (known.info.role, known.info.user, known.met_on) == ("science", "alice", None)
    assert liar.take(m.ShutdownFramework).user == "root"
    assert owner.framework_id == FOREIGN


def test_a_task_that_this_master_never_launched_is_ended_and_occupies_no_id() -> None:
    cluster = ClusterHarness()
    liar, framework = cluster.slave(registers=False), cluster.framework()
    liar.register(tasks=[claimed(framework, "t", "cpus=1")])
    assert liar.take(m.KillTask).task_id == "t"
    framework.accept(framework.offer(), tasks=[task("t")])
    assert liar.take(m.RunTasks).tasks[0].task_id == "t"


def test_a_forgotten_framework_of_this_master_is_ended_where_it_still_runs() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    forgotten = m.FrameworkInfo("x", FrameworkID("F-a-0099"))
    slave.register([m.RunningExecutor(forgotten, EXECUTOR.executor_id, ContainerID("c"))])
    assert slave.take(m.ShutdownFramework).framework_id == "F-a-0099"
    assert not cluster.core.cluster.frameworks


# -- speaking for others ------------------------------------------------------------------------------------------------


def with_other_slave() -> tuple[ClusterHarness, SlavePeer, SlavePeer, FrameworkPeer]:
    """A framework with a task on the first slave; the second has none of its tasks."""
    cluster = ClusterHarness()
    slave, framework = cluster.slave(), cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    slave.take(m.RunTasks)
    liar = cluster.slave()
    framework.decline(framework.offer(), refuse_seconds=600.0)
    return cluster, slave, liar, framework


@pytest.mark.parametrize("name", ["t", "call-1", "never"])
def test_a_status_of_a_task_that_is_not_the_slaves_reaches_no_scheduler(name: str) -> None:
    cluster, slave, liar, framework = with_other_slave()
    liar.status(framework, name, TaskState.FINISHED, data=b"pickle")
    cluster.assert_nothing_sent_to(framework)
    slave.status(framework, "t", TaskState.FINISHED)
    framework.update(TaskState.FINISHED)


def test_a_status_in_the_name_of_another_slave_is_ignored() -> None:
    cluster, slave, liar, framework = with_other_slave()
    status = m.TaskStatus(TaskID("t"), TaskState.FINISHED, 1, slave_id=slave.slave_id)
    liar.send(m.StatusUpdate(framework.framework_id, status))
    cluster.assert_nothing_else_sent()


def test_another_slave_cannot_report_the_end_of_a_lost_task() -> None:
    cluster, slave, liar, framework = with_other_slave()
    slave.status(framework, "t", TaskState.FINISHED)
    framework.update(TaskState.FINISHED)
    framework.inbox.clear()
    liar.status(framework, "t", TaskState.FAILED)
    cluster.assert_nothing_sent_to(framework)
    slave.status(framework, "t", TaskState.FINISHED)
    framework.update(TaskState.FINISHED)


def test_messages_and_ends_of_executors_count_only_from_their_own_slave() -> None:
    cluster, slave, liar, framework = with_other_slave()
    said = m.FrameworkMessage(framework.framework_id, liar.slave_id, EXECUTOR.executor_id, b"x")
    liar.send(said)
    liar.send(m.ExecutorExited(framework.framework_id, EXECUTOR.executor_id, ContainerID("c")))
    cluster.assert_nothing_sent_to(framework)
    slave.send(msgspec.structs.replace(said, slave_id=slave.slave_id))
    framework.take(m.FrameworkMessage)
    slave.send(m.ExecutorExited(framework.framework_id, EXECUTOR.executor_id, ContainerID("c")))
    assert framework.take(m.ExecutorLost).slave_id == slave.slave_id


def test_an_end_from_before_this_master_still_reaches_its_scheduler() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    slave.info = msgspec.structs.replace(slave.info, slave_id=SlaveID("S-7-0001"))
    framework = cluster.framework(registers=False, framework_id=FOREIGN)
    framework.register()
    slave.register(tasks=[running(framework, task("t"), TaskState.FINISHED)])
    framework.inbox.clear()
    slave.status(framework, "t", TaskState.FINISHED, 3)
    assert framework.update(TaskState.FINISHED).sequence == 3
