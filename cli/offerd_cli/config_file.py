"""A daemon's TOML file: its options by name. An option on the command line takes precedence over the file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from offerd.credentials.trusted_files import read_trusted
from offerd.errors import BadInput

NOT_IN_A_FILE = {"activate", "config", "deadline", "die_with_parent", "drain", "help", "kill"}


def read_config(path: Path) -> dict[str, Any]:
    """Read the file. Raises `BadInput` if it cannot be read, or if others may write it."""
    try:
        return tomllib.loads(read_trusted(path, "the file").decode())
    except OSError as error:
        raise BadInput(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, BadInput) as error:
        raise BadInput(f"--config {path}: {error}") from None


def use_as_defaults(context: click.Context, path: Path, entries: Mapping[str, Any], also: str = "") -> None:
    """Make the file's entries the defaults of the options; to be called by an eager option's callback. `also`: what else the
    file may hold, for the error text. Raises `BadInput` on other entries.
    """
    known = {p.name for p in context.command.params if p.name} - NOT_IN_A_FILE
    defaults = {name.replace("-", "_"): value for name, value in entries.items()}
    if unknown := sorted(defaults.keys() - known):
        flags = ", ".join([*sorted(known), *([also] if also else [])])
        raise BadInput(f"--config {path}: there is no {unknown[0]!r}; known: {flags}")
    context.default_map = {**(context.default_map or {}), **defaults}


def take_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Callback of a `--config` whose file holds options only; it must be eager."""
    if path is not None:
        use_as_defaults(context, path, read_config(path))
    return path


def quoted(value: str | int | bool) -> str:
    """The value in TOML's syntax. Raises `BadInput` on text with control characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not value.isprintable():
        raise BadInput(f"{value!r} cannot be written to a file: it has control characters")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def config_text(comment: str, entries: Mapping[str, str | int | bool]) -> str:
    """The text of a file of options."""
    lines = [f"# {comment}", *(f"{name} = {quoted(value)}" for name, value in entries.items())]
    return "\n".join(lines) + "\n"
