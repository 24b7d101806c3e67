"""Mistakes of framework authors raise where they are made, in one line that names what is wrong."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

import offerd
from helpers.cli import wait_until
from helpers.fake_master import FakeMaster
from offerd import (
    AsyncScheduler,
    AsyncSchedulerDriver,
    CommandInfo,
    Executor,
    ExecutorDriver,
    ExecutorInfo,
    Filters,
    FrameworkInfo,
    Resources,
    Scheduler,
    SchedulerDriver,
    TaskInfo,
)
from offerd.errors import BadInput, BadResources, WrongType
from offerd.ids import TaskID
from offerd.messages import StatusUpdate, TaskState, TaskStatus

CPU = Resources.of(cpus=1)


class Word(StrEnum):
    A = "a"


TASK = {"task_id": "t", "resources": CPU, "executor_id": "e"}


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        (CommandInfo, {"argv": "echo hi"}, "CommandInfo.argv must be a list of texts, not str: 'echo hi'"),
        (CommandInfo, {"argv": ["echo", 1]}, "CommandInfo.argv[1] must be a text (str), not int: 1"),
        (CommandInfo, {"argv": [b"echo"]}, "CommandInfo.argv[0] must be a text (str), not bytes: b'echo'"),
        (CommandInfo, {"shell": ["a"]}, "CommandInfo.shell must be a text (str), not list: ['a']"),
        (CommandInfo, {"environment": {"N": 1}}, "CommandInfo.environment['N'] must be a text (str), not int: 1"),
        (CommandInfo, {"argv": None}, "CommandInfo.argv must be a list of texts, not NoneType: None"),
        (CommandInfo, {"environment": None}, "CommandInfo.environment must be a dict of texts, not NoneType: None"),
        (CommandInfo, {"environment": ()}, "CommandInfo.environment must be a dict of texts, not tuple: ()"),
        (CommandInfo, {"series": None}, "CommandInfo.series must be a list of lists of texts, not NoneType: None"),
        (TaskInfo, {**TASK, "labels": None}, "TaskInfo.labels must be a dict of texts, not NoneType: None"),
        (CommandInfo, {"series": ["b"]}, "CommandInfo.series[0] must be a list of texts, not str: 'b'"),
        (TaskInfo, {**TASK, "task_id": 1}, "TaskInfo.task_id must be a text (str), not int: 1"),
        (TaskInfo, {**TASK, "task_id": Word.A}, "TaskInfo.task_id must be a text (str), not "),
        (TaskInfo, {**TASK, "time_limit_s": "10"}, "TaskInfo.time_limit_s must be a number of seconds, not str: '10'"),
        (TaskInfo, {**TASK, "kill_grace_s": True}, "TaskInfo.kill_grace_s must be a number of seconds, not bool: True"),
        (TaskInfo, {**TASK, "data": "x"}, "TaskInfo.data must be bytes, not str: 'x'"),
        (TaskInfo, {**TASK, "command": ["echo"]}, "TaskInfo.command must be a CommandInfo, not list: ['echo']"),
        (
            TaskInfo,
            {**TASK, "resources": {"cpus": 1}},
            "TaskInfo.resources must be resources, as offerd.Resources.of(cpus=1), not dict: {'cpus': 1}",
        ),
        (TaskInfo, {**TASK, "labels": {"a": None}}, "TaskInfo.labels['a'] must be a text (str), not NoneType: None"),
        (ExecutorInfo, {"executor_id": 5}, "ExecutorInfo.executor_id must be a text (str), not int: 5"),
        (
            ExecutorInfo,
            {"executor_id": "e", "command": "sh"},
            "ExecutorInfo.command must be a CommandInfo, not str: 'sh'",
        ),
        (FrameworkInfo, {"name": None}, "FrameworkInfo.name must be a text (str), not NoneType: None"),
        (
            FrameworkInfo,
            {"name": "f", "executors": {"e": 1}},
            "FrameworkInfo.executors must be a list of ExecutorInfo, not dict: {'e': 1}",
        ),
        (
            FrameworkInfo,
            {"name": "f", "executors": ["command"]},
            "FrameworkInfo.executors[0] must be an ExecutorInfo, not str: 'command'",
        ),
        (
            FrameworkInfo,
            {"name": "f", "failover_timeout_s": None},
            "FrameworkInfo.failover_timeout_s must be a number of seconds, not NoneType: None",
        ),
        (Filters, {"attributes_exist": "gpu"}, "Filters.attributes_exist must be a list of texts, not str: 'gpu'"),
        (Filters, {"attributes": ["gpu"]}, "Filters.attributes must be a dict of texts, not list: ['gpu']"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_raises_where_it_is_written(
    kind: Callable[..., object], fields: dict[str, Any], line: str
) -> None:
    with pytest.raises(WrongType) as caught:
        kind(**fields)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, BadInput)


def test_what_messages_can_hold_passes() -> None:
    held: Any = {**TASK, "data": bytearray(b"x"), "time_limit_s": 1, "labels": {"a": "b"}}
    assert TaskInfo(**held).time_limit_s == 1
    words: Any = ("echo", "hi")
    assert CommandInfo(words).argv == words
    assert Filters(attributes_exist=("gpu",)).attributes_exist


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cpu", "cpus"), ("cores", "cpus"), ("memory", "mem"), ("ram", "mem"), ("gpu", "gpus")],
)
def test_a_misspelt_resource_is_an_error_with_the_right_name(name: str, meant: str) -> None:
    asked: Any = {name: "1"}
    with pytest.raises(BadResources, match=f"no slave has {name}; write {meant}=1"):
        Resources.of(**asked)
    with pytest.raises(BadResources, match=f"no slave has {name}; write {meant}=1"):
        Resources.parse(f"{name}=1")
    assert Resources.of(licences=2)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            lambda: Resources.of(ports="[1-2]"),  # type: ignore[arg-type]
            "ports='[1-2]' is not a list of ranges; write ports=[(31000, 31009)]",
        ),
        (lambda: Resources.of(ports=[1, 2]), "ports=[1, 2] is not a list of ranges"),  # type: ignore[list-item]
        (lambda: Resources.of(ports=80), "ports=80 is not a list of ranges"),  # type: ignore[arg-type]
        (lambda: Resources.of(mem="128"), "mem=128 has no unit; write 128M or 128G"),
        (lambda: Resources({"cpus": 1.5}), "a positive whole number, not 1.5"),  # type: ignore[dict-item]
        (lambda: Resources({"cpus": "1"}), "a positive whole number, not '1'"),  # type: ignore[dict-item]
    ],
)
def test_amounts_that_cannot_be_counted_raise_in_one_line(wrong: Callable[[], object], line: str) -> None:
    with pytest.raises(BadResources) as caught:
        wrong()
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda: SchedulerDriver(Scheduler(), "f", "127.0.0.1"), "framework must be a FrameworkInfo, not str: 'f'"),  # type: ignore[arg-type]
        (lambda: SchedulerDriver(Scheduler(), FrameworkInfo("f"), 5), "master must be an address (str), not int: 5"),  # type: ignore[arg-type]
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", timeout="3"), "timeout must be a number of seconds, not str: '3'"),  # type: ignore[arg-type]
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", max_workers="3"), "max_workers must be a whole number, not str"),  # type: ignore[arg-type]
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", max_workers=1.5), "max_workers must be a whole number, not float"),  # type: ignore[arg-type]
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", retries=None), "retries must be a whole number, not NoneType"),  # type: ignore[arg-type]
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", initializer=print, initargs="ab"), "initargs must be a tuple"),
        (lambda: offerd.ClusterExecutor("127.0.0.1:1", name=3), "name must be a text (str), not int: 3"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_arguments_of_drivers_and_executors_are_named_too(wrong: Callable[[], object], line: str) -> None:
    with pytest.raises(WrongType) as caught:
        wrong()
    assert line in str(caught.value)


def scheduler(**methods: Callable[..., object]) -> Scheduler:
    made = type("Mine", (Scheduler,), methods)()
    assert isinstance(made, Scheduler)
    return made


async def awaited(self: object, driver: object, offers: object) -> None:
    raise AssertionError("never called")


def yielding(self: object, driver: object, offers: object) -> Any:
    yield


@pytest.mark.parametrize(
    ("methods", "line"),
    [
        ({"resource_offer": lambda *_: None}, "Mine.resource_offer is never called: the callback is resource_offers"),
        ({"statusUpdate": lambda *_: None}, "Mine.statusUpdate is never called: the callback is status_update"),
        ({"resourceOffers": lambda *_: None}, "the callback is resource_offers"),
        ({"executor_losts": lambda *_: None}, "the callback is executor_lost"),
        ({"update_status": lambda *_: None}, "the callback is status_update"),
        ({"on_error": lambda *_: None}, "the callback is error"),
        ({"handle_disconnected": lambda *_: None}, "the callback is disconnected"),
        ({"resource_offers": None}, "Mine.resource_offers is None, which cannot be called"),
        ({"__init__": lambda self: setattr(self, "resource_offer", print)}, "the callback is resource_offers"),
        ({"__init__": lambda self: setattr(self, "resource_offers", awaited)}, "Mine.resource_offers is async"),
        ({"resource_offers": awaited}, "Mine.resource_offers is async: nobody awaits it"),
        ({"resource_offers": yielding}, "Mine.resource_offers has a yield"),
        (
            {"resource_offers": lambda self, offers: None},
            "Mine.resource_offers is called as resource_offers(driver, offers): too many positional arguments",
        ),
        (
            {"status_update": lambda self, driver, status, more: None},
            "Mine.status_update is called as status_update(driver, status): missing a required argument: 'more'",
        ),
    ],
)  # fmt: skip
def test_a_method_that_would_not_be_called_as_meant_is_an_error_before_anything_starts(
    methods: dict[str, Callable[..., object]], line: str
) -> None:
    with pytest.raises(WrongType) as caught:
        SchedulerDriver(scheduler(**methods), FrameworkInfo("f"), "127.0.0.1")
    assert line in str(caught.value)


def test_other_methods_and_inherited_callbacks_are_allowed() -> None:
    class Base(Scheduler):
        errors = 0  # no method: nobody takes it for one

        def __init__(self) -> None:
            self.registrations: list[str] = []

        @property
        def is_registered(self) -> bool:
            raise AssertionError("asked too soon")

        def resource_offers(self, driver: object, offers: object, *more: object) -> None: ...

        def run(self) -> None: ...

        def offers_taken(self) -> None: ...

        def _status_updates(self) -> None: ...

    class Mine(Base): ...

    SchedulerDriver(Mine(), FrameworkInfo("f"), "127.0.0.1")


def test_the_asyncio_driver_takes_coroutines_and_the_same_care(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(AsyncScheduler):
        async def resource_offers(self, driver: object, offers: object) -> None: ...

    class Wrong(AsyncScheduler):
        async def resource_offer(self, driver: object, offers: object) -> None: ...

    AsyncSchedulerDriver(Mine(), FrameworkInfo("f"), "127.0.0.1")
    with pytest.raises(WrongType, match=r"Wrong\.resource_offer is never called"):
        AsyncSchedulerDriver(Wrong(), FrameworkInfo("f"), "127.0.0.1")
    with pytest.raises(WrongType, match=r"Mine is not an offerd\.Scheduler: make it a subclass"):
        SchedulerDriver(Mine(), FrameworkInfo("f"), "127.0.0.1")  # type: ignore[arg-type]


def test_executors_and_classes_in_place_of_objects_are_looked_at_too() -> None:
    class Mine(Executor):
        def launch_tasks(self, driver: object, task: object) -> None: ...

    with pytest.raises(WrongType, match=r"Mine\.launch_tasks is never called: the callback is launch_task"):
        ExecutorDriver(Mine(), {})
    with pytest.raises(WrongType, match=r"Scheduler is a class: give the driver an instance, Scheduler\(\)"):
        SchedulerDriver(Scheduler, FrameworkInfo("f"), "127.0.0.1")  # type: ignore[arg-type]
    assert offerd.WrongType is WrongType


@pytest.mark.parametrize("name", ["registered", "status_update"])
def test_a_callback_that_returns_a_coroutine_is_an_error_when_it_does(name: str) -> None:
    async def undecorated(self: object, driver: object, *_: object) -> None:
        raise AssertionError("never awaited")

    mine = scheduler(**{name: lambda *arguments: undecorated(*arguments)})
    with FakeMaster() as master:
        driver = SchedulerDriver(mine, FrameworkInfo("f"), master.address)
        driver.start()
        wait_until(lambda: driver.is_registered, "the registration")
        master.send(StatusUpdate(driver.framework_id, TaskStatus(TaskID("t"), TaskState.FINISHED, 1)))
        with pytest.raises(WrongType, match=rf"Mine\.{name} returned a coroutine: nobody awaits it"):
            driver.join(10)


def test_what_a_callback_raised_is_shown_once_with_the_lines_of_its_file_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Mine(Scheduler):
        def disconnected(self, driver: SchedulerDriver) -> None:
            raise ZeroDivisionError("in a callback")

    with FakeMaster() as master:
        driver = SchedulerDriver(Mine(), FrameworkInfo("f"), master.address)
        driver.start()
        driver.wait_registered(10)

        def end_what_is_waited_for() -> None:
            wait_until(lambda: driver._joining, "somebody to wait for the driver")
            master.close()

        ender = threading.Thread(target=end_what_is_waited_for)
        ender.start()
        with pytest.raises(ZeroDivisionError) as caught:
            driver.join(60)
        ender.join()
    shown = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert shown[-1] == "disconnected"
    assert not {"_loop", "_take_turns", "_turn", "_perform"} & set(shown)
    assert "raised" not in caplog.text
