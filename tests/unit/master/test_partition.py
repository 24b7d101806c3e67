"""Slaves that cannot be reached, in one direction or both, and a new master's first moments."""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import FrameworkID, PeerID, SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy
from offerd_master.core.actions import LaterEpochSeen
from offerd_master.core.cluster import EPOCHS_A_YEAR, FRAMEWORK_AHEAD, LEAST_NOW
from offerd_master.core.events import Received, Signed
from offerd_master.core.master import MasterCore
from offerd_master.core.state import SlaveState
from offerd_master.principals import Principal
from offerd_master.settings import MasterSettings

RUNNING, UNREACHABLE, LOST = TaskState.RUNNING, TaskState.UNREACHABLE, TaskState.LOST


def with_patience(patience_s: float = 100.0) -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """A framework that waits for unreachable tasks, with `t1` running on a slave that is then lost."""
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework(unreachable_timeout_s=patience_s)
    framework.accept(framework.offer(), tasks=[task("t1")])
    framework.send(m.SetNeedsOffers(False))
    slave.take(m.RunTasks)
    slave.status(framework, "t1", RUNNING)
    slave.answers_pings = False
    framework.inbox.clear()
    cluster.advance(30)
    return cluster, slave, framework


def come_back(
    cluster: ClusterHarness, slave: SlavePeer, framework: FrameworkPeer, *tasks: m.RunningTask
) -> None:
    slave.answers_pings = True
    slave.register([executor(framework)], tasks)


def test_a_task_of_a_lost_slave_is_unreachable_and_goes_on_when_the_slave_is_back() -> None:
    cluster, slave, framework = with_patience()
    assert framework.update(UNREACHABLE).reason == Reason.SLAVE_LOST
    framework.take(m.SlaveLost)
    come_back(cluster, slave, framework, running(framework, task("t1")))
    assert framework.update(RUNNING).reason == Reason.SLAVE_RETURNED
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    framework.update(TaskState.FINISHED)
    cluster.assert_nothing_else_sent()


def test_an_unreachable_task_is_lost_after_its_time_out_and_ended_if_it_returns_later() -> None:
    cluster, slave, framework = with_patience(50.0)
    framework.inbox.clear()
    cluster.advance(50)
    assert framework.update(LOST).reason == Reason.SLAVE_LOST
    come_back(cluster, slave, framework, running(framework, task("t1")))
    assert slave.take(m.KillTask).task_id == "t1"
    slave.status(framework, "t1", TaskState.KILLED, 2)
    slave.take(m.Acknowledge)
    cluster.assert_nothing_else_sent()


def test_an_unreachable_task_that_its_slave_no_longer_knows_is_lost() -> None:
    cluster, slave, framework = with_patience()
    framework.inbox.clear()
    come_back(cluster, slave, framework)
    assert framework.update(LOST).reason == Reason.SLAVE_RESTARTED
    cluster.advance(200)
    cluster.assert_nothing_else_sent()


def test_an_unreachable_task_that_ended_meanwhile_is_reported_with_its_real_end() -> None:
    cluster, slave, framework = with_patience()
    framework.inbox.clear()
    come_back(cluster, slave, framework, running(framework, task("t1"), TaskState.FINISHED))
    cluster.assert_nothing_else_sent()
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    framework.update(TaskState.FINISHED)
    cluster.advance(200)
    cluster.assert_nothing_else_sent()
    assert cluster.core.cluster.ended_counts == {"TASK_FINISHED": 1}


def test_an_unreachable_task_whose_end_was_not_reported_is_lost_after_another_time_out() -> None:
    cluster, slave, framework = with_patience(50.0)
    framework.inbox.clear()
    come_back(cluster, slave, framework, running(framework, task("t1"), TaskState.FINISHED))
    slave.answers_pings = False
    cluster.advance(30)
    framework.take(m.SlaveLost)
    cluster.assert_nothing_else_sent()
    cluster.advance(50)
    assert framework.update(LOST).reason == Reason.SLAVE_LOST
    cluster.assert_nothing_else_sent()


def test_an_unreachable_task_whose_slave_unregisters_before_its_end_is_lost_at_once() -> None:
    cluster, slave, framework = with_patience(50.0)
    framework.inbox.clear()
    come_back(cluster, slave, framework, running(framework, task("t1"), TaskState.FINISHED))
    slave.send(m.UnregisterSlave())
    assert framework.update(LOST).message == "its slave has gone for good"


def test_unreachable_tasks_are_reconciled_killed_on_return_and_their_ids_taken() -> None:
    cluster, slave, framework = with_patience()
    framework.inbox.clear()
    for asked in ([], [TaskID("t1")]):
        framework.send(m.ReconcileTasks(asked))
        framework.update(UNREACHABLE)
    framework.send(m.KillTask(framework.framework_id, TaskID("t1")))
    other = cluster.slave("cpus=1,mem=1G")
    framework.send(m.SetNeedsOffers(True))
    framework.accept(framework.offer(), tasks=[task("t1")])
    assert framework.update(TaskState.ERROR).reason == Reason.TASK_ID_DUPLICATE
    framework.send(m.SetNeedsOffers(False))
    come_back(cluster, slave, framework, running(framework, task("t1")))
    assert slave.take(m.KillTask).task_id == "t1"
    assert other.inbox == []


def test_a_slave_that_unregisters_takes_its_tasks_for_good() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework(unreachable_timeout_s=100.0)
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.send(m.UnregisterSlave())
    framework.update(LOST)


# -- one way only -------------------------------------------------------------------------------------------------------


def unresponsive_slave() -> tuple[ClusterHarness, SlavePeer, FrameworkPeer]:
    """It registers again and again over one connection, because our answers do not arrive."""
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1")])
    framework.inbox.clear()
    slave.inbox.clear()
    slave.answers_pings = False
    return cluster, slave, framework


def test_an_unresponsive_slave_is_offered_to_nobody_and_lost_although_it_sends() -> None:
    cluster, slave, framework = unresponsive_slave()
    for _ in range(30):
        cluster.advance(1)
        slave.send(m.RegisterSlave(slave.info))
    assert not [message for message in framework.inbox if isinstance(message, m.ResourceOffers)]
    lost = next(message for message in framework.inbox if isinstance(message, m.StatusUpdate))
    assert lost.status.state is LOST


def test_a_task_that_an_unresponsive_slave_never_got_is_lost_after_the_grace_whatever_registrations_come() -> (
    None
):
    cluster, slave, framework = unresponsive_slave()
    slave.send(m.RegisterSlave(slave.info))
    for _ in range(9):
        cluster.advance(1)
        slave.send(m.RegisterSlave(slave.info))
    framework.take(m.RescindOffer)
    assert framework.inbox == []
    cluster.advance(1.1)
    assert framework.update(LOST).reason == Reason.SLAVE_RESTARTED


def test_a_slave_that_answers_after_a_repeated_registration_is_offered_again() -> None:
    _, slave, framework = unresponsive_slave()
    slave.answers_pings = True
    slave.register([], [running(framework, task("t1"))])
    framework.take(m.RescindOffer)
    assert framework.offer().resources == Resources.parse("cpus=1,mem=1G")


# -- a new master -------------------------------------------------------------------------------------------------------


def test_a_new_master_makes_no_offers_before_its_slaves_and_schedulers_had_time_to_return() -> None:
    cluster = ClusterHarness(recovery_quiet_s=1.0, recovery_window_s=5.0)
    early = cluster.framework(registers=False)
    early.info = m.FrameworkInfo("early", FrameworkID("F-9-0001"))
    early.register()
    slave = cluster.slave(registers=False)
    slave.info = m.SlaveInfo("host", Resources.parse("cpus=2,mem=2G"), SlaveID("S-9-0001"))
    slave.register()
    cluster.advance(0.9)
    assert early.inbox == []
    late = cluster.framework(registers=False)
    late.info = m.FrameworkInfo("late", FrameworkID("F-9-0002"))
    late.register()
    cluster.advance(0.9)
    assert (early.inbox, late.inbox) == ([], [])
    cluster.advance(0.2)
    assert len(early.inbox) + len(late.inbox) == 1


def test_the_wait_of_a_new_master_is_bounded_however_many_return() -> None:
    cluster = ClusterHarness(recovery_quiet_s=1.0, recovery_window_s=5.0)
    first = cluster.framework(registers=False)
    first.info = m.FrameworkInfo("first", FrameworkID("F-9-0001"))
    first.register()
    cluster.slave()
    for number in range(2, 12):
        cluster.advance(0.5)
        other = cluster.framework(registers=False)
        other.info = m.FrameworkInfo("other", FrameworkID(f"F-9-{number:04}"))
        other.register()
    cluster.advance(0.1)
    assert sum(len(peer.inbox) for peer in cluster.peers.values()) == 1


def test_a_new_cluster_waits_for_nothing() -> None:
    cluster = ClusterHarness(recovery_quiet_s=1.0)
    cluster.slave()
    cluster.framework().offer()


def test_a_task_called_unknown_by_a_new_master_is_ended_if_a_slave_brings_it_later() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework(registers=False)
    framework.info = m.FrameworkInfo("f", FrameworkID("F-9-0001"), failover_timeout_s=1000.0)
    framework.register()
    framework.send(m.SetNeedsOffers(False))
    cluster.advance(61)
    framework.send(m.ReconcileTasks([TaskID("t1")]))
    assert framework.update(LOST).reason == Reason.TASK_UNKNOWN
    slave = cluster.slave(registers=False)
    slave.info = m.SlaveInfo("host", Resources.parse("cpus=2,mem=2G"), SlaveID("S-9-0001"))
    slave.register([executor(framework)], [running(framework, task("t1"))])
    assert slave.take(m.KillTask).task_id == "t1"
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    slave.take(m.Acknowledge)
    cluster.assert_nothing_else_sent()


def test_a_registration_that_names_a_later_epoch_is_reported_to_the_daemon() -> None:
    cluster = ClusterHarness()
    info = m.SlaveInfo("host", Resources.parse("cpus=1"), SlaveID("S-9-0001"))
    for peer, registration in (
        (cluster.slave(registers=False), m.RegisterSlave(info, epoch=77)),
        (cluster.framework(registers=False), m.RegisterFramework(m.FrameworkInfo("f"), epoch=77)),
    ):
        actions = cluster.core.handle(Received(peer.peer, registration), cluster.now)
        assert LaterEpochSeen(77) in actions
    older = cluster.core.handle(
        Received(peer.peer, m.RegisterFramework(m.FrameworkInfo("f"), epoch=9)), cluster.now
    )
    assert not [action for action in older if isinstance(action, LaterEpochSeen)]


NOW = LEAST_NOW + EPOCHS_A_YEAR


def heeds(registration: m.Message, *, epoch: int = NOW, principal: Principal | None = None) -> bool:
    """Whether a master of this epoch takes this registration as a sign that a later master leads."""
    core = MasterCore(MasterSettings(), "M", epoch, DrfAllocator(Policy()), 1000.0)
    peer = PeerID(b"peer")
    said = Received(peer, registration) if principal is None else Signed(peer, registration, principal)
    return any(isinstance(action, LaterEpochSeen) for action in core.handle(said, 1000.0))


def scheduler_that_heard(epoch: int, failover_timeout_s: float = 0.0) -> m.RegisterFramework:
    return m.RegisterFramework(m.FrameworkInfo("f", failover_timeout_s=failover_timeout_s), epoch=epoch)


def slave_that_heard(epoch: int) -> m.RegisterSlave:
    return m.RegisterSlave(m.SlaveInfo("host", Resources.parse("cpus=1")), epoch=epoch)


@pytest.mark.parametrize("epoch", [NOW + 11 * EPOCHS_A_YEAR, (1 << 62) - 1, 1 << 63])
def test_an_epoch_that_no_masters_clock_can_have_shown_is_ignored(epoch: int) -> None:
    assert not heeds(scheduler_that_heard(epoch))


def test_an_epoch_of_a_master_whose_clock_was_years_ahead_counts() -> None:
    assert heeds(scheduler_that_heard(NOW + 9 * EPOCHS_A_YEAR))
    assert heeds(slave_that_heard(NOW), epoch=5_000), (
        "and that of one with a clock, by one that began in 1970"
    )


def test_the_highest_epoch_of_slaves_counts_for_the_next_master_although_its_clock_was_set_back() -> None:
    """Otherwise a peer that named that epoch would have locked out every later master."""
    highest = NOW + FRAMEWORK_AHEAD - 1
    assert heeds(scheduler_that_heard(highest))
    assert heeds(slave_that_heard(highest + 1), epoch=NOW - 5 * EPOCHS_A_YEAR)


def test_a_later_epoch_in_a_refused_registration_is_ignored() -> None:
    assert heeds(scheduler_that_heard(NOW + 1))
    assert not heeds(scheduler_that_heard(NOW + 1, failover_timeout_s=-1.0))
    assert not heeds(scheduler_that_heard(NOW + 1), principal=Principal(name="nobody", users=("nobody",)))


# -- what operators want ------------------------------------------------------------------------------------------------


def test_a_deactivated_slave_is_offered_to_nobody_until_it_is_active_again() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(hostname="host-a")
    framework = cluster.framework()
    offer = framework.offer()
    operator = cluster.operator()
    operator.send(om.ChangeSlaveMode("host-a", "deactivated"))
    assert operator.take(om.Done).ok
    assert slave.take(m.SetSlaveMode).mode == "deactivated"
    assert framework.take(m.RescindOffer).offer_id == offer.offer_id
    cluster.advance(60)
    cluster.assert_nothing_else_sent()
    operator.send(om.ChangeSlaveMode(slave.slave_id, "active"))
    assert operator.take(om.Done).ok
    framework.offer()


def test_the_mode_comes_with_the_registration_so_that_a_new_master_knows_it() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    slave = cluster.slave(registers=False)
    slave.send(m.RegisterSlave(slave.info, mode="deactivated"))
    slave.take(m.SlaveRegistered)
    cluster.assert_nothing_else_sent()
    slave.send(m.RegisterSlave(slave.info, mode="active"))
    slave.take(m.SlaveRegistered)
    framework.offer()


@pytest.mark.parametrize(
    ("name", "mode"), [("nobody", "draining"), ("host-a", "sleeping"), ("twin", "draining")]
)
def test_a_mode_that_cannot_be_set_is_answered_with_the_reason(name: str, mode: str) -> None:
    cluster = ClusterHarness()
    cluster.slave(hostname="host-a")
    cluster.slave(hostname="twin")
    cluster.slave(hostname="twin")
    operator = cluster.operator()
    operator.send(om.ChangeSlaveMode(name, mode))
    answer = operator.take(om.Done)
    assert not answer.ok
    assert answer.message
    cluster.assert_nothing_else_sent()


def state_of(cluster: ClusterHarness, slave: SlavePeer) -> SlaveState:
    return cluster.core.cluster.slaves[slave.slave_id].state


def says(slave: SlavePeer, mode: str) -> None:
    slave.send(m.SlaveUsage(0, 0, draining=mode in ("draining", "drained"), mode=mode))


def test_a_drained_slave_is_listed_and_offered_to_nobody_until_it_is_activated() -> None:
    cluster = ClusterHarness()
    slave, framework, operator = cluster.slave(hostname="host-a"), cluster.framework(), cluster.operator()
    framework.offer()
    operator.send(om.ChangeSlaveMode("host-a", "draining", deadline_s=60.0))
    assert slave.take(m.SetSlaveMode) == m.SetSlaveMode("draining", 5.0, 60.0)
    framework.take(m.RescindOffer)
    says(slave, "active")  # it had not got the order yet
    assert state_of(cluster, slave) is SlaveState.DRAINING
    says(slave, "drained")
    cluster.advance(60)
    operator.take(om.Done)
    operator.send(om.GetSlaves())
    assert [each.state for each in operator.take(om.Slaves).slaves] == ["drained"]
    cluster.assert_nothing_else_sent()
    operator.send(om.ChangeSlaveMode("host-a", "active"))
    says(slave, "drained")
    assert state_of(cluster, slave) is SlaveState.ACTIVE
    framework.offer()


def test_a_mode_that_has_not_reached_a_slave_is_sent_again_when_it_is_back() -> None:
    cluster = ClusterHarness()
    slave, operator = cluster.slave(hostname="host-a"), cluster.operator()
    operator.send(om.ChangeSlaveMode("host-a", "draining"))
    wishes = []
    for mode in ("active", "draining", "active"):  # the last one was activated on its own host
        slave.inbox.clear()
        slave.send(m.RegisterSlave(slave.info, mode=mode))
        said_again = [message.mode for message in slave.inbox if isinstance(message, m.SetSlaveMode)]
        wishes.append((said_again, state_of(cluster, slave)))
    draining = SlaveState.DRAINING
    assert wishes == [(["draining"], draining), ([], draining), ([], SlaveState.ACTIVE)]


def test_an_older_slave_reports_only_that_it_drains() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(hostname="host-a")
    slave.send(m.SlaveUsage(0, 0))
    assert state_of(cluster, slave) is SlaveState.ACTIVE
    slave.send(m.SlaveUsage(0, 0, draining=True))
    assert state_of(cluster, slave) is SlaveState.DRAINING
