"""The protocol: later versions read today's messages, and anything that is not a message is a `BadMessage`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import wire
from offerd.errors import BadMessage
from offerd.messages import (
    KillTask,
    Message,
    NotRegistered,
    Ping,
    RegisterFramework,
    StatusUpdate,
    TaskState,
    TaskStatus,
)
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.codec import Codec

STRUCTS = wire.structs()
RECORD = wire.recorded()
UNIONS = {
    name: Codec[Any](union)
    for name, union in {
        "to_master": codec.ToMaster,
        "to_scheduler": codec.ToScheduler,
        "to_slave": codec.ToSlave,
        "from_executor": codec.FromExecutor,
        "to_executor": codec.ToExecutor,
        "to_operator": codec.ToOperator,
    }.items()
}
MESSAGES = sorted(
    {kind for reader in UNIONS.values() for kind in reader.types}, key=lambda kind: kind.__name__
)


def readers_of(kind: type) -> list[Codec[Any]]:
    return [reader for reader in UNIONS.values() if kind in reader.types]


def frame(*messages: object, epoch: object = 0) -> bytes:
    return msgspec.msgpack.encode([epoch, list(messages)])


def decoded(reader: Codec[Any], data: bytes) -> Any:
    """The only message in the frame."""
    _, messages = reader.decode(data)
    assert len(messages) == 1
    return messages[0]


# -- compatibility ------------------------------------------------------------------------------------------------------


def test_the_record_knows_every_message_and_value() -> None:
    assert RECORD.keys() == STRUCTS.keys(), "run `python tests/helpers/wire.py`"


@pytest.mark.parametrize("name", STRUCTS)
def test_a_message_only_ever_grows_at_its_end(name: str) -> None:
    now = wire.describe(STRUCTS[name])
    assert wire.breaks(RECORD[name], now) == ""
    assert RECORD[name] == now, "new fields at the end: record them with `python tests/helpers/wire.py`"


@pytest.mark.parametrize("name", RECORD)
def test_recorded_bytes_are_read_as_the_sample_they_were_written_from(name: str) -> None:
    golden = bytes.fromhex(RECORD[name]["golden"])
    assert msgspec.msgpack.decode(golden, type=STRUCTS[name]) == wire.sample(STRUCTS[name])


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (["a", "b"], ["b", "a"], "moved"),
        (["a", "b"], ["a"], "removed"),
        (["a", "b"], ["a", "c"], "renamed"),
    ],
)
def test_the_check_sees_a_break(old: list[str], new: list[str], word: str) -> None:
    golden = msgspec.msgpack.encode(["X"]).hex()
    assert word in wire.breaks(
        {"fields": old, "required": 0, "golden": golden}, {"fields": new, "required": 0, "golden": golden}
    )


def test_the_check_sees_a_new_required_field_and_changed_bytes() -> None:
    old = {"fields": ["a"], "required": 1, "golden": msgspec.msgpack.encode(["X", 1]).hex()}
    grown = {"fields": ["a", "b"], "required": 2, "golden": msgspec.msgpack.encode(["X", 1, 2]).hex()}
    retyped = {"fields": ["a"], "required": 1, "golden": msgspec.msgpack.encode(["X", "1"]).hex()}
    assert "required" in wire.breaks(old, grown)
    assert "bytes" in wire.breaks(old, retyped)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_fields_of_a_newer_peer_are_ignored(kind: type[Message]) -> None:
    message = wire.sample(kind)
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(message)), 1, {"new": [2.5]}, None]
    for reader in readers_of(kind):
        assert decoded(reader, frame(longer)) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_fields_that_an_older_peer_lacks_take_their_defaults(kind: type[Message]) -> None:
    message = wire.sample(kind)
    required = sum(field.required for field in msgspec.structs.fields(kind))
    shorter = msgspec.msgpack.decode(msgspec.msgpack.encode(message))[: 1 + required]
    for reader in readers_of(kind):
        assert decoded(reader, frame(shorter)) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_with_a_required_field_missing_is_bad(kind: type[Message]) -> None:
    required = sum(field.required for field in msgspec.structs.fields(kind))
    if not required:
        return  # nothing of it can be missing
    shorter = msgspec.msgpack.decode(msgspec.msgpack.encode(wire.sample(kind)))[:required]
    for reader in readers_of(kind):
        with pytest.raises(BadMessage):
            reader.decode(frame(shorter))


def test_terminal_states_are_the_five_that_end_a_task() -> None:
    assert {state.value for state in TaskState if state.terminal} == {
        "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST"
    }  # fmt: skip
    assert {state.value for state in TaskState if not state.terminal} == {
        "TASK_STAGING", "TASK_RUNNING", "TASK_UNREACHABLE"
    }  # fmt: skip


# -- nonsense -----------------------------------------------------------------------------------------------------------

HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92",
        frame(["NoSuchMessage", 1]),
        frame(["StatusUpdate"]),
        frame([]),
        frame({}),
        frame("Ping"),
        frame(["RunTasks", {}, {}, []]),
        frame(["Ping"], epoch="now"),
        frame(["Ping"], epoch=1.5),
        frame(["Ping"], epoch=None),
        msgspec.msgpack.encode([0]),
        msgspec.msgpack.encode([0, [["Ping"]], "more"]),
        msgspec.msgpack.encode({"epoch": 0}),
        frame(["Ping"]) + b"\x00",
        frame(["Ping"])[:-1],
        frame(["StatusUpdate", "F", ["t", "TASK_ASLEEP"]]),
        frame(["StatusUpdate", "F", ["t", "TASK_RUNNING", HUGE + 0.5]]),
        frame(["StatusUpdate", "F", [7, "TASK_RUNNING"]]),
        frame(["RescindOffer", None]),
        frame(["ResourceOffers", [["o", "s", "h", [{"cpus": 1.5}]]]]),
        frame(["ResourceOffers", [["o", "s", "h", [{"cpus": 0}]]]]),
        frame(["ResourceOffers", [["o", "s", "h", [{"cpus": HUGE}]]]]),
        frame(["ResourceOffers", [["o", "s", "h", [{"cpus": float("nan")}]]]]),
        frame(["ResourceOffers", [["o", "s", "h", [{}, {"ports": [[9, 1]]}]]]]),
        b"\x92\x00\x91\x92\xacRescindOffer\xa2\xff\xfe",
        b"\x92\x00" + b"\x91" * 100_000,
        b"\x92\x00\x91\x92\xacRescindOffer" + b"\x91" * 500_000 + b"\x01",
        b"\x92\x00\xdd\xff\xff\xff\xff",
        b"\x92\x00\x91\x92\xacRescindOffer\xdb\xff\xff\xff\xff",
        b"\x92\xc7\x05\x01abcde\x90",
    ],
)
def test_nonsense_is_a_bad_message_with_one_line(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        UNIONS["to_scheduler"].decode(data)
    assert len(str(caught.value).splitlines()) == 1


def test_an_extra_field_nested_to_great_depth_does_no_harm() -> None:
    deep = b"\x92\x00\x91\x93\xacRescindOffer\xa1o" + b"\x91" * 500_000 + b"\x01"
    with pytest.raises(BadMessage):
        UNIONS["to_scheduler"].decode(deep)


def test_a_message_for_somebody_else_is_bad() -> None:
    for kind in MESSAGES:
        data = frame(wire.sample(kind))
        for name, reader in UNIONS.items():
            if kind in reader.types:
                assert decoded(reader, data) == wire.sample(kind), name
            else:
                with pytest.raises(BadMessage):
                    reader.decode(data)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), HUGE)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.sampled_from([kind.__name__ for kind in MESSAGES]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
GOOD = msgspec.msgpack.encode([3, [wire.sample(kind) for kind in UNIONS["to_master"].types]])
READER = UNIONS["to_master"]


def decodes_or_is_bad(data: bytes) -> None:
    """Any other error fails the test that calls this."""
    try:
        epoch, messages = READER.decode(data)
    except BadMessage:
        return
    assert isinstance(epoch, int)
    assert all(type(message) in READER.types for message in messages)


@given(st.binary(max_size=300))
def test_random_bytes_decode_or_are_bad(data: bytes) -> None:
    decodes_or_is_bad(data)


@given(ANYTHING)
def test_well_formed_but_wrong_frames_decode_or_are_bad(value: object) -> None:
    decodes_or_is_bad(msgspec.msgpack.encode(value))


@given(st.lists(ANYTHING, max_size=4))
def test_well_formed_but_wrong_messages_decode_or_are_bad(values: list[object]) -> None:
    decodes_or_is_bad(frame(*values))


@given(st.sampled_from(READER.types), st.data())
def test_a_message_with_one_field_replaced_decodes_or_is_bad(
    kind: type[Message], data: st.DataObject
) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(wire.sample(kind)))
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(ANYTHING)
    decodes_or_is_bad(frame(fields))


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_frame_is_bad(end: int) -> None:
    with pytest.raises(BadMessage):
        READER.decode(GOOD[:end])


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_frame_with_flipped_bits_decodes_or_is_bad(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, bits in flips:
        data[position] ^= bits
    decodes_or_is_bad(bytes(data))


# -- values -------------------------------------------------------------------------------------------------------------


def test_every_message_survives_the_wire_inside_its_unions() -> None:
    status = TaskStatus(
        wire.sample(TaskStatus).task_id, TaskState.RUNNING, 3, data=b"\x00\xff", exit_status=-9
    )
    message = StatusUpdate(wire.sample(StatusUpdate).framework_id, status)
    for name in ("to_master", "to_scheduler"):
        assert decoded(UNIONS[name], next(codec.frames([message]))) == message


def test_registrations_carry_the_protocol_version() -> None:
    registrations = [kind for kind in MESSAGES if kind.__name__.startswith("Register")]
    assert {kind.__name__ for kind in registrations} == {
        "RegisterFramework",
        "RegisterSlave",
        "RegisterExecutor",
    }
    assert all("protocol" in RECORD[kind.__name__]["fields"] for kind in registrations)
    assert isinstance(wire.sample(RegisterFramework), Message)


def test_messages_without_fields_are_their_name() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Ping())) == ["Ping"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(NotRegistered())) == ["NotRegistered"]
    kill = wire.sample(KillTask)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(kill)) == [
        "KillTask",
        "framework_id",
        "task_id",
        "",
        None,
        "",
    ]


def test_resources_inside_a_message_are_checked() -> None:
    assert decoded(UNIONS["to_scheduler"], frame(["GuaranteedShare", [{"cpus": 5}]])).resources == Resources(
        {"cpus": 5}
    )
    with pytest.raises(BadMessage):
        UNIONS["to_scheduler"].decode(frame(["GuaranteedShare", [{"cpus": -5}]]))
