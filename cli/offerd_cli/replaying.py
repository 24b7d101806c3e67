"""Prints a recording: its steps, and the actions of the replayed core."""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from offerd import __version__
from offerd.daemons.recording import Header, Step
from offerd.daemons.recording_reader import Recording, replay
from offerd.errors import BadInput
from offerd.values.screen_text import printable
from offerd_cli.screen import say
from offerd_master.principals import Principal

PACKAGES = ("offerd_master.core.", "offerd_master.allocation.", "offerd_slave.core.")
MODULES = {
    "offerd.core.filters", "offerd.core.timers", "offerd.descriptions", "offerd.fields.structs", "offerd.files_access",
    "offerd.messages", "offerd.operator_messages", "offerd.protocol.change_messages", "offerd.protocol.files_messages",
    "offerd.protocol.key_messages", "offerd.protocol.recording_messages", "offerd.resources", "offerd.states",
    "offerd.values.ranges", "offerd_isolation.base", "offerd_master.principals", "offerd_master.settings",
    "offerd_slave.records", "offerd_slave.settings",
}  # fmt: skip
"""Modules of the cores' states and events. Nothing in them does more than compute."""
CORES = {("offerd_master.core.master", "MasterCore"), ("offerd_slave.core.slave", "SlaveCore")}
SHOWN_LETTERS = 400
"""Longest text of an event or action, unless it is to be shown in full."""
MOST_LETTERS = 1_000_000
"""Longest text that is made of one at all."""
PLAIN = (bool, int, float, str, bytes)
MOST_DEPTH = 40
"""Values in values that are shown."""
MAX_MEMORY_BYTES = 4 << 30
"""What a replay may take: a file of a few bytes can name many objects."""


class PrintOptions(NamedTuple):
    """How to print it; see the options of `offerd debug replay`."""

    grep: str
    until_s: float | None
    has_ticks: bool
    is_full: bool
    is_json: bool


class StepText(NamedTuple):
    """One step in words. `at`: seconds of the Unix clock. `fault`: the error that the core has raised."""

    number: int
    at: float
    event: str
    actions: list[str]
    fault: str

    def names(self, text: str) -> bool:
        """Whether the step mentions this text."""
        return any(text in each for each in (self.event, *self.actions, self.fault))


def print_recording(file: Path, how: PrintOptions) -> int:
    """Print the recording; returns the exit status. Raises `BadInput` if it cannot be read, or is too large."""
    try:
        with _limited_memory(), file.open("rb") as stream:
            recording = Recording(stream, is_part)
            _check_core(recording)
            if not how.is_json:
                _introduce(recording.header)
            steps, shown = _print_steps(recording, how)
    except BrokenPipeError:
        raise  # of stdout, not of the file
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    except MemoryError:
        raise BadInput(
            f"{file} needs more than {MAX_MEMORY_BYTES >> 30} GiB of memory to be replayed"
        ) from None
    if how.grep and not shown:
        say(f"offerd: no step mentions {printable(how.grep)} ({steps} steps)")
    if recording.is_cut:
        say("offerd: the recording is cut off here")
    return 0


@contextmanager
def _limited_memory() -> Iterator[None]:
    """The file may be from anybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _check_core(recording: Recording) -> None:
    """Raises `BadInput` if what was recorded is not the core of a master or slave."""
    kind = type(recording.core)
    if recording.core is not None and (kind.__module__, kind.__name__) not in CORES:
        raise BadInput("this is not a recording of a master or slave")


def _print_steps(recording: Recording, how: PrintOptions) -> tuple[int, int]:
    """Returns how many steps there were, and how many of them are shown."""
    steps = found = 0
    for shown in _step_texts(recording, how):
        steps += 1
        if (shown.event or shown.actions or shown.fault or how.has_ticks) and shown.names(how.grep):
            found += 1
            click.echo(_as_json(shown) if how.is_json else _as_text(shown, how))
    return steps, found


def is_part(module: str, kind: str) -> bool:
    """Whether a recording that is replayed may contain a `class` or `function` of this module."""
    if kind == "function":
        return module.startswith(("offerd_master.core.", "offerd_slave.core."))
    return module in MODULES or module.startswith(PACKAGES)


def _introduce(header: Header) -> None:
    when = _local_time(header.written_at, "%Y-%m-%d %H:%M:%S")
    say(f"offerd: recording of a {printable(header.who, 40)} until {when}: {printable(header.why)}")
    if header.version != __version__:
        say(
            f"offerd: it was made by offerd {printable(header.version, 40)}; this is {__version__}, which may act differently"
        )
    if not header.is_whole:
        say(
            "offerd: the state before the first event is missing, so these are only the events, without actions"
        )


def _step_texts(recording: Recording, how: PrintOptions) -> Iterator[StepText]:
    header, steps = recording.header, recording.steps()
    answered = ((step, []) for step in steps) if recording.core is None else replay(recording.core, steps)
    begin: float | None = None
    for number, (step, answer) in enumerate(answered, header.first):
        begin = step.now if begin is None else begin
        if how.until_s is not None and step.now > begin + how.until_s:
            return
        yield _in_words(number, step, answer, header)


def _in_words(number: int, step: Step, answer: list[Any] | Exception, header: Header) -> StepText:
    is_fault = isinstance(answer, Exception)
    return StepText(
        number,
        header.written_at - (header.now - step.now),
        "" if step.event is None else in_words(step.event),
        [] if isinstance(answer, Exception) else [in_words(action) for action in answer],
        printable(f"{type(answer).__name__}: {answer}", SHOWN_LETTERS) if is_fault else "",
    )


def in_words(of: Any) -> str:
    """An event, action or message in words: its name, and its fields that are not empty. Cut where it becomes very long."""
    found: list[str] = []
    room = MOST_LETTERS
    for piece in _pieces(of, MOST_DEPTH):
        found.append(piece)
        room -= len(piece)
        if room < 0:
            found.append("...")
            break
    return "".join(found)


def _pieces(of: Any, depth: int) -> Iterator[str]:
    """The text piece by piece: of values that contain each other again and again no more is made than is taken."""
    if isinstance(of, Enum):
        yield of.name
    elif isinstance(of, Principal):
        yield printable(of.name)
    elif isinstance(of, bytes):
        yield of.hex() if len(of) <= 8 else f"{len(of)} bytes"
    elif not depth:
        yield "..."
    elif (fields := _fields(of)) is not None:
        yield f"{type(of).__name__}("
        yield from _joined(((f"{name}=", value) for name, value in fields if not _is_empty(value)), depth)
        yield ")"
    elif isinstance(of, list | tuple | set | frozenset | deque):
        yield "["
        yield from _joined((("", value) for value in of), depth)
        yield "]"
    elif isinstance(of, dict):
        yield "{"
        yield from _joined(((f"{printable(str(key))}: ", value) for key, value in of.items()), depth)
        yield "}"
    else:
        yield printable(str(of), MOST_LETTERS)


def _joined(parts: Iterable[tuple[str, Any]], depth: int) -> Iterator[str]:
    for number, (name, value) in enumerate(parts):
        yield f", {name}" if number else name
        yield from _pieces(value, depth - 1)


def _fields(of: Any) -> Iterable[tuple[str, Any]] | None:
    """Names and values of what has fields; without those of a struct that have their default."""
    if isinstance(of, msgspec.Struct):
        return [
            (field.name, value)
            for field in msgspec.structs.fields(of)
            if not _is_default(value := getattr(of, field.name), field.default)
        ]
    if dataclasses.is_dataclass(of) and not isinstance(of, type):
        return [(field.name, getattr(of, field.name)) for field in dataclasses.fields(of)]
    names = getattr(type(of), "_fields", None)
    return list(zip(names, of, strict=False)) if isinstance(of, tuple) and names is not None else None


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (
        isinstance(value, PLAIN) and type(value) is type(default) and value == default
    )


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | bytes | list | tuple | dict | set) and not value)


def _as_text(shown: StepText, how: PrintOptions) -> str:
    most = None if how.is_full else SHOWN_LETTERS
    clock = _local_time(shown.at, "%Y-%m-%dT%H:%M:%S") + f"{shown.at % 1:.3f}"[1:]
    lines = [
        f"{clock} #{shown.number} {shown.event or 'tick'}",
        *(f"    -> {action}" for action in shown.actions),
    ]
    if shown.fault:
        lines.append(f"    !! {shown.fault}")
    return "\n".join(line if most is None or len(line) <= most else f"{line[:most]}..." for line in lines)


def _as_json(shown: StepText) -> str:
    return json.dumps({name: value for name, value in shown._asdict().items() if value not in ("", [])})


def _local_time(at: float, form: str) -> str:
    """A time of the Unix clock on this host's clock; dashes for one that no calendar has."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "--"
