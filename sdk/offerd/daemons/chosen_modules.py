"""Loads modules that an option names: offerd's own, and those that other packages install under a group of entry points."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from offerd.errors import BadInput


def load(group: str, own: Mapping[str, str], name: str, what: str) -> Any:
    """The object called `name`: one of `own` (from name to `MODULE:OBJECT`), or the entry point of that name in the group.

    Raises `LookupError` if there is neither; `BadInput`, which calls it a `what`, for an entry point that cannot be imported.
    """
    if name in own:
        module, _, attribute = own[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    # Imported late: it takes 2 MB of memory, which a daemon with a module of offerd's own does not need.
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise BadInput(f"{what} {name!r} cannot be loaded: {type(error).__name__}: {error}") from None
    raise LookupError(name)


def names(group: str, own: Mapping[str, str]) -> list[str]:
    """Every name that `load` finds, sorted."""
    from importlib.metadata import entry_points

    return sorted({*own, *(point.name for point in entry_points(group=group))})
