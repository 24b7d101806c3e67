"""Messages that a hostile peer would send: with numbers, texts and counts at their extremes, or of a wrong shape.

All of them are made from a string of bytes, so that Hypothesis, atheris and a seed drive the same generator: a failure is
repeated by its bytes. They are built as plain lists and packed with `msgpack`, as the protocol's own structs might refuse
such values.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack
from msgspec import inspect

from offerd.resources import MAX_QUANTITY, Resources
from offerd.wire import codec

T = TypeVar("T")

INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    100,
    1000,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    1 << 40,
    (1 << 53) - 1,
    1 << 53,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    -(1 << 31),
    -(1 << 53),
    -(1 << 63),
)
FLOATS = (0.0, 0.5, 1.0, 60.0, 1e-9, -1.0, 1e9, 1e18, 1e300, -1e300, math.inf, -math.inf, math.nan)
TEXTS = (
    "",
    "a",
    "command",
    "*",
    "..",
    "../../etc/passwd",
    "/",
    "a/b",
    "\0",
    "\n2026-01-01 00:00:00,000 INFO all is well",
    "\x1b[2J",
    "\x1b]52;c;aGVsbG8=\x07",
    "\u202egnp",
    "\ud7ff",
    "é" * 64,
    "x" * 128,
    "x" * 129,
    "x" * 257,
    "x" * 5000,
    "x" * 70_000,
    "²",
    "9" * 5000,
    "nan",
    "root",
    "@",
    "x@ops",
    "{}",
    "%s%n",
    "tcp://127.0.0.1:1",
)
COUNTS = (0, 1, 1, 2, 3, 17, 300)
MAX_DEPTH = 6
MANY = 20_000
"""How many members a too long list or map has."""
TOO_MANY = {f"name{number}": 1 for number in range(MANY)}

RESOURCES: tuple[list[Any], ...] = (
    [{}, {}, {}],
    [{"cpus": 100, "mem": 1 << 24}, {}, {}],
    [{"cpus": MAX_QUANTITY}, {}, {}],
    [{"cpus": MAX_QUANTITY, "mem": MAX_QUANTITY, "disk": MAX_QUANTITY}, {}, {}],
    [{"cpus": 1}, {"ports": [[1, MAX_QUANTITY]]}, {}],
    [{"x\x1b[2J": 1}, {}, {"disks": ["a", "b"]}],
    [{f"n{number}": 1 for number in range(30)}, {}, {}],
)
"""Amounts that can be decoded."""


class Choices:
    """Decisions read from bytes. When the bytes are used up, each further decision is the first choice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, number: int) -> int:
        """0 to number - 1."""
        if number <= 1:
            return 0
        width = 1 if number <= 256 else 4
        piece = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(piece, "little") % number

    def one_of(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def once_in(self, number: int) -> bool:
        return self.below(number) == 1

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)


class Hostile:
    """Makes messages of these codecs. `known` are texts that mean something to the receiver: its ids, names, tokens.

    `well_formed`: every frame can be decoded, and the extremes are those that the protocol allows. A receiver drops a peer with
    its first frame of a wrong shape, so only such peers get deep.
    """

    def __init__(
        self,
        spoken: codec.Codec[Any],
        known: Mapping[str, Sequence[str]] | None = None,
        *,
        well_formed: bool = False,
    ) -> None:
        self._kinds = [inspect.type_info(kind) for kind in spoken.types]
        self.known = dict(known or {})
        self.well_formed = well_formed

    def message(self, choices: Choices) -> list[Any]:
        """One message as it lies in a frame: `[name, field, ...]`."""
        kind = choices.one_of(self._kinds)
        assert isinstance(kind, inspect.StructType)
        return self._struct(choices, kind, 0)

    def frame(self, choices: Choices) -> bytes:
        """A frame of some messages; sometimes of a wrong shape, with a byte flipped, cut, or with something behind it."""
        messages: list[Any] = [self.message(choices) for _ in range(1 + choices.below(3))]
        if self.well_formed:
            return bytes(msgpack.packb([0, messages], unicode_errors="surrogatepass"))
        if choices.once_in(40) and len(msgpack.packb(messages, unicode_errors="surrogatepass")) < 200:
            messages *= 3000
        whole: Any = [choices.one_of(INTEGERS) if choices.once_in(8) else 0, messages]
        if choices.once_in(30):
            whole = choices.one_of(
                (7, None, [], [0], [0, 0], {}, "text", [0, [[]]], [0, [["NoSuch", 1]]], [[], []])
            )
        packed: bytes = msgpack.packb(whole, unicode_errors="surrogatepass")
        return self._spoilt(choices, packed)

    def _spoilt(self, choices: Choices, packed: bytes) -> bytes:
        match choices.below(24):
            case 1:
                return packed[: choices.below(len(packed))]
            case 2:
                flipped = bytearray(packed)
                flipped[choices.below(len(flipped))] ^= 1 << choices.below(8)
                return bytes(flipped)
            case 3:
                return packed + b"\xc1"
            case 4:
                return b"\x92\x00\xdd\xff\xff\xff\xff"
            case 5:
                return b"\x92\x00" + b"\x91" * 100_000
        return packed[: codec.MAX_FRAME_BYTES]

    # -- values ---------------------------------------------------------------------------------------------------------

    def _struct(self, choices: Choices, kind: inspect.StructType, depth: int) -> list[Any]:
        if self.well_formed and kind.cls is Resources:
            return choices.one_of(RESOURCES)
        fields = [self._value(choices, field.type, depth + 1, field.name) for field in kind.fields]
        if self.well_formed:
            return [*([kind.tag] if kind.tag is not None else []), *fields]
        # Older peers omit the last fields, newer ones add some.
        cut = len(fields) - choices.below(len(fields) + 1) if choices.once_in(4) else len(fields)
        more = [choices.one_of(INTEGERS)] if choices.once_in(16) else []
        return [*([kind.tag] if kind.tag is not None else []), *fields[:cut], *more]

    def _value(self, choices: Choices, kind: inspect.Type, depth: int, name: str) -> Any:
        if not self.well_formed and choices.once_in(50):
            return choices.one_of((None, -1, "", [], {}, b"", 1.5, True, [[]], math.nan))
        maker = self._MAKERS.get(type(kind))
        return maker(self, choices, kind, depth, name) if maker is not None else None

    def _inner_struct(self, choices: Choices, kind: Any, depth: int, name: str) -> list[Any]:
        return self._struct(choices, kind, depth)

    def _text(self, choices: Choices, kind: Any, depth: int, name: str) -> str:
        known = self.known.get(name)
        if known and not choices.once_in(4):
            return choices.one_of(known)
        text = choices.one_of(TEXTS)
        limit = getattr(kind, "max_length", None)
        return text[:limit] if self.well_formed and limit is not None else text

    def _integer(self, choices: Choices, kind: Any, depth: int, name: str) -> int:
        return choices.one_of(
            INTEGERS if not self.well_formed else _within(INTEGERS, kind, -(1 << 63), (1 << 64) - 1)
        )

    def _float(self, choices: Choices, kind: Any, depth: int, name: str) -> float:
        return choices.one_of(FLOATS if not self.well_formed else _within(FLOATS, kind, -math.inf, math.inf))

    def _bytes(self, choices: Choices, kind: Any, depth: int, name: str) -> bytes:
        return b"\0" * choices.one_of((0, 1, 64, 5000, 200_000)) if choices.once_in(3) else b"x"

    def _list(self, choices: Choices, kind: Any, depth: int, name: str) -> list[Any]:
        if depth > MAX_DEPTH:
            return []
        inner = getattr(kind, "item_type", None)
        if inner is None:
            return []
        if not self.well_formed and choices.once_in(120) and not isinstance(_bare(inner), inspect.StructType):
            member = self._value(choices, inner, depth + 1, name)
            # Slightly too many, or too large for a frame: more would only take memory of the test.
            size = len(msgpack.packb(member, unicode_errors="surrogatepass"))
            return [member] * min(MANY, 2 * codec.MAX_FRAME_BYTES // size + 1)
        return [self._value(choices, inner, depth + 1, name) for _ in range(choices.one_of(COUNTS[:6]))]

    def _tuple(self, choices: Choices, kind: Any, depth: int, name: str) -> list[Any]:
        return [self._value(choices, inner, depth + 1, name) for inner in kind.item_types]

    def _dict(self, choices: Choices, kind: Any, depth: int, name: str) -> dict[Any, Any]:
        if depth > MAX_DEPTH:
            return {}
        if not self.well_formed and choices.once_in(120):
            return TOO_MANY
        names = ("cpus", "mem", "ports", "disk", "gpus", *TEXTS)
        return {
            choices.one_of(names): self._value(choices, kind.value_type, depth + 1, name)
            for _ in range(choices.one_of(COUNTS[:5]))
        }

    def _enum(self, choices: Choices, kind: Any, depth: int, name: str) -> Any:
        values = [member.value for member in kind.cls]
        return "NOT_ONE" if not self.well_formed and choices.once_in(20) else choices.one_of(values)

    def _union(self, choices: Choices, kind: Any, depth: int, name: str) -> Any:
        return self._value(choices, choices.one_of(kind.types), depth, name)

    def _inside(self, choices: Choices, kind: Any, depth: int, name: str) -> Any:
        return self._value(choices, kind.type, depth, name)

    def _none(self, choices: Choices, kind: Any, depth: int, name: str) -> None:
        return None

    def _bool(self, choices: Choices, kind: Any, depth: int, name: str) -> bool:
        return choices.below(2) == 1

    _MAKERS: Mapping[type, Callable[..., Any]] = {
        inspect.StructType: _inner_struct,
        inspect.StrType: _text,
        inspect.IntType: _integer,
        inspect.FloatType: _float,
        inspect.BytesType: _bytes,
        inspect.ListType: _list,
        inspect.VarTupleType: _list,
        inspect.TupleType: _tuple,
        inspect.DictType: _dict,
        inspect.EnumType: _enum,
        inspect.UnionType: _union,
        inspect.Metadata: _inside,
        inspect.NoneType: _none,
        inspect.BoolType: _bool,
    }


def _within(values: Sequence[T], kind: Any, least: float, most: float) -> Sequence[T]:
    """The values that this type allows, and its bounds."""
    low = next((bound for bound in (kind.ge, kind.gt) if bound is not None), least)
    high = next((bound for bound in (kind.le, kind.lt) if bound is not None), most)
    within: list[Any] = [value for value in values if low <= value <= high]  # type: ignore[operator]
    if kind.gt is None and kind.ge is not None:
        within.append(kind.ge)
    if kind.lt is None and kind.le is not None:
        within += [kind.le, kind.le]
    return within


def _bare(kind: Any) -> Any:
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def seeded(seed: int, size: int = 400) -> Choices:
    """Decisions made from a seed."""
    return Choices(random.Random(seed).randbytes(size))


# -- HTTP --------------------------------------------------------------------------------------------------------------

METHODS = (
    b"GET",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"POST",
    b"OPTIONS",
    b"CONNECT",
    b"get",
    b"\0",
    b"G" * 5000,
    b"PRI",
)
PATHS = (
    b"/",
    b"/containers/",
    b"/containers/x/",
    b"/data/",
    b"/data/a/b",
    b"/data/job-1/code",
    b"/statistics",
    b"/metrics",
    b"/..%2f..%2fetc/passwd",
    b"/containers/../../etc/passwd",
    b"/data/%00",
    b"//[",
    b"/data/" + b"a" * 300,
    b"/" + b"x" * 70_000,
    b"http://[::1]:1/",
    b"*",
    b"",
    b"/data/a/b?offset=-1&length=99999999999999999999",
    b"/containers/%ff%fe/",
    b"/statistics?" + b"a&" * 5000,
)
HEADERS = (
    b"Host: localhost",
    b"Host: evil.example",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Range: bytes=-",
    b"Range: bytes=5-1",
    b"Range: bytes=0-99999999999999999999",
    b"Expect: 100-continue",
    b"Connection: keep-alive",
    b"Authorization: Bearer x",
    b"Authorization: " + b"y" * 9000,
    b"X: " + b"z" * 65_000,
    b" folded: yes",
    b"no colon",
    b"\xff: \xff",
    b"Authorization: Offerd \x00\r\n\x1b[2J",
    b"Cookie: a=b",
)
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/99999999999.1", b"", b"ICY")


def http_request(choices: Choices) -> bytes:
    """One request, mostly malformed."""
    line = b" ".join((choices.one_of(METHODS), choices.one_of(PATHS), choices.one_of(VERSIONS)))
    headers = [choices.one_of(HEADERS) for _ in range(choices.one_of((1, 2, 3, 120)))]
    ending = choices.one_of((b"\r\n", b"\r\n", b"\n", b"\r"))
    request = ending.join([line, *headers, b"", b"hello"])
    if choices.once_in(8):
        request = request[: choices.below(len(request))]
    if request and choices.once_in(8):
        flipped = bytearray(request)
        flipped[choices.below(len(flipped))] ^= 1 << choices.below(8)
        request = bytes(flipped)
    return request


# -- Before the handshake -----------------------------------------------------------------------------------------------

GREETING = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00"


def handshake(choices: Choices) -> bytes:
    """Bytes that a hostile peer sends to a ZeroMQ port before the handshake: greetings and commands, whole, cut and damaged."""
    mechanism = choices.one_of((b"CURVE", b"NULL", b"PLAIN", b"GSSAPI", b"\xff" * 20, b""))
    greeting = (
        GREETING + mechanism.ljust(20, b"\0")[:20] + choices.one_of((b"\0", b"\1", b"\xff")) + b"\0" * 31
    )
    body = choices.one_of(
        (
            b"\x04\xc8\x05HELLO\x01\x00" + b"\0" * 72 + b"\1" * 32 + b"\0" * 8 + b"\2" * 80,
            b"\x04\x10\x05HELLO" + b"\0" * 10,
            b"\x04\x00",
            b"\x06" + b"\xff" * 8 + b"\x05HELLO",
            b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER",
            b"\x04\x20\x05READY\xffSocket-Type\xff\xff\xff\xff",
            b"\x04\x08\x08INITIATE"[:10] + b"\0" * 200,
            b"\x00\x05bytes",
            b"\x02" + (1 << 40).to_bytes(8, "big"),
            b"\x01\x05bytes" * 300,
            b"GET / HTTP/1.1\r\n\r\n",
        )
    )
    whole = choices.one_of((greeting + body, greeting + body * 3, body, greeting))
    if choices.once_in(4):
        whole = whole[: choices.below(len(whole))]
    if whole and choices.once_in(4):
        flipped = bytearray(whole)
        flipped[choices.below(len(flipped))] ^= 1 << choices.below(8)
        whole = bytes(flipped)
    return whole
