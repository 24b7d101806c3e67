"""A slave that operators drain or deactivate, and leaders of several epochs."""

from __future__ import annotations

import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import ContainerID, SlaveID
from offerd.messages import Reason, TaskState
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered

KILLED = TaskState.KILLED


def registration(bench: Bench) -> m.RegisterSlave:
    return [message for message in bench.sent if isinstance(message, m.RegisterSlave)][-1]


def test_deactivation_survives_a_restart_and_is_in_the_registration() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.from_master(m.SetSlaveMode("deactivated"))
    again = bench.crash()
    assert registration(again).mode == "deactivated"
    again.register()
    again.from_master(m.SetSlaveMode("active"))
    assert registration(again.crash()).mode == "active"


def drain(bench: Bench, deadline_s: float | None = None, grace_s: float | None = 2.0) -> None:
    bench.from_master(m.SetSlaveMode("draining", grace_s, deadline_s))


def end(bench: Bench, container_id: ContainerID) -> None:
    """The container is destroyed."""
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))


def reported_mode(bench: Bench) -> str:
    """The mode in the last usage that was sent to the master."""
    return [message for message in bench.sent if isinstance(message, m.SlaveUsage)][-1].mode


def test_a_draining_slave_waits_for_its_tasks_and_takes_no_others() -> None:
    bench = Bench()
    container_id = bench.running(task("a", limit_s=None))
    bench.acknowledge("a", 1)
    drain(bench)
    assert reported_mode(bench) == "draining"
    bench.run(task("b"))
    assert bench.statuses() == [("b", TaskState.LOST, Reason.SLAVE_DRAINING)]
    bench.turn(86400.0)
    bench.register()
    assert not bench.sent_to_executors(m.Shutdown)
    assert not bench.sent_to_executors(m.KillTask)
    bench.update("a", TaskState.FINISHED, 2)
    assert bench.sent_to_executors(m.Shutdown), "an executor without tasks is ended"
    end(bench, container_id)
    assert ("a", TaskState.FINISHED, "") in bench.statuses()
    assert reported_mode(bench) == "draining", "its end is not acknowledged"
    bench.acknowledge("b", 1)
    bench.acknowledge("a", 2)
    assert (reported_mode(bench), bench.mode, bench.exited) == ("drained", "drained", False)


def test_a_drained_slave_stays_out_over_restarts_until_it_is_activated() -> None:
    bench = Bench()
    bench.register()
    drain(bench)
    assert reported_mode(bench) == "drained"
    again = bench.crash().crash()
    assert registration(again).mode == "drained"
    again.register()
    again.run(task("a"))
    assert again.statuses() == [("a", TaskState.LOST, Reason.SLAVE_DRAINING)]
    again.from_master(m.SetSlaveMode("active"))
    assert reported_mode(again) == "active"
    assert registration(again.crash()).mode == "active"
    again.running(task("b"))


@pytest.mark.parametrize("mode", ["draining", "drained"])
def test_a_drained_slave_stays_drained_after_a_reboot(mode: str) -> None:
    bench = Bench(recovered=Recovered(SlaveID("S-1"), 1, True, mode=mode))
    assert registration(bench).mode in ("drained", mode)
    bench.register()
    bench.turn()
    assert (bench.core.state.mode, bench.exited) == ("drained", False)
    bench.run(task("a"))
    assert bench.statuses() == [("a", TaskState.LOST, Reason.SLAVE_DRAINING)]


def test_a_slave_that_no_master_has_registered_stays_drained_too() -> None:
    bench = Bench()
    bench.event(ev.ModeWished(m.SetSlaveMode("draining")))
    assert registration(bench.crash()).mode == "drained"


def test_activating_a_draining_slave_lets_its_tasks_go_on() -> None:
    bench = Bench()
    bench.running(task("a", limit_s=None))
    drain(bench, deadline_s=10.0)
    bench.from_master(m.SetSlaveMode("active"))
    bench.turn(20.0)
    assert not bench.sent_to_executors(m.Shutdown)
    bench.run(task("b"))
    assert bench.sent_to_executors(m.LaunchTask)
    drain(bench)
    bench.turn(20.0)
    assert not bench.sent_to_executors(m.Shutdown), "the deadline has ended with the drain"


@pytest.mark.parametrize("restarts", [False, True])
def test_at_the_deadline_of_a_drain_running_tasks_are_ended(restarts: bool) -> None:
    bench = Bench()
    container_id = bench.running(task("a", limit_s=None))
    drain(bench, deadline_s=10.0)
    drain(bench)  # a drain without a deadline keeps the first one's
    bench.turn(7.0)
    if restarts:
        bench = bench.crash()
        assert registration(bench).mode == "draining"
        bench.register()
        bench.register_executor("a")
    assert not bench.sent_to_executors(m.Shutdown)
    bench.turn(3.1)
    assert bench.sent_to_executors(m.Shutdown) == [m.Shutdown(2.0)]
    bench.update("a", KILLED, 2)
    assert bench.statuses()[-1] == ("a", KILLED, Reason.SLAVE_DRAINING)
    bench.acknowledge("a", 2)
    end(bench, container_id)
    assert reported_mode(bench) == "drained"


def test_a_slave_restarted_after_its_deadline_ends_executors_gracefully_when_they_register() -> None:
    bench = Bench()
    bench.running(task("a"))
    drain(bench, deadline_s=0.0)
    assert bench.sent_to_executors(m.Shutdown) == [m.Shutdown(2.0)]
    again = bench.crash()
    assert registration(again).mode == "draining"
    again.register()
    again.turn()
    assert not again.asked_for(act.DestroyContainer)
    again.register_executor("a")
    assert again.sent_to_executors(m.Shutdown) == [m.Shutdown(2.0)]


def test_a_drain_can_be_hurried() -> None:
    bench = Bench()
    bench.running(task("a"))
    drain(bench, deadline_s=3600.0)
    drain(bench, deadline_s=0.0)
    assert bench.sent_to_executors(m.Shutdown)


def test_executors_of_a_draining_slave_that_have_no_task_are_ended() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.update("a", TaskState.FINISHED, 2)
    bench.acknowledge("a", 2)
    drain(bench)
    assert bench.sent_to_executors(m.Shutdown)
    end(bench, container_id)
    assert reported_mode(bench) == "drained"


def test_unacknowledged_ends_do_not_delay_a_drain_for_ever() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    drain(bench, deadline_s=0.0)
    bench.update("a", KILLED, 2)
    end(bench, container_id)
    bench.turn(4.9)
    assert bench.mode == "draining"
    bench.turn(0.2)
    assert bench.mode == "drained"
    assert ("a", KILLED, Reason.SLAVE_DRAINING) in bench.statuses()


def test_orders_of_an_older_leader_are_refused_and_the_refusal_outlives_a_restart() -> None:
    bench = Bench()
    bench.register(epoch=5)
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("old")]), epoch=4)
    assert not bench.core.state.tasks
    again = bench.crash()
    assert registration(again).epoch == 5
    again.from_master(m.SlaveRegistered(again.slave_id, "deposed"), epoch=4)
    assert not again.core.state.registered
    again.register(epoch=6)
    assert again.core.state.registered
    assert not again.asked_for(act.LaunchContainer)


def test_master_that_stands_by_is_asked_again_and_not_obeyed() -> None:
    bench = Bench()
    bench.clear()
    bench.from_master(m.NotLeading("tcp://10.0.0.1:5060"), epoch=0)
    assert bench.core.turned_away == "stands by; 10.0.0.1:5060 leads"
    bench.turn(1.1)
    assert isinstance(bench.sent[-1], m.RegisterSlave)
    bench.register()
    assert bench.core.turned_away == ""


def test_a_slave_whose_key_was_revoked_ends_its_tasks_stops_registering_and_fails() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.clear()
    bench.from_master(m.SlaveRefused(Reason.KEY_REVOKED, "host7 may not be a slave"))
    assert bench.sent_to_executors(m.Shutdown)
    bench.from_master(m.NotRegistered())
    bench.event(ev.MasterConnected())
    bench.turn(60.0)
    assert not [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    assert not bench.exited
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.exited
    assert "this slave was taken out of the cluster: host7 may not be a slave" in bench.core.expelled
    again = registration(bench.crash())
    assert (again.slave.slave_id, again.mode) == ("", "active"), "its old id was given to its old name"


def test_a_slave_that_is_refused_for_any_other_reason_keeps_its_tasks() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.clear()
    bench.from_master(m.SlaveRefused(Reason.NOT_AUTHORIZED, "slave id S-1 was not given to host7"))
    assert not bench.sent_to_executors(m.Shutdown)
    assert bench.core.turned_away == "refuses this slave: slave id S-1 was not given to host7"
    bench.turn(60.0)
    assert [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    bench.event(ev.MasterConnected())
    assert bench.core.turned_away == ""


def test_a_slave_dropped_by_its_master_logs_why_and_keeps_its_tasks() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.clear()

    def hung_up(why: str, after_s: float) -> list[str]:
        bench.turn(after_s)
        actions = bench.core.handle(ev.FromMaster(1, m.Dropped(why)), bench.now)
        bench.event(ev.MasterConnected())
        return [action.text for action in actions if isinstance(action, act.Log)]

    assert [len(hung_up("it sent nonsense", after_s)) for after_s in (0.0, 1.0, 1.0, 60.0, 1.0)] == [
        1,
        0,
        0,
        1,
        0,
    ]
    (line,) = hung_up("it sent something else", 1.0)
    assert "it sent something else" in line
    assert "tasks run on" in line
    assert not bench.sent_to_executors(m.Shutdown)
    assert isinstance(bench.sent[-1], m.RegisterSlave)
