"""Arguments, file names and environment variables, which POSIX has as bytes, as text: in Python and on the wire.

In Python such a word is a string like those in `sys.argv` in a UTF-8 locale: a byte that is not UTF-8 is a lone surrogate
(PEP 383). Messages cannot carry surrogates. So a word with any is sent as a zero byte, which no word can contain otherwise,
followed by one letter (Latin-1) for each of its bytes. All other words are sent as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from offerd.errors import BadInput
from offerd.messages import CommandInfo, ExecutorInfo, FrameworkInfo, TaskInfo
from offerd.values.screen_text import printable

_MARK = "\0"
T = TypeVar("T")


def word_of(raw: bytes) -> str:
    """The word for these bytes."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(word: str) -> bytes:
    """A word's bytes. Raises `ValueError` for a surrogate that stands for no byte."""
    return word.encode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    r"""A text for people that a message can carry: lone surrogates are escaped (`\udce9`)."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def packed(word: str) -> str:
    """A word for the wire. Raises `BadInput` for an invalid word."""
    if _MARK in word:
        raise BadInput(f"{printable(word, 64)} holds a zero byte, which no program can be given")
    if word.isascii() or not _has_surrogates(word):
        return word
    try:
        return _MARK + bytes_of(word).decode("latin-1")
    except UnicodeEncodeError:
        raise BadInput(f"{printable(word, 64)} holds a surrogate that stands for no byte") from None


def unpacked(word: str) -> str:
    """A word from the wire. Raises `ValueError` if `packed` has not made it."""
    return word_of(word[1:].encode("latin-1")) if word.startswith(_MARK) else word


def raw(word: str) -> bytes:
    """The bytes of a word from the wire. Raises `ValueError` if `packed` has not made it."""
    return word[1:].encode("latin-1") if word.startswith(_MARK) else word.encode()


def packed_table(table: Mapping[str, str]) -> dict[str, str]:
    """An environment for the wire."""
    return {packed(name): packed(value) for name, value in table.items()}


def packed_command(command: CommandInfo) -> CommandInfo:
    """A command with words for the wire. Raises `BadInput`."""
    try:
        if all(map(_is_plain, _words(command))):
            return command
    except (TypeError, AttributeError):
        return command  # some of it is not text: `check` will say which
    return msgspec.structs.replace(
        command,
        argv=list(map(packed, command.argv)),
        shell=packed(command.shell),
        environment=packed_table(command.environment),
        series=[list(map(packed, argv)) for argv in command.series],
        directory=packed(command.directory),
    )


def unpacked_command(command: CommandInfo) -> CommandInfo:
    """The opposite of `packed_command`. Raises `ValueError` for a word that it cannot have made."""
    if not any(word.startswith(_MARK) for word in _words(command)):
        return command
    return msgspec.structs.replace(
        command,
        argv=list(map(unpacked, command.argv)),
        shell=unpacked(command.shell),
        environment={unpacked(name): unpacked(value) for name, value in command.environment.items()},
        series=[list(map(unpacked, argv)) for argv in command.series],
        directory=unpacked(command.directory),
    )


def packed_task(task: TaskInfo) -> TaskInfo:
    """A task with words for the wire, and a name that a message can carry. Raises `BadInput`."""
    command = None if task.command is None else packed_command(task.command)
    return _replaced(task, command=command, name=readable(task.name))


def unpacked_task(task: TaskInfo) -> TaskInfo:
    """The opposite of `packed_task`. Raises `ValueError` for a word that it cannot have made."""
    return task if task.command is None else _replaced(task, command=unpacked_command(task.command))


def packed_framework(framework: FrameworkInfo) -> FrameworkInfo:
    """A framework and its executors with words for the wire. Raises `BadInput`."""
    executors = list(map(_packed_executor, framework.executors))
    if all(new is old for new, old in zip(executors, framework.executors, strict=True)):
        executors = framework.executors
    return _replaced(framework, executors=executors, name=readable(framework.name))


def _packed_executor(executor: ExecutorInfo) -> ExecutorInfo:
    command = None if executor.command is None else packed_command(executor.command)
    return _replaced(executor, command=command, name=readable(executor.name))


def _replaced(value: T, **fields: object) -> T:
    """The value with these fields; the same object if nothing changes, as for most."""
    if all(getattr(value, name) is new for name, new in fields.items()):
        return value
    replaced: T = msgspec.structs.replace(value, **fields)  # type: ignore[type-var]
    return replaced


def _words(command: CommandInfo) -> list[str]:
    words = [*command.argv, command.shell, command.directory]
    if command.environment:
        words += [*command.environment, *command.environment.values()]
    for argv in command.series:
        words += argv
    return words


def _is_plain(word: str) -> bool:
    return word.isascii() and _MARK not in word


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
