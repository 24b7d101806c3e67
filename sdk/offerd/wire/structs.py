"""The roots of all messages and of what they carry: frozen structs that travel as MessagePack arrays."""

from __future__ import annotations

import msgspec

from offerd.wire import field_types


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Root of what is carried inside messages."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Root of all messages; the tag on the wire is the class's name."""


class Description(Value, frozen=True):
    """Root of what framework authors write. Raises `WrongType` where a value is made that has another type than its field."""

    def __post_init__(self) -> None:
        field_types.check(self)
