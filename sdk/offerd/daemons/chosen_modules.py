"""Loads modules that an option names: offerd's own, and those that other packages install under a group of entry points."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from offerd.errors import BadInput


class Kind(NamedTuple):
    """A kind of module. `what` it is called; `own`: offerd's own, from name to `MODULE:CLASS`; `group`: the entry points of
    others; `more`: names beside these that the option takes.
    """

    what: str
    group: str
    own: Mapping[str, str]
    more: tuple[str, ...] = ()


def load(kind: Kind, name: str, base: type) -> Any:
    """The class called `name`, a subclass of `base`. Raises `BadInput` in one line if there is none, or it cannot be used."""
    found = _find(kind, name)
    of = f"{base.__module__}.{base.__qualname__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise BadInput(f"{kind.what} {name!r} is not a subclass of {of}")
    if missing := ", ".join(sorted(getattr(found, "__abstractmethods__", ()))):
        raise BadInput(f"{kind.what} {name!r} lacks methods of {of}: {missing}")
    return found


def _find(kind: Kind, name: str) -> Any:
    if name in kind.own:
        module, _, attribute = kind.own[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    # Imported late: it takes 2 MB of memory, which a daemon with a module of offerd's own does not need.
    from importlib.metadata import entry_points

    for point in entry_points(group=kind.group, name=name):
        try:
            return point.load()
        except Exception as error:  # marked: code of another package may raise anything
            raise BadInput(
                f"{kind.what} {name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from None
    installed = {*kind.own, *(point.name for point in entry_points(group=kind.group))}
    there = ", ".join((*sorted(installed), *kind.more))
    raise BadInput(f"no {kind.what} is called {name!r}; there are: {there}")
