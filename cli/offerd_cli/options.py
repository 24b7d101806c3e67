"""Options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from offerd.errors import BadInput
from offerd_cli.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

# Generic only for the type checker: click before 8.4 has no `ParamType[...]`.
if TYPE_CHECKING:
    _FloatParam = click.ParamType[float]
else:
    _FloatParam = click.ParamType


class Duration(_FloatParam):
    """Durations such as `500ms`, `2s`, `5m`, `1h`, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except BadInput as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


class WholeNumber(click.IntRange):
    """A whole number within bounds; click itself calls it an "integer range"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, None, None))
        except click.BadParameter:
            bounds = f"{self.min} or more" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"{str(value)!r} is not a whole number, {bounds}", param, ctx)


class Fraction(click.FloatRange):
    """A number from 0 to 1. `nan` must be refused by name: every comparison with it is false, so no range refuses it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("nan is not a number from 0 to 1", param, ctx)
        return number


FRACTION = Fraction(0, 1)


def given(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse an empty value: it usually comes from an unset shell variable, and must not mean something else."""
    assert option.name is not None
    if value == "" and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty; leave the option out, or give it a value", context, option)
    return value


def _set_variable(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Set the variable in which the client looks for its key: the option is another way to set it."""
    if value is not None and given(context, option, value):
        assert isinstance(option.envvar, str)
        os.environ[option.envvar] = value


_where_option: Callable[[F], F] = click.option(
    "--master",
    envvar="OFFERD_MASTER",
    default="",
    show_default=False,
    show_envvar=True,
    metavar="WHERE",
    callback=given,
    help="Cluster to use: a name that `offerd cluster list` shows, its master as HOST:PORT, or zk://HOST:PORT,.../path.  "
    "[default: the current one of `offerd cluster`]",
)
_key_option: Callable[[F], F] = click.option(
    "--key",
    envvar="OFFERD_KEY",
    show_envvar=True,
    expose_value=False,
    callback=_set_variable,
    metavar="FILE",
    help="File of your secret key.  [default: the one kept by `offerd cluster`]",
)
_master_key_option: Callable[[F], F] = click.option(
    "--master-key",
    envvar="OFFERD_MASTER_KEY",
    show_envvar=True,
    expose_value=False,
    callback=_set_variable,
    metavar="KEY",
    help="Public key of the master, or its file.  [default: the one kept by `offerd cluster`]",
)


def master_option(command: F) -> F:
    """Add `--master`, `--key` and `--master-key`."""
    return _where_option(_key_option(_master_key_option(command)))


role_option: Callable[[F], F] = click.option(
    "--role",
    envvar="OFFERD_ROLE",
    default="*",
    show_default=True,
    show_envvar=True,
    metavar="ROLE",
    callback=given,
    help="Role whose share the tasks count against; your key must allow it.",
)
json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, for programs."
)
cwd_option: Callable[[F], F] = click.option(
    "-C",
    "--cwd",
    default="",
    metavar="DIR",
    callback=given,
    help="Run in this directory of the slave's host; a relative path starts from here.  [default: an empty one]",
)
die_with_parent_option: Callable[[F], F] = click.option(
    "--die-with-parent", is_flag=True, help="Stop, as on SIGTERM, when the parent process ends."
)
no_start_option: Callable[[F], F] = click.option(
    "--no-start", is_flag=True, help="Make keys and configuration only, and start nothing."
)
