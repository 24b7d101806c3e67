"""Finds mistakes in a framework's descriptions where they are made: each field must have a value of its type.

Otherwise the reader of the message would drop it, far from the line that is wrong. Values of subclasses are refused, as
messages cannot carry them (`numpy.float64`, a `StrEnum`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offerd.errors import WrongType
from offerd.resources import Resources
from offerd.values.screen_text import printable

_TEXT = "a text (str)"
_WORDS = "a list of texts"
_TABLE = "a dict of texts"
_NUMBER = "a number of seconds"
_RESOURCES = "resources, as offerd.Resources.of(cpus=1)"


def wrong(where: str, wanted: str, value: object) -> WrongType:
    """The error's line: which field, what belongs there, and what is there."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return WrongType(f"{where} must be {wanted}, not {name}: {printable(repr(value), 80)}")


def check_text(where: str, value: object) -> None:
    """Raises `WrongType`, as all checks here do."""
    if type(value) is not str:
        raise wrong(where, _TEXT, value)


def check_words(where: str, value: object) -> None:
    """Checks a list of texts."""
    if type(value) is not list and type(value) is not tuple:
        raise wrong(where, _WORDS, value)
    for at, word in enumerate(value):
        if type(word) is not str:
            raise wrong(f"{where}[{at}]", _TEXT, word)


def check_table(where: str, value: object) -> None:
    """Checks a dict from text to text."""
    if type(value) is not dict:
        raise wrong(where, _TABLE, value)
    for name, text in value.items():
        if type(name) is not str:
            raise wrong(f"a name in {where}", _TEXT, name)
        if type(text) is not str:
            raise wrong(f"{where}[{printable(repr(name), 64)}]", _TEXT, text)


def check_seconds(where: str, value: object) -> None:
    """Checks a number."""
    if type(value) is not float and type(value) is not int:
        raise wrong(where, _NUMBER, value)


def check_data(where: str, value: object) -> None:
    """Checks bytes."""
    if type(value) is not bytes and not isinstance(value, bytearray | memoryview):
        raise wrong(where, "bytes", value)


def check_resources(where: str, value: object) -> None:
    """Checks resources."""
    if not isinstance(value, Resources):
        raise wrong(where, _RESOURCES, value)


def _check_command(command: Any) -> None:
    if command.argv or type(command.argv) is not list:
        check_words("CommandInfo.argv", command.argv)
    check_text("CommandInfo.shell", command.shell)
    if command.environment or type(command.environment) is not dict:
        check_table("CommandInfo.environment", command.environment)
    if command.series or type(command.series) is not list:
        if type(command.series) is not list and type(command.series) is not tuple:
            raise wrong("CommandInfo.series", "a list of lists of texts", command.series)
        for at, argv in enumerate(command.series):
            check_words(f"CommandInfo.series[{at}]", argv)
    check_seconds("CommandInfo.series_s", command.series_s)
    check_text("CommandInfo.directory", command.directory)
    if command.umask is not None and type(command.umask) is not int:
        raise wrong("CommandInfo.umask", "a whole number, as 0o022", command.umask)


def _check_executor(executor: Any) -> None:
    check_text("ExecutorInfo.executor_id", executor.executor_id)
    check_text("ExecutorInfo.module", executor.module)
    if executor.command is not None and not _is_a("CommandInfo", executor.command):
        raise wrong("ExecutorInfo.command", "a CommandInfo", executor.command)
    check_resources("ExecutorInfo.resources", executor.resources)
    check_text("ExecutorInfo.name", executor.name)
    check_data("ExecutorInfo.data", executor.data)
    check_seconds("ExecutorInfo.shutdown_grace_s", executor.shutdown_grace_s)
    check_text("ExecutorInfo.image", executor.image)
    check_text("ExecutorInfo.pull", executor.pull)


def _check_framework(framework: Any) -> None:
    for name in ("name", "framework_id", "user", "role", "hostname", "account"):
        check_text(f"FrameworkInfo.{name}", getattr(framework, name))
    if type(framework.executors) is not list and type(framework.executors) is not tuple:
        raise wrong("FrameworkInfo.executors", "a list of ExecutorInfo", framework.executors)
    for at, executor in enumerate(framework.executors):
        if not _is_a("ExecutorInfo", executor):
            raise wrong(f"FrameworkInfo.executors[{at}]", "an ExecutorInfo", executor)
    check_seconds("FrameworkInfo.failover_timeout_s", framework.failover_timeout_s)
    check_seconds("FrameworkInfo.unreachable_timeout_s", framework.unreachable_timeout_s)
    check_table("FrameworkInfo.labels", framework.labels)


def _check_task(task: Any) -> None:
    """Runs for every task that is read, so it is kept short."""
    if type(task.task_id) is not str:
        raise wrong("TaskInfo.task_id", _TEXT, task.task_id)
    if type(task.resources) is not Resources:
        check_resources("TaskInfo.resources", task.resources)
    if type(task.executor_id) is not str:
        raise wrong("TaskInfo.executor_id", _TEXT, task.executor_id)
    if task.command is not None and not _is_a("CommandInfo", task.command):
        raise wrong("TaskInfo.command", "a CommandInfo", task.command)
    if type(task.data) is not bytes:
        check_data("TaskInfo.data", task.data)
    if task.time_limit_s is not None:
        check_seconds("TaskInfo.time_limit_s", task.time_limit_s)
    if task.kill_grace_s is not None:
        check_seconds("TaskInfo.kill_grace_s", task.kill_grace_s)
    if type(task.name) is not str:
        raise wrong("TaskInfo.name", _TEXT, task.name)
    if task.labels or type(task.labels) is not dict:
        check_table("TaskInfo.labels", task.labels)


def _check_filters(filters: Any) -> None:
    check_words("Filters.slave_ids", filters.slave_ids)
    check_resources("Filters.minimum", filters.minimum)
    check_table("Filters.attributes", filters.attributes)
    check_words("Filters.attributes_exist", filters.attributes_exist)
    check_table("Filters.attributes_match", filters.attributes_match)


def _is_a(name: str, value: object) -> bool:
    return type(value).__name__ == name


_CHECKS: dict[str, Callable[[Any], None]] = {
    "CommandInfo": _check_command,
    "ExecutorInfo": _check_executor,
    "Filters": _check_filters,
    "FrameworkInfo": _check_framework,
    "TaskInfo": _check_task,
}


def check(description: object) -> None:
    """Raises `WrongType` for the first field of a description with a value of a wrong type."""
    _CHECKS[type(description).__name__](description)
