"""A slave with a full disk: when it is full, what the slave reports, and which tasks it takes."""

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


def disk_reports(bench: Bench) -> list[bool]:
    """What was reported of the disk to the master since the last `clear`, in order."""
    return [
        message.disk_full for message in bench.sent if isinstance(message, m.SlaveUsage | m.RegisterSlave)
    ]


def test_a_full_disk_is_reported_at_once_and_in_every_registration() -> None:
    bench = Bench(settings=SETTINGS)
    bench.running(task("a"))
    bench.event(FULL)
    assert disk_reports(bench) == [True]
    bench.event(FULL)
    assert disk_reports(bench) == [True], "only changes are reported at once"
    bench.event(ev.MasterConnected())
    assert disk_reports(bench) == [True, True]
    bench.register(epoch=2)
    bench.clear()
    bench.event(ROOMY)
    bench.event(ev.MasterConnected())
    assert disk_reports(bench) == [False, False]


def test_a_disk_that_filled_up_after_the_registration_is_reported_when_that_is_answered() -> None:
    bench = Bench(settings=SETTINGS)
    bench.event(FULL)
    bench.clear()
    bench.register()
    assert disk_reports(bench) == [True]


def test_on_a_full_disk_new_tasks_are_refused_and_running_ones_go_on() -> None:
    bench = Bench(settings=SETTINGS)
    bench.running(task("a"))
    bench.event(FULL)
    bench.run(task("b"))
    assert bench.statuses() == [("b", TaskState.LOST, Reason.DISK_PRESSURE)]
    bench.update("a", TaskState.FINISHED, 2)
    assert bench.statuses()[1:] == [("a", TaskState.FINISHED, "")]
    assert not bench.sent_to_executors(m.KillTask)
    bench.event(ROOMY)
    bench.clear()
    bench.run(task("c"))
    assert [message.task.task_id for message in bench.sent_to_executors(m.LaunchTask)] == ["c"]


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


def test_a_disk_that_cannot_be_written_counts_as_full() -> None:
    assert is_full(ev.DiskMeasured(1 << 40, 1 << 41, "Read-only file system"), None, was_full=False)


@given(st.integers(0, 1 << 50))
def test_the_default_floor_is_64_mebibytes_or_a_hundredth_of_a_small_disk(size_bytes: int) -> None:
    floor = min(FLOOR_BYTES, size_bytes // FLOOR_PART)
    assert not is_full(ev.DiskMeasured(floor, size_bytes), None, was_full=False)
    assert not floor or is_full(ev.DiskMeasured(floor - 1, size_bytes), None, was_full=False)
