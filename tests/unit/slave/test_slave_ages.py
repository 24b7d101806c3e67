"""A registration contains the ages of the slave and its tasks."""

from __future__ import annotations

from helpers.slave_bench import Bench, task
from offerd import messages as m


def registration(bench: Bench) -> m.RegisterSlave:
    """The registration that it sends to a master that does not know it."""
    bench.clear()
    bench.from_master(m.NotRegistered())
    (message,) = bench.sent
    assert isinstance(message, m.RegisterSlave)
    return message


def test_task_ages_count_from_delivery_and_first_run() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.turn(20.0)
    bench.run(task("b"))
    bench.turn(5.0)
    ages = {listed.task_id: (listed.launched_s, listed.ran_s) for listed in registration(bench).tasks}
    assert ages == {"a": (25.0, 25.0), "b": (5.0, None)}


def test_the_slaves_age_counts_from_its_first_registration() -> None:
    bench = Bench()
    first = next(message for message in bench.sent if isinstance(message, m.RegisterSlave))
    assert first.since_s == 0.0
    bench.register()
    bench.turn(7.0)
    assert registration(bench).since_s == 7.0
    bench.register()
    bench.turn(3.0)
    assert registration(bench).since_s == 10.0


def test_after_a_restart_a_running_tasks_age_counts_from_its_delivery() -> None:
    bench = Bench()
    bench.running(task("a"))
    bench.turn(20.0)
    bench.update("a", m.TaskState.RUNNING, 2)
    (listed,) = registration(bench.crash()).tasks
    assert listed.ran_s == listed.launched_s == 21.0
