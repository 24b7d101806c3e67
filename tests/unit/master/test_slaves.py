"""Slaves: registration, pings, loss, and return with running tasks."""

from __future__ import annotations

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.core import slaves
from offerd_master.settings import MasterSettings


def test_a_slave_gets_an_id_that_names_the_epoch() -> None:
    cluster = ClusterHarness(ping_interval_s=3.0)
    slave = cluster.slave(registers=False)
    slave.send(m.RegisterSlave(slave.info))
    answer = slave.take(m.SlaveRegistered)
    assert (answer.slave_id, answer.master_id, answer.ping_interval_s) == ("S-a-0001", "M-test", 3.0)
    assert cluster.slave().slave_id == "S-a-0002"


def test_a_registration_sent_twice_makes_one_slave() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    for _ in range(2):
        slave.send(m.RegisterSlave(slave.info))
        assert slave.take(m.SlaveRegistered).slave_id == "S-a-0001"
    assert len(cluster.core.cluster.slaves) == 1


def test_a_stranger_is_asked_to_register_once_a_turn() -> None:
    cluster = ClusterHarness()
    stranger = cluster.slave(registers=False)
    stranger.send(m.SlaveUsage(1, 1))
    stranger.take(m.NotRegistered)
    cluster.assert_nothing_else_sent()
    stranger.send(m.Pong())
    stranger.take(m.NotRegistered)
    assert cluster.drops == []


def test_an_old_protocol_is_refused() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    slave.send(m.RegisterSlave(slave.info, protocol=0))
    assert slave.take(m.SlaveRefused).reason == Reason.PROTOCOL_TOO_OLD
    assert cluster.core.cluster.slaves == {}


GOOD = m.SlaveInfo("host", Resources.parse("cpus=1"))


@pytest.mark.parametrize(
    "info",
    [
        msgspec.structs.replace(GOOD, resources=Resources()),
        msgspec.structs.replace(GOOD, resources=Resources({"mem": 1 << 60})),
        msgspec.structs.replace(GOOD, resources=Resources({"x" * 50: 1})),
        msgspec.structs.replace(GOOD, resources=Resources({}, {"ports": [(1, 1 << 60)]})),
        msgspec.structs.replace(GOOD, slave_id="../x"),
        msgspec.structs.replace(GOOD, long_fraction=1.5),
        msgspec.structs.replace(GOOD, long_fraction=-0.5),
        msgspec.structs.replace(GOOD, short_limit_s=-1.0),
        msgspec.structs.replace(GOOD, attributes={"a": "x" * 100_000}),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(info: m.SlaveInfo) -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    slave.send(m.RegisterSlave(info))
    assert slave.take(m.SlaveRefused).message
    assert cluster.core.cluster.slaves == {}


def test_a_slave_that_sends_what_only_a_scheduler_may_is_dropped() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    slave.send(m.ReviveOffers())
    assert [drop.peer for drop in cluster.drops] == [slave.peer]
    assert cluster.core.cluster.dropped_peers == 1
    assert cluster.core.cluster.slaves[slave.slave_id].peer is None


def test_a_slave_is_lost_after_five_missed_pings() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    slave.answers_pings = False
    cluster.advance(29.9)
    assert slave.pings == 5
    assert slave.slave_id in cluster.core.cluster.slaves
    cluster.advance(0.2)
    assert slave.slave_id not in cluster.core.cluster.slaves


def test_any_message_is_a_sign_of_life() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    slave.answers_pings = False
    for _ in range(20):
        cluster.advance(5.0)
        slave.send(m.SlaveUsage(1, 1))
    assert slave.slave_id in cluster.core.cluster.slaves


def test_a_lost_slaves_tasks_are_lost_and_every_scheduler_is_notified() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G")
    owner, other = cluster.framework("owner"), cluster.framework("other")
    owner.accept(owner.offer(), tasks=[task("t1")])
    slave.take(m.RunTasks)
    slave.answers_pings = False
    cluster.advance(31.0)
    status = owner.update(TaskState.LOST)
    assert (status.task_id, status.reason, status.source, status.sequence) == (
        "t1",
        Reason.SLAVE_LOST,
        "master",
        0,
    )
    assert owner.take(m.SlaveLost).slave_id == other.take(m.SlaveLost).slave_id == slave.slave_id
    cluster.assert_nothing_else_sent()


def test_a_lost_slave_that_returns_is_offered_and_its_lost_tasks_are_ended() -> None:
    """Their schedulers have got their end as lost, so nobody else would kill them."""
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info], refuse_seconds=0.001)
    slave.answers_pings = False
    cluster.advance(40.0)
    slave.inbox.clear()
    framework.inbox.clear()
    slave.answers_pings = True
    slave.register([executor(framework)], [running(framework, info)])
    assert slave.take(m.KillTask).task_id == "t1"
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G"), "what it holds is counted"
    slave.status(framework, "t1", TaskState.KILLED)
    assert slave.take(m.Acknowledge).updates == [("t1", 1)]
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G")
    cluster.assert_nothing_else_sent()


def lost_and_back(
    cluster: ClusterHarness, state: TaskState = TaskState.RUNNING
) -> tuple[SlavePeer, FrameworkPeer]:
    """A slave that was lost with its task `t1` and has returned with it in this state; and the task's framework."""
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info], refuse_seconds=600.0)
    slave.answers_pings = False
    cluster.advance(180.0)
    assert framework.update(TaskState.LOST).task_id == "t1"
    slave.answers_pings = True
    slave.inbox.clear()
    slave.register([executor(framework)], [running(framework, info, state)])
    framework.inbox.clear()
    slave.inbox.clear()
    return slave, framework


@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.FINISHED])
def test_the_real_end_of_a_task_reported_lost_goes_no_further(state: TaskState) -> None:
    """Its scheduler has had one end of it, perhaps long ago."""
    cluster = ClusterHarness()
    slave, framework = lost_and_back(cluster, state)
    slave.status(framework, "t1", TaskState.RUNNING)
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    acknowledged = [x.updates for x in slave.inbox if isinstance(x, m.Acknowledge)]
    assert acknowledged == [[("t1", 1)], [("t1", 2)]]
    assert not [x for x in framework.inbox if isinstance(x, m.StatusUpdate)]
    assert framework_tasks(cluster) == []
    assert cluster.core.cluster.slaves[slave.slave_id].reported_lost == set()
    assert cluster.core.cluster.ended_counts == {"TASK_LOST": 1}


def test_a_task_reported_lost_is_not_reported_again_when_its_slave_is_lost_again() -> None:
    cluster = ClusterHarness()
    slave, framework = lost_and_back(cluster)
    slave.answers_pings = False
    cluster.advance(60.0)
    framework.take(m.SlaveLost)
    framework.send(m.ReconcileTasks([]))
    cluster.assert_nothing_else_sent()
    assert cluster.core.cluster.ended_counts == {"TASK_LOST": 1}


def test_reconciliation_reports_a_task_reported_lost_as_lost() -> None:
    cluster = ClusterHarness()
    _, framework = lost_and_back(cluster)
    framework.send(m.ReconcileTasks([]))
    cluster.assert_nothing_else_sent()
    framework.send(m.ReconcileTasks([TaskID("t1")]))
    framework.update(TaskState.LOST)
    cluster.assert_nothing_else_sent()


def test_a_lost_task_that_its_slave_no_longer_knows_is_forgotten_after_a_while() -> None:
    cluster = ClusterHarness()
    slave, _ = lost_and_back(cluster)
    slave.register()
    cluster.advance(60.0)
    assert cluster.core.cluster.slaves[slave.slave_id].reported_lost == set()
    assert framework_tasks(cluster) == []


def test_a_lost_task_that_its_slave_names_late_is_killed_then() -> None:
    cluster = ClusterHarness()
    slave, framework = lost_and_back(cluster, TaskState.FINISHED)
    slave.status(framework, "t1", TaskState.RUNNING)
    slave.take(m.Acknowledge)
    assert slave.take(m.KillTask).task_id == "t1"
    cluster.assert_nothing_else_sent()


def test_statuses_of_a_lost_tasks_id_count_when_it_is_used_again_on_its_slave() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.answers_pings = False
    cluster.advance(60.0)
    slave.answers_pings = True
    slave.inbox.clear()
    framework.inbox.clear()
    slave.register()
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.take(m.RunTasks)
    slave.status(framework, "t1", TaskState.FINISHED)
    assert framework.update(TaskState.FINISHED).task_id == "t1"


def test_a_broken_connection_loses_no_task() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info])
    slave.take(m.RunTasks)
    rest = framework.offer()
    cluster.lose_peer(slave)
    assert framework.take(m.RescindOffer).offer_id == rest.offer_id
    cluster.advance(6.0)
    again = cluster.slave(registers=False)
    again.info = slave.info
    again.register([executor(framework)], [running(framework, info)])
    assert again.slave_id == slave.slave_id
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G")
    cluster.advance(60.0)
    assert not [x for x in framework.inbox if isinstance(x, m.StatusUpdate)]
    assert list(framework_tasks(cluster)) == ["t1"]


def framework_tasks(cluster: ClusterHarness) -> list[str]:
    return [task_id for framework in cluster.core.cluster.frameworks.values() for task_id in framework.tasks]


def test_a_kill_given_while_the_slave_was_away_is_repeated_on_its_return() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info], refuse_seconds=100.0)
    slave.take(m.RunTasks)
    cluster.lose_peer(slave)
    framework.send(m.KillTask(framework.framework_id, TaskID("t1"), grace_s=2.0))
    assert slave.inbox == []
    slave.register([executor(framework)], [running(framework, info)])
    kill = slave.take(m.KillTask)
    assert (kill.task_id, kill.slave_id, kill.grace_s) == ("t1", slave.slave_id, 2.0)


def test_a_task_that_a_returning_slave_does_not_name_is_lost_only_after_a_while() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    tasks = [task("gone"), task("late")]
    framework.accept(framework.offer(), tasks=tasks, refuse_seconds=1000.0)
    slave.take(m.RunTasks)
    slave.register()
    cluster.advance(5.0)
    slave.status(framework, "late", TaskState.RUNNING)
    framework.update(TaskState.RUNNING)
    cluster.advance(4.9)
    assert not [x for x in framework.inbox if isinstance(x, m.StatusUpdate)]
    cluster.advance(0.2)
    status = next(x for x in framework.inbox if isinstance(x, m.StatusUpdate)).status
    assert (status.task_id, status.state, status.reason) == ("gone", TaskState.LOST, Reason.SLAVE_RESTARTED)
    assert framework_tasks(cluster) == ["late"]


def test_a_new_master_adopts_a_slave_with_its_tasks_before_their_scheduler_comes() -> None:
    old = ClusterHarness()
    slave_before, framework_before = old.slave(), old.framework()
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    slave.info = msgspec.structs.replace(slave_before.info, slave_id=SlaveID("S-9-0001"))
    framework_before.framework_id = FrameworkID("F-9-0001")
    infos = [task("t1"), task("t2", "cpus=1,mem=1G", time_limit_s=None)]
    slave.register([executor(framework_before)], [running(framework_before, info) for info in infos])
    assert slave.slave_id == "S-9-0001"
    state = cluster.core.cluster.slaves[slave.slave_id]
    assert state.long_used == {"cpus": 1000, "mem": 1 << 30}
    scheduler = cluster.again(framework_before)
    scheduler.register()
    assert scheduler.framework_id == "F-9-0001"
    offer = scheduler.offer()
    assert offer.resources == Resources.parse("cpus=2,mem=2G")
    assert offer.long_quantities == {"cpus": 1000, "mem": 1 << 30}
    assert offer.executor_ids == ["default"]
    scheduler.accept(offer, tasks=[task("t3")], refuse_seconds=60.0)
    assert slave.take(m.RunTasks).executor == EXECUTOR, "the same executor takes the task"
    cluster.assert_nothing_else_sent()


def test_an_adopted_framework_whose_scheduler_never_comes_is_ended() -> None:
    cluster = ClusterHarness()
    framework = cluster.again(ClusterHarness().framework())
    framework.framework_id = FrameworkID("F-9-0001")
    slave = cluster.slave(registers=False)
    slave.register([executor(framework)], [running(framework, task("t1"))])
    cluster.advance(59.9)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.2)
    assert slave.take(m.ShutdownFramework).framework_id == "F-9-0001"
    slave.status(framework, "t1", TaskState.KILLED)
    assert slave.take(m.Acknowledge).updates == [("t1", 1)]
    cluster.assert_nothing_else_sent()


def test_a_task_with_an_id_that_runs_elsewhere_again_is_ended_on_the_slave_that_returns() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info])
    slave.answers_pings = False
    cluster.advance(40.0)
    second = cluster.slave("cpus=1,mem=1G")
    framework.inbox[:] = [x for x in framework.inbox if isinstance(x, m.ResourceOffers)]
    framework.accept(framework.offer(), tasks=[info])
    second.take(m.RunTasks)
    slave.inbox.clear()
    slave.answers_pings = True
    slave.register([executor(framework)], [running(framework, info)])
    assert slave.take(m.KillTask).task_id == "t1"
    framework.inbox.clear()
    slave.status(framework, "t1", TaskState.KILLED)
    assert slave.take(m.Acknowledge).updates == [("t1", 1)]
    assert not [x for x in framework.inbox if isinstance(x, m.StatusUpdate)], "the second run is alive"
    assert framework_tasks(cluster) == ["t1"]


def test_a_slave_may_come_back_larger_or_smaller() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework()
    info = task("t1", "cpus=2,mem=1G")
    framework.accept(framework.offer(), tasks=[info])
    slave.take(m.RunTasks)
    framework.offer()
    slave.info = msgspec.structs.replace(slave.info, resources=Resources.parse("cpus=8,mem=4G"))
    slave.register([executor(framework)], [running(framework, info)])
    framework.take(m.RescindOffer)
    assert framework.offer().resources == Resources.parse("cpus=6,mem=3G")
    slave.info = msgspec.structs.replace(slave.info, resources=Resources.parse("cpus=3,mem=4G"))
    slave.register([executor(framework)], [running(framework, info)])
    framework.take(m.RescindOffer)
    assert framework.offer().resources == Resources.parse("cpus=1,mem=3G")


def test_a_draining_slave_is_offered_no_more() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    offer = framework.offer()
    slave.send(m.SlaveUsage(0, 0, 0, draining=True))
    assert framework.take(m.RescindOffer).offer_id == offer.offer_id
    cluster.advance(10.0)
    cluster.assert_nothing_else_sent()
    slave.send(m.UnregisterSlave())
    assert framework.take(m.SlaveLost).slave_id == slave.slave_id
    assert cluster.core.cluster.slaves == cluster.core.cluster.lost_slaves == {}


def test_a_slave_with_a_full_disk_is_offered_to_nobody_until_there_is_room_and_keeps_its_tasks() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1", "cpus=1,mem=1G")])
    slave.take(m.RunTasks)
    slave.status(framework, "t1", TaskState.RUNNING)
    offer = framework.offer()
    framework.update(TaskState.RUNNING)
    slave.send(m.SlaveUsage(0, 0, 1, disk_full=True))
    assert framework.take(m.RescindOffer).offer_id == offer.offer_id
    cluster.advance(10.0)
    cluster.assert_nothing_else_sent()
    slave.send(m.SlaveUsage(0, 0, 1))
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G")


def test_a_full_disk_is_reported_to_a_new_master_with_the_registration_and_shown() -> None:
    cluster = ClusterHarness()
    full, roomy = cluster.slave(registers=False), cluster.slave()
    full.send(m.RegisterSlave(full.info, disk_full=True))
    framework = cluster.framework()
    assert framework.offer().slave_id == roomy.slave_id
    operator = cluster.operator()
    operator.send(om.GetSlaves())
    shown = {slave.info.slave_id: slave.disk_full for slave in operator.take(om.Slaves).slaves}
    assert shown == {full.take(m.SlaveRegistered).slave_id: True, roomy.slave_id: False}


@pytest.mark.parametrize("mode", ["deactivated", "draining"])
def test_a_full_disk_and_an_ordered_mode_do_not_undo_each_other(mode: str) -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(registers=False)
    slave.send(m.RegisterSlave(slave.info, mode=mode, disk_full=True))
    slave.take(m.SlaveRegistered)
    framework = cluster.framework()
    slave.send(m.SlaveUsage(0, 0, draining=mode == "draining"))
    cluster.advance(10.0)
    assert not framework.inbox, "there is room, but nobody has activated it"


def test_a_framework_with_only_ended_tasks_is_not_ended_before_its_scheduler_comes() -> None:
    cluster = ClusterHarness()
    slave, framework = cluster.slave(registers=False), cluster.framework(registers=False)
    slave.info = msgspec.structs.replace(slave.info, slave_id=SlaveID("S-9-0001"))
    framework_id = FrameworkID("F-9-0001")
    ended = m.RunningTask(
        framework_id, EXECUTOR.executor_id, TaskID("t1"), Resources.of(cpus=1), TaskState.FINISHED
    )
    slave.register(tasks=[ended])
    cluster.advance(cluster.core.cluster.settings.adoption_grace_s + 1.0)
    framework.info = msgspec.structs.replace(
        framework.info, framework_id=framework_id, failover_timeout_s=600.0
    )
    framework.register()
    assert framework.framework_id == framework_id


def test_the_remembered_lost_slaves_are_bounded() -> None:
    cluster = ClusterHarness(max_lost_slaves=3)
    for _ in range(5):
        cluster.slave().answers_pings = False
    cluster.advance(31.0)
    assert len(cluster.core.cluster.lost_slaves) == 3


def test_more_slaves_than_a_cluster_has_are_remembered_when_all_are_lost_at_once() -> None:
    assert MasterSettings().max_lost_slaves > 4_000


def lost_with_a_task_then_another(
    cluster: ClusterHarness, patience_s: float = 0.0
) -> tuple[SlavePeer, FrameworkPeer]:
    """A slave that was lost with its task `t1`, and after it as many other slaves as are remembered."""
    slave = cluster.slave("cpus=1,mem=1G")
    owner = cluster.framework(unreachable_timeout_s=patience_s)
    owner.accept(owner.offer(), tasks=[task("t1")])
    owner.send(m.SetNeedsOffers(False))
    slave.answers_pings = False
    cluster.advance(31.0)
    cluster.slave().answers_pings = False
    cluster.advance(31.0)
    for peer in (owner, slave):
        peer.inbox.clear()
    slave.answers_pings = True
    return slave, owner


def test_a_task_reported_lost_is_ended_although_its_slave_was_forgotten() -> None:
    cluster = ClusterHarness(max_lost_slaves=1)
    slave, owner = lost_with_a_task_then_another(cluster)
    assert slave.slave_id not in cluster.core.cluster.lost_slaves
    slave.register([executor(owner)], [running(owner, task("t1"))])
    assert slave.take(m.KillTask).task_id == "t1"
    slave.status(owner, "t1", TaskState.KILLED)
    slave.take(m.Acknowledge)
    cluster.assert_nothing_else_sent()
    assert (cluster.core.cluster.owed, cluster.core.cluster.tasks_owed) == ({}, 0)


def test_a_slave_whose_tasks_are_waited_for_is_remembered_as_long_as_they() -> None:
    cluster = ClusterHarness(max_lost_slaves=1)
    slave, owner = lost_with_a_task_then_another(cluster, patience_s=100.0)
    slave.register([executor(owner)], [running(owner, task("t1"))])
    assert owner.update(TaskState.RUNNING).reason == Reason.SLAVE_RETURNED
    slave.answers_pings = False
    cluster.advance(200.0)
    cluster.slave().answers_pings = False
    cluster.advance(31.0)
    assert slave.slave_id not in cluster.core.cluster.lost_slaves
    assert list(cluster.core.cluster.owed) == [slave.slave_id]


def test_a_slave_that_unregisters_is_forgotten_whatever_others_are_waited_for() -> None:
    cluster = ClusterHarness(max_lost_slaves=1)
    lost_with_a_task_then_another(cluster, patience_s=1000.0)
    leaving = cluster.slave()
    leaving.send(m.UnregisterSlave())
    known = cluster.core.cluster
    assert leaving.slave_id not in {**known.slaves, **known.lost_slaves}
    assert known.owed == {}


def test_what_forgotten_slaves_must_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slaves, "MAX_OWED", 2)
    cluster = ClusterHarness(max_lost_slaves=1)
    owner = cluster.framework()
    for number in range(5):
        slave = cluster.slave("cpus=1,mem=1G")
        owner.accept(owner.offer(), tasks=[task(f"t{number}")])
        slave.answers_pings = False
        cluster.advance(31.0)
        owner.inbox.clear()
    assert [tasks for (tasks,) in cluster.core.cluster.owed.values()] == [
        (owner.framework_id, "t2"),
        (owner.framework_id, "t3"),
    ]
    assert cluster.core.cluster.tasks_owed == 2


def test_a_peer_is_a_slave_or_a_framework_not_both() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    slave.send(m.RegisterFramework(m.FrameworkInfo("f")))
    framework = cluster.framework()
    framework.inbox.clear()
    framework.send(m.RegisterSlave(GOOD))
    assert [drop.peer for drop in cluster.drops] == [slave.peer, framework.peer]


def test_executors_of_an_ended_framework_are_shut_down_on_a_slave_that_returns() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    info = task("t1")
    framework.accept(framework.offer(), tasks=[info])
    slave.take(m.RunTasks)
    cluster.lose_peer(slave)
    framework.inbox.clear()
    framework.send(m.TeardownFramework())
    slave.register([executor(framework)], [running(framework, info)])
    assert slave.take(m.ShutdownFramework).framework_id == framework.framework_id
    slave.status(framework, "t1", TaskState.KILLED)
    slave.take(m.Acknowledge)
    slave.send(m.ExecutorExited(framework.framework_id, ExecutorID("default"), ContainerID("c1"), 0))
    assert framework.framework_id in cluster.core.cluster.ended_frameworks
    cluster.assert_nothing_else_sent()
