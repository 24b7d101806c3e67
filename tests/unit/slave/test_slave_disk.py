"""A slave whose disk is full: when it is, what it tells, and what it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helpers.slave_bench import Bench, task
from offerd import messages as m
from offerd.messages import Reason, TaskState
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.disk import FLOOR_BYTES, FLOOR_PART, is_full
from offerd_slave.settings import SlaveSettings

FLOOR = 1000
SETTINGS = SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.0, disk_floor_bytes=FLOOR)
FULL, ROOMY = ev.DiskMeasured(0, 10 * FLOOR), ev.DiskMeasured(5 * FLOOR, 10 * FLOOR)


def told(bench: Bench) -> list[bool]:
    """What the master heard of the disk since the last `clear`, in order."""
    return [
        message.disk_full for message in bench.sent if isinstance(message, m.SlaveUsage | m.RegisterSlave)
    ]


def test_change_is_told_at_once_and_again_with_every_hello() -> None:
    bench = Bench(settings=SETTINGS)
    bench.running(task("a"))
    bench.event(FULL)
    assert told(bench) == [True]
    bench.event(FULL)
    assert told(bench) == [True], "only changes are"
    bench.event(ev.MasterConnected())
    assert told(bench) == [True, True]
    bench.register(epoch=2)
    bench.clear()
    bench.event(ROOMY)
    bench.event(ev.MasterConnected())
    assert told(bench) == [False, False]


def test_disk_that_filled_up_after_the_hello_is_told_when_the_hello_is_answered() -> None:
    bench = Bench(settings=SETTINGS)
    bench.event(FULL)
    bench.clear()
    bench.register()
    assert told(bench) == [True]


def test_nothing_new_is_taken_and_what_runs_goes_on_and_ends() -> None:
    bench = Bench(settings=SETTINGS)
    bench.running(task("a"))
    bench.event(FULL)
    bench.run(task("b"))
    assert bench.statuses() == [("b", TaskState.LOST, Reason.DISK_PRESSURE)]
    bench.update("a", TaskState.FINISHED, 2)
    assert bench.statuses()[1:] == [("a", TaskState.FINISHED, "")]
    assert not bench.told_executors(m.KillTask)
    bench.event(ROOMY)
    bench.clear()
    bench.run(task("c"))
    assert [message.task.task_id for message in bench.told_executors(m.LaunchTask)] == ["c"]


def test_disk_is_looked_at_with_every_measurement_and_after_a_failed_launch() -> None:
    looks: list[act.Action] = []
    bench = Bench(settings=SETTINGS)
    perform = bench._perform

    def noted(actions: list[act.Action]) -> None:
        looks.extend(action for action in actions if isinstance(action, act.LookAtDisk))
        perform(actions)

    bench._perform = noted  # type: ignore[method-assign]
    bench.turn(SETTINGS.usage_interval_s)
    assert len(looks) == 1
    bench.register()
    bench.run(task("a"))
    bench.event(ev.LaunchFailed(bench.container_id, "cannot make its sandbox"))
    assert len(looks) == 2


@given(st.lists(st.integers(0, 4 * FLOOR)))
def test_between_the_floor_and_twice_the_floor_nothing_changes(free: list[int]) -> None:
    was_full = False
    for free_bytes in free:
        full = is_full(ev.DiskMeasured(free_bytes, 10 * FLOOR), FLOOR, was_full=was_full)
        if FLOOR <= free_bytes < 2 * FLOOR:
            assert full is was_full
        else:
            assert full is (free_bytes < FLOOR)
        was_full = full


def test_disk_that_cannot_be_written_is_full_however_much_is_free() -> None:
    assert is_full(ev.DiskMeasured(1 << 40, 1 << 41, "Read-only file system"), None, was_full=False)


@given(st.integers(0, 1 << 50))
def test_floor_of_its_own_is_64_mebibytes_and_a_hundredth_of_a_small_disk(size_bytes: int) -> None:
    floor = min(FLOOR_BYTES, size_bytes // FLOOR_PART)
    assert not is_full(ev.DiskMeasured(floor, size_bytes), None, was_full=False)
    assert not floor or is_full(ev.DiskMeasured(floor - 1, size_bytes), None, was_full=False)
