"""How old its tasks are, and how long it is there, a slave tells whatever master it says hello to."""

from __future__ import annotations

from helpers.slave_bench import Bench, task
from offerd import messages as m


def hello(bench: Bench) -> m.RegisterSlave:
    """What it says to a master that does not know it."""
    bench.clear()
    bench.from_master(m.NotRegistered())
    (message,) = bench.sent
    assert isinstance(message, m.RegisterSlave)
    return message


def test_tasks_are_as_old_as_their_launch_and_their_first_running() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.turn(20.0)
    bench.run(task("b"))
    bench.turn(5.0)
    ages = {listed.task_id: (listed.launched_s, listed.ran_s) for listed in hello(bench).tasks}
    assert ages == {"a": (25.0, 25.0), "b": (5.0, None)}


def test_the_slave_is_there_since_its_first_registration() -> None:
    bench = Bench()
    first = next(message for message in bench.sent if isinstance(message, m.RegisterSlave))
    assert first.since_s == 0.0
    bench.register()
    bench.turn(7.0)
    assert hello(bench).since_s == 7.0
    bench.register()
    bench.turn(3.0)
    assert hello(bench).since_s == 10.0


def test_after_its_restart_a_task_has_run_since_it_was_handed_over() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.turn(20.0)
    bench.update("a", m.TaskState.RUNNING, 2)
    (listed,) = hello(bench.crash()).tasks
    assert listed.ran_s == listed.launched_s == 21.0
