"""What a recording tells: its steps, and what the core that is replayed makes of them."""

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
from offerd.wire.screen_text import printable
from offerd_cli.screen import say
from offerd_master.principals import Principal

PACKAGES = ("offerd_master.core.", "offerd_master.allocation.", "offerd_slave.core.")
MODULES = {
    "offerd.core.filters", "offerd.core.ranges", "offerd.core.timers", "offerd.descriptions",
    "offerd.files_access", "offerd.messages", "offerd.operator_messages", "offerd.resources", "offerd.states",
    "offerd.wire.files_messages", "offerd.wire.key_messages", "offerd.wire.recording_messages",
    "offerd.wire.structs", "offerd_isolation.base", "offerd_master.principals", "offerd_master.settings",
    "offerd_slave.records", "offerd_slave.settings",
}  # fmt: skip
"""Of which the cores' states and events are made. Nothing in them does more than compute."""
SHOWN_LETTERS = 400
"""Of an event or action, unless it is to be shown whole."""


class Telling(NamedTuple):
    """How to tell it; see the options of `offerd debug replay`."""

    grep: str
    until_s: float | None
    has_ticks: bool
    is_full: bool
    is_json: bool


class Told(NamedTuple):
    """One step, in words. `at`: seconds of the Unix clock. `fault`: the error that the core has raised."""

    number: int
    at: float
    event: str
    actions: list[str]
    fault: str

    def names(self, text: str) -> bool:
        """Whether it has to do with what is called so."""
        return any(text in each for each in (self.event, *self.actions, self.fault))


def tell(file: Path, how: Telling) -> int:
    """Print it; returns the exit status. Raises `BadInput` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            recording = _open(stream)
            if not how.is_json:
                _introduce(recording.header)
            for told in _told(recording, how):
                if (told.event or told.actions or told.fault or how.has_ticks) and told.names(how.grep):
                    click.echo(_as_json(told) if how.is_json else _as_text(told, how))
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    if recording.is_cut:
        say("offerd: the recording is cut off here")
    return 0


def _open(stream: IO[bytes]) -> Recording:
    return Recording(stream, is_part)


def is_part(module: str) -> bool:
    """Whether classes and functions of this module may be in a recording that is replayed."""
    return module in MODULES or module.startswith(PACKAGES)


def _introduce(header: Header) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.written_at))
    say(f"offerd: a {header.who}, recorded until {when}: {printable(header.why)}")
    if header.version != __version__:
        say(
            f"offerd: it was offerd {printable(header.version, 40)}, and this is {__version__}: what it does may differ"
        )
    if not header.is_whole:
        say(
            "offerd: without the state before its first event it cannot be replayed: these are the events alone"
        )


def _told(recording: Recording, how: Telling) -> Iterator[Told]:
    header, steps = recording.header, recording.steps()
    answered = ((step, []) for step in steps) if recording.core is None else replay(recording.core, steps)
    begin: float | None = None
    for number, (step, answer) in enumerate(answered, header.first):
        begin = step.now if begin is None else begin
        if how.until_s is not None and step.now > begin + how.until_s:
            return
        yield _in_words(number, step, answer, header)


def _in_words(number: int, step: Step, answer: list[Any] | Exception, header: Header) -> Told:
    is_fault = isinstance(answer, Exception)
    return Told(
        number,
        header.written_at - (header.now - step.now),
        "" if step.event is None else in_words(step.event),
        [] if isinstance(answer, Exception) else [in_words(action) for action in answer],
        f"{type(answer).__name__}: {answer}" if is_fault else "",
    )


def in_words(of: Any) -> str:
    """An event, action or message: its name and those fields that say something."""
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


def _as_text(told: Told, how: Telling) -> str:
    most = None if how.is_full else SHOWN_LETTERS
    clock = time.strftime("%H:%M:%S", time.localtime(told.at)) + f"{told.at % 1:.3f}"[1:]
    lines = [
        f"{clock} #{told.number} {told.event or 'tick'}",
        *(f"    -> {action}" for action in told.actions),
    ]
    if told.fault:
        lines.append(f"    !! {told.fault}")
    return "\n".join(line if most is None or len(line) <= most else f"{line[:most]}..." for line in lines)


def _as_json(told: Told) -> str:
    return json.dumps({name: value for name, value in told._asdict().items() if value not in ("", [])})
