"""Finds mistakes in the classes of framework authors when a driver is made: a method that is never called looks right."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from offerd.errors import WrongType
from offerd.values.screen_text import printable

_ALIKE = 0.88
"""From this similarity on (difflib's ratio), a name is taken for a misspelt one."""


_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def authors_lines(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """The part of a traceback from the first line of the author's own file on; all of it if there is none."""
    found = traceback
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OURS):
        found = found.tb_next
    return traceback if found is None else found


def check_callbacks(author: object, base: type, *, may_be_coroutines: bool = False) -> None:
    """Raises `WrongType` if `author` is not a `base`, or has a method whose name is almost a callback's, whose parameters do
    not fit the callback, or (unless `may_be_coroutines`) whose body would never run because nobody awaits it.
    """
    kind = type(author)
    if isinstance(author, type) and issubclass(author, base):
        raise WrongType(
            f"{printable(author.__name__)} is a class: give the driver an instance, {author.__name__}()"
        )
    if not isinstance(author, base):
        raise WrongType(
            f"{printable(kind.__name__)} is not an offerd.{base.__name__}: make it a subclass of that"
        )
    callbacks = {name: method for name, method in vars(base).items() if inspect.isfunction(method)}
    by_spelling = {_plain(name): name for name in callbacks}
    for name in _authors_names(author, base):
        found = inspect.getattr_static(author, name)  # runs no property: the object may not be ready for that
        if isinstance(found, property):
            continue
        if name in callbacks:
            _check_callback(kind, name, getattr(author, name), callbacks[name], may_be_coroutines)
        elif inspect.isroutine(found) and (meant := _meant(name, by_spelling)):
            raise WrongType(
                f"{kind.__name__}.{printable(name)} is never called: the callback is {meant} "
                f"(a method that is not meant as a callback may be called _{printable(name)})"
            )


def _meant(name: str, by_spelling: dict[str, str]) -> str:
    """The callback that was probably meant by a name: it is misspelt, has its words the other way round (`update_status`), or
    has one word more in front (`on_error`). Empty if there is none.
    """
    if close := get_close_matches(_plain(name), by_spelling, 1, _ALIKE):
        return by_spelling[close[0]]
    first, _, rest = name.lower().partition("_")
    words = sorted(name.lower().split("_"))
    for callback in by_spelling.values():
        if words == sorted(callback.split("_")) or (first in ("on", "handle") and rest == callback):
            return callback
    return ""


def returned_nothing(author: object, name: str, result: object) -> None:
    """Raises `WrongType` if a callback has returned a coroutine (it is async behind a decorator, say): nobody awaits it."""
    if inspect.iscoroutine(result):
        result.close()
        raise WrongType(
            f"{type(author).__name__}.{name} returned a coroutine: nobody awaits it; use offerd.AsyncSchedulerDriver"
        )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _authors_names(author: object, base: type) -> list[str]:
    """The names that the author's classes and the object itself define, except those of `base`."""
    owners: list[Mapping[str, Any]] = [
        vars(each) for each in type(author).__mro__ if each not in base.__mro__
    ]
    owners.append(getattr(author, "__dict__", {}))
    return sorted({name for owner in owners for name in owner if not name.startswith("_")})


def _check_callback(kind: type, name: str, method: object, original: object, may_be_coroutines: bool) -> None:
    where = f"{kind.__name__}.{name}"
    if not callable(method):
        raise WrongType(
            f"{where} is {printable(repr(method), 80)}, which cannot be called: {name} is a callback"
        )
    if not callable(original):
        return
    is_coroutine = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    if is_coroutine and not may_be_coroutines:
        raise WrongType(
            f"{where} is async: nobody awaits it; use offerd.AsyncSchedulerDriver, or remove async"
        )
    if inspect.isgeneratorfunction(method):
        raise WrongType(f"{where} has a yield, so it would never run; remove that")
    wanted = list(inspect.signature(original).parameters)[1:]
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return  # written in C: its parameters are not known
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise WrongType(f"{where} is called as {name}({', '.join(wanted)}): {error}") from None
