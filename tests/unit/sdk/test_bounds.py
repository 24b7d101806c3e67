"""Every number, text and list of every message has a bound, and a message beyond it is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from helpers import wire
from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd.values import bounds
from offerd.values.bounds import MAX_AMOUNT, MAX_COUNT, MAX_SECONDS
from offerd.wire import codec

TYPES = {name: inspect.type_info(kind) for name, kind in wire.structs().items()}
CODECS = [
    codec.Codec[Any](union)
    for union in (
        codec.ToMaster,
        codec.ToScheduler,
        codec.ToSlave,
        codec.FromExecutor,
        codec.ToExecutor,
        codec.ToOperator,
    )
]


def unbounded(kind: Any, where: str) -> Iterator[str]:
    """The places in a type that have no bound."""
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        if kind.ge is None or kind.le is None:
            yield where
    elif isinstance(kind, inspect.StrType | inspect.BytesType):
        if kind.max_length is None:
            yield where
    elif isinstance(kind, inspect.ListType | inspect.CollectionType):
        if kind.max_length is None:
            yield where
        yield from unbounded(kind.item_type, f"{where}[]")
    elif isinstance(kind, inspect.DictType):
        if kind.max_length is None:
            yield where
        yield from unbounded(kind.key_type, f"{where} (key)")
        yield from unbounded(kind.value_type, f"{where}[]")
    elif isinstance(kind, inspect.TupleType):
        for number, item in enumerate(kind.item_types):
            yield from unbounded(item, f"{where}[{number}]")
    elif isinstance(kind, inspect.UnionType):
        for choice in kind.types:
            yield from unbounded(choice, where)
    elif isinstance(kind, inspect.StructType):
        if kind.cls.__name__ not in TYPES:
            yield f"{where}: a {kind.cls.__name__}, which this test does not look at"
    elif not isinstance(kind, inspect.BoolType | inspect.NoneType | inspect.EnumType):
        yield f"{where}: a {type(kind).__name__}, of which this test does not know what bounds it"


@pytest.mark.parametrize("name", TYPES)
def test_every_field_of_every_message_has_a_bound(name: str) -> None:
    kind = TYPES[name]
    assert isinstance(kind, inspect.StructType)
    assert [found for field in kind.fields for found in unbounded(field.type, f"{name}.{field.name}")] == []


def test_the_epoch_of_a_frame_has_a_bound() -> None:
    for reader in CODECS:
        for epoch in (-1, 1 << 63):
            with pytest.raises(BadMessage):
                reader.decode(msgspec.msgpack.encode([epoch, []]))


class Loose(msgspec.Struct):
    number: int
    part: float | None
    names: dict[str, list[bytes]]
    anything: Any


def test_the_check_sees_what_has_no_bound() -> None:
    kind = inspect.type_info(Loose)
    assert isinstance(kind, inspect.StructType)
    found = [text for field in kind.fields for text in unbounded(field.type, field.name)]
    assert found[:6] == ["number", "part", "names", "names (key)", "names[]", "names[][]"]
    assert len(found) == 7


def is_refused(message: m.Message) -> bool:
    reader = next(reader for reader in CODECS if type(message) in reader.types)
    try:
        reader.decode(codec.encode_message([0, [message]]))
    except BadMessage:
        return True
    return False


F, S, T, E = FrameworkID("f"), SlaveID("s"), TaskID("t"), ExecutorID("e")


@pytest.mark.parametrize(
    ("at_the_bound", "beyond"),
    [
        (m.UpdatesStored(MAX_COUNT), m.UpdatesStored(MAX_COUNT + 1)),
        (m.UpdatesStored(0), m.UpdatesStored(-1)),
        (m.SlaveUsage(MAX_AMOUNT, MAX_AMOUNT), m.SlaveUsage(0, MAX_AMOUNT + 1)),
        (m.KillTask(F, T, S, MAX_SECONDS), m.KillTask(F, T, S, MAX_SECONDS * 2)),
        (m.RevocationNotice([], 0.0), m.RevocationNotice([], -0.001)),
        (m.KillTask(F, T, S, None), m.KillTask(F, T, S, math.nan)),
        (m.KillTask(F, T, S, 1), m.KillTask(F, T, S, math.inf)),
        (m.NotLeading("x" * 1024), m.NotLeading("x" * 1025)),
        (m.SlaveLost(SlaveID("ü" * bounds.MAX_ID)), m.SlaveLost(SlaveID("x" * (bounds.MAX_ID + 1)))),
        (m.ReconcileTasks([T] * 4096), m.ReconcileTasks([T] * 4097)),
        (
            m.GuaranteedShare(Resources({f"r{number}": 1 for number in range(64)})),
            m.GuaranteedShare(Resources({f"r{number}": 1 for number in range(65)})),
        ),
        (
            m.GuaranteedShare(Resources({}, {"ports": [(2 * n, 2 * n) for n in range(4096)]})),
            m.GuaranteedShare(Resources({}, {"ports": [(2 * n, 2 * n) for n in range(4097)]})),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_value_at_its_bound_is_read_and_one_beyond_is_refused(
    at_the_bound: m.Message, beyond: m.Message
) -> None:
    assert not is_refused(at_the_bound)
    assert is_refused(beyond)


def test_amounts_at_their_bound_add_up_and_their_sum_can_be_sent() -> None:
    most = Resources({"cpus": MAX_AMOUNT}, {"ports": [(0, MAX_AMOUNT)]})
    assert (most + most).scalars == {"cpus": MAX_AMOUNT}
    assert not is_refused(m.GuaranteedShare(most + most))


@pytest.mark.parametrize(
    ("name", "largest"), [("to_master", codec.MAX_MESSAGE_BYTES), ("from_executor", codec.MAX_EXECUTOR_BYTES)]
)
def test_a_message_that_could_not_be_forwarded_is_refused(name: str, largest: int) -> None:
    reader: codec.Codec[Any] = getattr(codec, name)
    empty = len(codec.encode_message(m.FrameworkMessage(F, S, E, b"\0" * (1 << 16))))

    def sized(size: int) -> bytes:
        message = m.FrameworkMessage(F, S, E, b"\0" * (size - empty + (1 << 16)))
        (frame,) = codec.frames([message])
        return frame

    assert len(reader.decode(sized(largest))[1]) == 1
    with pytest.raises(BadMessage, match="could not be passed on"):
        reader.decode(sized(largest + 100))
