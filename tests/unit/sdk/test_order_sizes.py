"""What fits into one order; checked before anything is sent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import BadInput
from offerd.ids import ExecutorID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, FrameworkInfo, TaskInfo
from offerd.resources import Resources

CPU = Resources.of(cpus=1)


def task(data: bytes) -> TaskInfo:
    return TaskInfo(TaskID("t"), CPU, ExecutorID("e"), data=data)


def test_the_size_of_commands_and_labels_counts() -> None:
    driver = SchedulerDriver(Scheduler(), FrameworkInfo("x"), "127.0.0.1")
    long = CommandInfo(["\N{SNOWMAN}" * 200_000], environment={"A": "b" * 200_000})
    one = TaskInfo(TaskID("t"), CPU, ExecutorID("e"), long, labels={"x": "y" * 100_000})
    assert driver.fits_message([one])
    assert not driver.fits_message([one, one])


def test_the_size_of_a_series_counts() -> None:
    driver = SchedulerDriver(Scheduler(), FrameworkInfo("x"), "127.0.0.1:1")
    series = [["echo", "x" * 100_000]] * 6
    one = TaskInfo(TaskID("t"), CPU, ExecutorID("e"), CommandInfo(["echo"], series=series, series_s=1.0))
    assert driver.fits_message([one])
    assert not driver.fits_message([one, one])
    assert driver.fault(one) == ""
    large = replace(one, command=CommandInfo(["echo"], series=series * 2, series_s=1.0))
    assert "does not fit" in driver.fault(large)


def test_room_is_left_for_the_framework_and_its_executor() -> None:
    data = b"\x00" * 200_000
    fat = FrameworkInfo("x", executors=[ExecutorInfo(ExecutorID("e"), module="m", data=data)])
    one = task(data=b"\x00" * 700_000)
    assert SchedulerDriver(Scheduler(), FrameworkInfo("x"), "127.0.0.1").fits_message([one])
    assert not SchedulerDriver(Scheduler(), fat, "127.0.0.1").fits_message([one])
    too_fat = FrameworkInfo("x", executors=[ExecutorInfo(ExecutorID("e"), module="m", data=data * 3)])
    with pytest.raises(BadInput, match="no room"):
        SchedulerDriver(Scheduler(), too_fat, "127.0.0.1")
