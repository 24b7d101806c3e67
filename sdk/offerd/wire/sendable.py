"""Checks that a value of ours can be sent: what its reader would refuse is refused here, in an error for its author."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from offerd.errors import BadInput
from offerd.values.screen_text import printable
from offerd.wire.codec import encode_message

SHOWN = 64
"""Most characters of a text that an error repeats."""
_LENGTH = re.compile(r"Expected `(\w+)` of length <= (\d+)")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")


def check(value: msgspec.Struct) -> None:
    """Raises `BadInput` with one line that names the field."""
    try:
        msgspec.msgpack.decode(encode_message(value), type=type(value))
    except UnicodeEncodeError as error:
        where = next((field for field, text in _texts(value, "") if text == error.object), "a text")
        raise BadInput(f"{printable(error.object, SHOWN)} is not UTF-8, as {where} has to be") from None
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise BadInput(_fault(value, str(error))) from None


def _fault(value: msgspec.Struct, error: str) -> str:
    said, _, path = error.partition(" - at `$")
    where, found = _at(value, path)
    length = _LENGTH.match(said)
    if length is None:
        return f"{where or type(value).__name__}: {printable(said)}"
    kind, most = length[1], int(length[2])
    if kind == "str":
        text = next((text for _, text in _texts(found, where) if len(text) > most), "")
        return (
            f"{printable(text, SHOWN)} has {len(text)} characters, more than the {most} that {where} may have"
        )
    count = f"{len(found)} entries" if hasattr(found, "__len__") else "more entries"
    return f"{where} of {count} cannot be sent: the most is {most}"


def _at(value: Any, path: str) -> tuple[str, Any]:
    """The field at a path of msgspec's (`[3][0]`), by its names, and its value."""
    names: list[str] = []
    for step in _STEP.findall(path):
        if step == "...":  # any name or value of a table
            break
        index = int(step)
        if isinstance(value, msgspec.Struct):
            name = value.__struct_fields__[index - (value.__struct_config__.tag is not None)]
            names.append(name)
            value = getattr(value, name)
        else:
            value = value[index]
    return ".".join(names), value


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with its field."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _texts(getattr(value, name), f"{where}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(key, where)
            yield from _texts(each, where)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each, where)
