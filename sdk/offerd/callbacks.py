"""Mistakes in the classes of framework authors, told when a driver is made: a method that is never called looks right."""

from __future__ import annotations

import inspect
import os
import types
from difflib import get_close_matches

from offerd.errors import WrongType
from offerd.screen_text import printable

_ALIKE = 0.88
"""How alike two names are from which one is taken for the other, misspelt (difflib's ratio)."""


_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def authors_lines(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """The part of a traceback that begins in the author's file; all of it where there is none."""
    found = traceback
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OURS):
        found = found.tb_next
    return traceback if found is None else found


def check_callbacks(author: object, base: type, *, may_be_coroutines: bool = False) -> None:
    """Raises `WrongType` where `author` is no `base`, has a method called almost as a callback is, one that cannot take what
    it is called with, or (unless `may_be_coroutines`) one whose body would never run, as nobody awaits it.
    """
    kind = type(author)
    if isinstance(author, type) and issubclass(author, base):
        raise WrongType(
            f"{printable(author.__name__)} is a class: give the driver one of it, {author.__name__}()"
        )
    if not isinstance(author, base):
        raise WrongType(
            f"{printable(kind.__name__)} is no offerd.{base.__name__}: make it a subclass of that"
        )
    callbacks = {name: method for name, method in vars(base).items() if inspect.isfunction(method)}
    by_spelling = {_plain(name): name for name in callbacks}
    for name, _ in inspect.getmembers(kind, inspect.isroutine):
        if name.startswith("_") or not _is_the_authors(kind, base, name):
            continue
        if name in callbacks:
            _check_callback(kind, name, getattr(author, name), callbacks[name], may_be_coroutines)
        elif close := get_close_matches(_plain(name), by_spelling, 1, _ALIKE):
            raise WrongType(
                f"{kind.__name__}.{printable(name)} is called by nobody: the callback is {by_spelling[close[0]]} "
                f"(what is not meant as one may be called _{printable(name)})"
            )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _is_the_authors(kind: type, base: type, name: str) -> bool:
    """Whether the method is of a class of the author's, and not one that `base` has from elsewhere."""
    owner = next(each for each in kind.__mro__ if name in vars(each))
    return owner not in base.__mro__


def _check_callback(kind: type, name: str, method: object, original: object, may_be_coroutines: bool) -> None:
    where = f"{kind.__name__}.{name}"
    if not callable(method) or not callable(original):
        return
    is_coroutine = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    if is_coroutine and not may_be_coroutines:
        raise WrongType(
            f"{where} is async: nobody awaits it; take offerd.AsyncSchedulerDriver, or leave async out"
        )
    if inspect.isgeneratorfunction(method):
        raise WrongType(f"{where} has a yield: it would never run; leave that out")
    wanted = list(inspect.signature(original).parameters)[1:]
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return  # of one written in C nobody knows
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise WrongType(f"{where} is called as {name}({', '.join(wanted)}): {error}") from None
