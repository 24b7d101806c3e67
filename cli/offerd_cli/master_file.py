"""The master's TOML file: every option of `offerd master` by name, and an `[allocation]` table.

An option on the command line takes precedence over the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_cli.config_file import read_config, use_as_defaults
from offerd_cli.units import parse_pairs
from offerd_master.allocation.policy import NO_TERMS, Policy, parse_policy

TABLE = "allocation"


@dataclass(frozen=True, slots=True)
class MasterFile:
    """The path of the file, if there is one, and its `[allocation]` table."""

    path: Path | None = None
    table: Mapping[str, Any] = field(default_factory=dict)

    def read_again(self) -> MasterFile:
        """The file with its present table. Raises `BadInput`."""
        return self if self.path is None else MasterFile(self.path, _read(self.path)[1])


def take_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> MasterFile:
    """Callback of `--config`, which must be eager: the file's entries become the defaults of the options.

    Raises `BadInput` if the file cannot be read, or has an entry that is not an option.
    """
    if path is None:
        return MasterFile()
    entries, table = _read(path)
    module = table.get("module")
    if isinstance(module, str):
        entries.setdefault("allocator", module)
    elif module is not None:
        raise BadInput(f'--config {path}: [allocation]: write the module as text, for example module = "drf"')
    use_as_defaults(context, path, entries, "[allocation]")
    return MasterFile(path, table)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    entries = read_config(path)
    table = entries.pop(TABLE, {})
    if not isinstance(table, dict):
        raise BadInput(f"--config {path}: write {TABLE} as a table: [allocation]")
    return entries, table


def policy(
    table: Mapping[str, Any],
    weights: str,
    priorities: str,
    guarantees: Iterable[str],
    limits: Iterable[str],
) -> Policy:
    """The file's table, overridden by options for roles. Raises `BadInput`."""
    base = parse_policy(table)
    roles = dict(base.roles)

    def change(role: str, **terms: Any) -> None:
        roles[role] = replace(roles.get(role, NO_TERMS), **terms)

    for role, text in parse_pairs([weights] if weights else [], "--weights", commas=True).items():
        change(role, weight=_number("--weights", role, text, float))
    for role, text in parse_pairs([priorities] if priorities else [], "--priorities", commas=True).items():
        change(role, priority=_number("--priorities", role, text, int))
    for role, text in parse_pairs(guarantees, "--guarantee", once=True).items():
        change(role, guarantee=Resources.parse(text))
    for role, text in parse_pairs(limits, "--limit", once=True).items():
        change(role, limit=Resources.parse(text))
    return Policy(roles, base.frameworks, base.options)


def _number(flag: str, role: str, text: str, kind: type[float] | type[int]) -> float | int:
    try:
        return kind(text)
    except ValueError:
        what = "number" if kind is float else "whole number"
        raise BadInput(f"{flag} {role}={text}: {text!r} is not a {what}") from None
