"""A slave that operators drain or deactivate, and leaders of several epochs."""

from __future__ import annotations

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.messages import Reason, TaskState
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev

KILLED = TaskState.KILLED


def hello(bench: Bench) -> m.RegisterSlave:
    return [message for message in bench.sent if isinstance(message, m.RegisterSlave)][-1]


def test_deactivation_outlives_a_restart_and_is_told_with_the_hello() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.from_master(m.SetSlaveMode("deactivated"))
    again = bench.crash()
    assert hello(again).mode == "deactivated"
    again.register()
    again.from_master(m.SetSlaveMode("active"))
    assert hello(again.crash()).mode == "active"


def test_drained_from_the_master_it_ends_its_tasks_and_goes() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.from_master(m.SetSlaveMode("draining"))
    assert bench.told_executors(m.Shutdown)
    bench.update("a", KILLED, 2)
    assert bench.statuses() == [("a", KILLED, Reason.SLAVE_DRAINING)]
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))
    bench.acknowledge("a", 1)
    bench.acknowledge("a", 2)
    assert bench.exited
    assert bench.mode == "active", "who starts it again wants it to work"


def test_restarted_while_draining_it_drains_on() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.from_master(m.SetSlaveMode("draining"))
    again = bench.crash()
    assert hello(again).mode == "draining"
    again.register()
    again.clear()
    again.hello("a")
    assert again.told_executors(m.Shutdown)
    again.run(task("b"))
    assert ("b", TaskState.LOST, Reason.SLAVE_DRAINING) in again.statuses()


def test_orders_of_an_older_leader_are_refused_and_the_refusal_outlives_a_restart() -> None:
    bench = Bench()
    bench.register(epoch=5)
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("old")]), epoch=4)
    assert not bench.core.state.tasks
    again = bench.crash()
    assert hello(again).epoch == 5
    again.from_master(m.SlaveRegistered(again.slave_id, "deposed"), epoch=4)
    assert not again.core.state.registered
    again.register(epoch=6)
    assert again.core.state.registered
    assert not again.asked_for(act.LaunchContainer)


def test_master_that_stands_by_is_asked_again_and_not_obeyed() -> None:
    bench = Bench()
    bench.clear()
    bench.from_master(m.NotLeading("tcp://10.0.0.1:5060"), epoch=0)
    bench.turn(1.1)
    assert isinstance(bench.sent[-1], m.RegisterSlave)


def test_a_slave_whose_key_was_revoked_ends_its_tasks_says_hello_to_nobody_and_fails() -> None:
    bench = Bench()
    container_id = bench.running(task("a"))
    bench.clear()
    bench.from_master(m.SlaveRefused(Reason.KEY_REVOKED, "host7 may not be a slave"))
    assert bench.told_executors(m.Shutdown)
    bench.from_master(m.NotRegistered())
    bench.event(ev.MasterConnected())
    bench.turn(60.0)
    assert not [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
    assert not bench.exited
    bench.event(ev.ExecutorEnded(container_id, None))
    bench.event(ev.ContainerDestroyed(container_id))
    assert bench.exited
    assert "this slave was taken out of the cluster: host7 may not be a slave" in bench.core.expelled
    again = hello(bench.crash())
    assert (again.slave.slave_id, again.mode) == ("", "active"), "its old id was given to its old name"


def test_a_slave_that_is_refused_for_any_other_reason_keeps_its_tasks() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.clear()
    bench.from_master(m.SlaveRefused(Reason.NOT_AUTHORIZED, "slave id S-1 was not given to host7"))
    assert not bench.told_executors(m.Shutdown)
    bench.turn(60.0)
    assert [message for message in bench.sent if isinstance(message, m.RegisterSlave)]
