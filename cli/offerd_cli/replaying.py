"""Prints a recording: its steps, and the actions of the replayed core."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import IO, Any, NamedTuple

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
    "offerd.core.filters", "offerd.values.ranges", "offerd.core.timers", "offerd.descriptions",
    "offerd.files_access", "offerd.messages", "offerd.operator_messages", "offerd.resources", "offerd.states",
    "offerd.protocol.files_messages", "offerd.protocol.key_messages", "offerd.protocol.recording_messages",
    "offerd.fields.structs", "offerd_isolation.base", "offerd_master.principals", "offerd_master.settings",
    "offerd_slave.records", "offerd_slave.settings",
}  # fmt: skip
"""Modules of the cores' states and events. Nothing in them does more than compute."""
SHOWN_LETTERS = 400
"""Longest text of an event or action, unless it is to be shown in full."""


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
    """Print the recording; returns the exit status. Raises `BadInput` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            recording = _open(stream)
            if not how.is_json:
                _introduce(recording.header)
            for shown in _step_texts(recording, how):
                if (shown.event or shown.actions or shown.fault or how.has_ticks) and shown.names(how.grep):
                    click.echo(_as_json(shown) if how.is_json else _as_text(shown, how))
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    if recording.is_cut:
        say("offerd: the recording is cut off here")
    return 0


def _open(stream: IO[bytes]) -> Recording:
    return Recording(stream, is_part)


def is_part(module: str) -> bool:
    """Whether a recording that is replayed may contain classes and functions of this module."""
    return module in MODULES or module.startswith(PACKAGES)


def _introduce(header: Header) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.written_at))
    say(f"offerd: recording of a {header.who} until {when}: {printable(header.why)}")
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
        f"{type(answer).__name__}: {answer}" if is_fault else "",
    )


def in_words(of: Any) -> str:
    """An event, action or message in words: its name, and its fields that are not empty."""
    if isinstance(of, msgspec.Struct):
        shown = [
            f"{field.name}={in_words(value)}"
            for field in msgspec.structs.fields(of)
            if (value := getattr(of, field.name)) not in (field.default, None)
            and value not in ("", b"", [], {})
        ]
        return f"{type(of).__name__}({', '.join(shown)})"
    if isinstance(of, Enum):
        return of.name
    if isinstance(of, Principal):
        return of.name
    if isinstance(of, bytes):
        return of.hex() if len(of) <= 8 else f"{len(of)} bytes"
    if isinstance(of, list | tuple):
        return f"[{', '.join(map(in_words, of))}]"
    if isinstance(of, dict):
        return "{" + ", ".join(f"{in_words(key)}: {in_words(value)}" for key, value in of.items()) + "}"
    return printable(str(of))


def _as_text(shown: StepText, how: PrintOptions) -> str:
    most = None if how.is_full else SHOWN_LETTERS
    clock = time.strftime("%H:%M:%S", time.localtime(shown.at)) + f"{shown.at % 1:.3f}"[1:]
    lines = [
        f"{clock} #{shown.number} {shown.event or 'tick'}",
        *(f"    -> {action}" for action in shown.actions),
    ]
    if shown.fault:
        lines.append(f"    !! {shown.fault}")
    return "\n".join(line if most is None or len(line) <= most else f"{line[:most]}..." for line in lines)


def _as_json(shown: StepText) -> str:
    return json.dumps({name: value for name, value in shown._asdict().items() if value not in ("", [])})
