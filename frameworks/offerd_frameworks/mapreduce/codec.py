"""Encodes keys and values of Python functions as text without TAB or line end, so that they come back exactly.

What comes back is equal and has the same type. JSON alone does not ensure that. Types that JSON distinguishes (null, booleans,
floats, whole numbers of 64 bits, strings) are written as JSON; all others as an array that begins with a tag. Other types, and
subclasses of these, are refused by name. Equal values of one type are written alike, except dicts, which keep their order: so
neither they nor sets can be keys.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import msgspec

LEAST_INT, MOST_INT = -(2**63), 2**63 - 1
"""A JSON decoder turns larger numbers into floats."""
KEYS = "None, bool, int, float, str, bytes, or tuples, lists or frozensets of them"
VALUES = "None, bool, int, float, str, bytes, or tuples, lists, dicts, sets or frozensets of them"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class NotCarried(TypeError):
    """A key or value has a type that would not come back as it was."""


def encode_value(value: Any) -> bytes:
    """Encode a value. Raises `NotCarried`."""
    kind = type(value)
    try:
        if kind in _AS_THEY_ARE or (kind is int and LEAST_INT <= value <= MOST_INT):
            return _encode(value)
        return _encode(_plain(value))
    except UnicodeEncodeError:  # lone surrogates
        return _encode(_plain(value))
    except RecursionError:
        raise NotCarried("a value is nested too deeply to go from map to reduce") from None


def encode_key(key: Any) -> bytes:
    """Encode a key. Raises `NotCarried`."""
    try:
        if type(key) is str:
            return _encode(key)
        return encode_value(_one_of_equals(key))
    except UnicodeEncodeError:
        return _encode(_plain(key))
    except RecursionError:
        raise NotCarried("a key is nested too deeply to go from map to reduce") from None


def carried(value: Any) -> Any:
    """The value that the other end would get; an immutable value itself. Raises `NotCarried`."""
    return value if type(value) in _UNCHANGING else decode(encode_value(value))


def decode(text: bytes) -> Any:
    """The value or key that was encoded."""
    found = _decode(text)
    return _original(found) if type(found) is list else found


def _one_of_equals(key: Any) -> Any:
    """The key, or the one that stands for all equal keys: -0.0 equals 0.0. Raises `NotCarried`."""
    kind = type(key)
    if kind is float:
        return key or 0.0
    if kind in (dict, set):
        raise NotCarried(f"a {kind.__name__} cannot be a key, or part of one; use {KEYS}")
    if kind in (tuple, list, frozenset):
        return kind(map(_one_of_equals, key))
    return key


# -- What JSON does not have --------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """The value with types that JSON distinguishes."""
    if (make := _MAKERS.get(type(value))) is None:
        kind = type(value)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        raise NotCarried(f"a {name} would not come from map to reduce as it is; yield {VALUES}")
    return make(value)


def _same(value: Any) -> Any:
    return value


def _int(value: int) -> Any:
    return value if LEAST_INT <= value <= MOST_INT else ["i", hex(value)]


def _float(value: float) -> Any:
    return value if math.isfinite(value) else ["f", repr(value)]


def _str(value: str) -> Any:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return ["s", base64.b85encode(value.encode("utf-32-le", "surrogatepass")).decode()]
    return value


def _bytes(value: bytes) -> Any:
    return ["b", base64.b85encode(value).decode()]


def _items(tag: str) -> Callable[[Any], Any]:
    return lambda value: [tag, *map(_plain, value)]


def _unordered(tag: str) -> Callable[[Any], Any]:
    return lambda value: [tag, *sorted(map(_plain, value), key=_encode)]


def _dict(value: dict[Any, Any]) -> Any:
    return ["d", *([_plain(key), _plain(each)] for key, each in value.items())]


_UNCHANGING = frozenset({str, int, float, bool, bytes, type(None)})
_AS_THEY_ARE = frozenset({str, bool, type(None)})
_MAKERS: dict[type, Callable[[Any], Any]] = {
    str: _str,
    int: _int,
    float: _float,
    bool: _same,
    type(None): _same,
    bytes: _bytes,
    tuple: _items("t"),
    list: _items("l"),
    dict: _dict,
    set: _unordered("e"),
    frozenset: _unordered("z"),
}
_READERS: dict[str, Callable[[list[Any]], Any]] = {
    "i": lambda rest: int(rest[0], 16),
    "f": lambda rest: float(rest[0]),
    "s": lambda rest: base64.b85decode(rest[0]).decode("utf-32-le", "surrogatepass"),
    "b": lambda rest: base64.b85decode(rest[0]),
    "t": lambda rest: tuple(map(_original, rest)),
    "l": lambda rest: list(map(_original, rest)),
    "d": lambda rest: {_original(key): _original(each) for key, each in rest},
    "e": lambda rest: set(map(_original, rest)),
    "z": lambda rest: frozenset(map(_original, rest)),
}


def _original(found: Any) -> Any:
    return _READERS[found[0]](found[1:]) if type(found) is list else found
