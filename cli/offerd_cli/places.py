"""The placeholders in a command of `offerd map`, named as in GNU parallel:

`{}` is the argument, `{.}` without its extension, `{/}` without its directories, `{//}` its directory, `{/.}` its name without
extension, and `{#}` the number of the run, from 1. A number (`{2}`, `{-1.}`) selects one source, counted from the last if it is
negative. Without one it means all sources: as several words if the placeholder is a whole word, otherwise separated by blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from offerd.errors import BadInput

SEQUENCE = "#"
_PLACE = re.compile(r"\{(?:(#)|(-?[0-9]+)?(//|/\.|/|\.)?)\}")
_SLOT = re.compile(r"\{%\}")
_PERL = re.compile(r"\{-?[0-9]*=.*=\}", re.DOTALL)
_ENDING = re.compile(r"\.[^/.]*\Z")


class Place(NamedTuple):
    """`source`: which one, from 0; None: all of them. `form`: what follows the number."""

    source: int | None
    form: str


Part = str | Place


class Template:
    """A command with placeholders. Without any, arguments are appended. Raises `BadInput` for one that nothing can replace."""

    def __init__(self, words: Sequence[str], sources: int) -> None:
        self._words = [_parts(word, sources) for word in words]
        has_places = any(isinstance(part, Place) for word in self._words for part in word)
        self._alone = None if has_places else list(words)

    def fill(self, argument: Sequence[str], number: int) -> list[str]:
        """The command for the `number`th argument."""
        if self._alone is not None:
            return [*self._alone, *argument]
        filled: list[str] = []
        for parts in self._words:
            match parts:
                case [str(word)]:
                    filled.append(word)
                case [Place(None, form)] if form != SEQUENCE:
                    filled += map(_FORMS[form], argument)
                case _:
                    filled.append("".join(_text(part, argument, number) for part in parts))
        return filled


def _parts(word: str, sources: int) -> list[Part]:
    if _SLOT.search(word):
        raise BadInput(
            "a cluster has no job slots, so {%} has no meaning; use {#}, the number of the argument"
        )
    if _PERL.search(word):
        raise BadInput(
            "{= =} is Perl code, which is not supported; let the command do it, for example with sh -c"
        )
    parts: list[Part] = []
    at = 0
    for found in _PLACE.finditer(word):
        place = _place(found, sources)
        if place is not None:
            parts += [word[at : found.start()], place]
            at = found.end()
    parts.append(word[at:])
    return [part for part in parts if part != ""] or [""]


def _place(found: re.Match[str], sources: int) -> Place | None:
    """None: it is plain text, as in a pattern such as `x{3}`, if one source alone makes it unlikely that a third is meant. At
    the start of a word it repeats nothing, and with a form (`{3.}`) it is no repetition.
    """
    sequence, number, form = found.groups()
    if sequence:
        return Place(None, SEQUENCE)
    if number is None:
        return Place(None, form or "")
    source = int(number) - 1 if int(number) > 0 else sources + int(number)
    if 0 <= source < sources and int(number):
        return Place(source, form or "")
    if sources == 1 and (not int(number) or (found.start() and not form)):
        return None
    there = "there is only one" if sources == 1 else f"there are {sources}"
    raise BadInput(
        f"{found[0]} stands for the argument of a source that is missing: {there}; add one with :::"
    )


def _text(part: Part, argument: Sequence[str], number: int) -> str:
    if isinstance(part, str):
        return part
    if part.form == SEQUENCE:
        return str(number)
    if part.source is not None:
        return _FORMS[part.form](argument[part.source])
    return " ".join(map(_FORMS[part.form], argument))


def _whole(path: str) -> str:
    return path


def _without_ending(path: str) -> str:
    return _ENDING.sub("", path)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _directory(path: str) -> str:
    """As dirname(1)."""
    trimmed = path.rstrip("/")
    if not trimmed:
        return "/" if path else "."
    head, slash, _ = trimmed.rpartition("/")
    return (head.rstrip("/") or "/") if slash else "."


def _name_without_ending(path: str) -> str:
    return _without_ending(_name(path))


_FORMS: dict[str, Callable[[str], str]] = {
    "": _whole,
    ".": _without_ending,
    "/": _name,
    "//": _directory,
    "/.": _name_without_ending,
}
