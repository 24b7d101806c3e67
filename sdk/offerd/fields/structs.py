"""The base classes of all messages and of their contents: frozen structs that are sent as MessagePack arrays."""

from __future__ import annotations

import msgspec

from offerd.fields import field_types


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base class of values inside messages."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Base class of all messages; the tag on the wire is the class's name."""


class Description(Value, frozen=True):
    """Base class of what framework authors write. Raises `WrongType` if a field gets a value of another type."""

    def __post_init__(self) -> None:
        field_types.check(self)
