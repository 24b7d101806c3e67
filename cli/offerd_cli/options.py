"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from offerd.errors import BadInput
from offerd_cli.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

# Generic to the type checker only: click before 8.4 has no `ParamType[...]`.
if TYPE_CHECKING:
    _FloatParam = click.ParamType[float]
else:
    _FloatParam = click.ParamType


class Duration(_FloatParam):
    """`500ms`, `2s`, `5m`, `1h` as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except BadInput as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


def given(context: click.Context, option: click.Parameter, value: str) -> str:
    """What was written on the command line is not empty: a variable of a shell that is not set must not mean something else."""
    assert option.name is not None
    if value == "" and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty; leave the option out, or give it a value", context, option)
    return value


def _set_variable(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """What connects looks for its keys in the environment: a flag is another way to set it."""
    if value is not None and given(context, option, value):
        assert isinstance(option.envvar, str)
        os.environ[option.envvar] = value


_where_option: Callable[[F], F] = click.option(
    "--master",
    envvar="OFFERD_MASTER",
    default="",
    show_default="the current one of `offerd cluster`",
    show_envvar=True,
    metavar="WHERE",
    callback=given,
    help="A name of `offerd cluster`, the master as HOST:PORT, or the ZooKeeper that knows it: zk://HOST:PORT,.../path.",
)
_key_option: Callable[[F], F] = click.option(
    "--key",
    envvar="OFFERD_KEY",
    show_envvar=True,
    expose_value=False,
    callback=_set_variable,
    metavar="FILE",
    help="Our secret key.  [default: that of `offerd cluster`]",
)
_master_key_option: Callable[[F], F] = click.option(
    "--master-key",
    envvar="OFFERD_MASTER_KEY",
    show_envvar=True,
    expose_value=False,
    callback=_set_variable,
    metavar="KEY",
    help="The master's public key, or the file of it.  [default: the same]",
)


def master_option(command: F) -> F:
    """Where the master is, and with which keys it is spoken to."""
    return _where_option(_key_option(_master_key_option(command)))


role_option: Callable[[F], F] = click.option(
    "--role",
    envvar="OFFERD_ROLE",
    default="*",
    show_default=True,
    show_envvar=True,
    callback=given,
    help="Whose share it counts against; one that the key allows.",
)
json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout, for programs."
)
cwd_option: Callable[[F], F] = click.option(
    "-C",
    "--cwd",
    default="",
    metavar="DIR",
    callback=given,
    help="Run in this directory of the slave's host (relative: to here).  [default: an empty one]",
)
