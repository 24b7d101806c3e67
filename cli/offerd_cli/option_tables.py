"""Options of a daemon made from its settings: each row says which field the option sets, and how its value is written.

The default in the help is the field's own default, so it stands in one place only: the class of the settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from offerd_cli.options import DURATION, FRACTION, WholeNumber
from offerd_cli.units import exact_duration

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written. `read` turns the option's name and click's value into the field's value; it raises `BadInput`.
    `write` turns a value (the field's default, or click's) into what a person would type.
    """

    metavar: str | None = None
    type: click.ParamType[Any] | None = None
    read: Callable[[str, Any], Any] = lambda _option, value: value
    write: Callable[[Any], str] = str
    is_flag: bool = False
    is_multiple: bool = False


TEXT = Kind()
FLAG = Kind(is_flag=True)
TIME = Kind("DURATION", DURATION, write=exact_duration)
PART = Kind("FRACTION", FRACTION)
PORT = Kind("N", WholeNumber(0, 65535))
FILE = Kind("FILE", click.Path(path_type=Path))
DIRECTORY = Kind("DIR", click.Path(path_type=Path))


def number(least: int) -> Kind:
    """A whole number, at least `least`."""
    return Kind("N", WholeNumber(least))


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One option and the field that it sets; `part.name` is a field of a part of the settings.

    `unset`: the default as described in the help, if the field's own default depends on the host or means "none". If the
    option is not given, or empty, the field is then left alone.
    """

    field: str
    option: str
    kind: Kind
    help: str
    metavar: str | None = None
    unset: str | None = None
    parameter: str = ""

    @property
    def name(self) -> str:
        """Name of the command's parameter, and of the entry in a file of options."""
        return self.parameter or self.option.removeprefix("--").replace("-", "_")

    def in_part(self, part: str) -> Setting:
        """The same option for settings in which `part` has the field."""
        return dataclasses.replace(self, field=f"{part}.{self.field}")

    def click_option(self, defaults: object) -> Callable[[F], F]:
        """The option with the default that `defaults` has."""
        kind = self.kind
        own = None if self.unset is not None else attrgetter(self.field)(defaults)
        if not kind.is_flag and not kind.is_multiple and own is not None:
            own = kind.write(own)
        return click.option(
            self.option,
            self.name,
            type=kind.type,
            is_flag=kind.is_flag,
            multiple=kind.is_multiple,
            default=own,
            show_default=own is not None and not kind.is_flag and not kind.is_multiple,
            metavar=self.metavar or kind.metavar if not kind.is_flag else None,
            help=f"{self.help}  [default: {self.unset}]" if self.unset else self.help,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class OptionTable(Generic[T]):
    """The options of one command that make up its settings. `defaults`: the settings without any option."""

    defaults: T
    rows: tuple[Setting, ...]

    def options(self, command: F) -> F:
        """Add all options in this order; the command gets each under its row's name."""
        for row in reversed(self.rows):
            command = row.click_option(self.defaults)(command)
        return command

    def read(self, words: Mapping[str, Any]) -> T:
        """The settings that `words`, the command's parameters by name, ask for. Raises `BadInput`."""
        changes: dict[str, Any] = {}
        for row in self.rows:
            value = words[row.name]
            if row.unset is None or value not in (None, ""):
                changes[row.field] = row.kind.read(row.option, value)
        return _changed(self.defaults, changes)

    def command_line(self, words: Mapping[str, Any]) -> list[str]:
        """The same options for another command line, without defaults. Raises `BadInput`."""
        self.read(words)
        line: list[str] = []
        for row in self.rows:
            value, own = words[row.name], attrgetter(row.field)(self.defaults)
            if row.kind.is_flag:
                line += [row.option] if value else []
            elif row.kind.is_multiple:
                line += [word for each in value for word in (row.option, each)]
            elif value not in (None, "") and row.kind.write(value) != row.kind.write(own):
                line += [row.option, row.kind.write(value)]
        return line


def _changed(settings: T, changes: Mapping[str, Any]) -> T:
    """The settings with these fields changed; `part.name` is the field `name` of the part."""
    own: dict[str, Any] = {}
    of_parts: dict[str, dict[str, Any]] = {}
    for field, value in changes.items():
        part, dot, rest = field.partition(".")
        if dot:
            of_parts.setdefault(part, {})[rest] = value
        else:
            own[field] = value
    for part, values in of_parts.items():
        own[part] = _changed(getattr(settings, part), values)
    return dataclasses.replace(settings, **own)  # type: ignore[type-var]
