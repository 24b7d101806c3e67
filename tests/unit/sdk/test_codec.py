"""Frames: many messages in one, cut by size, never larger than a socket takes."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.errors import MessageTooLarge
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
from offerd.messages import FrameworkMessage, Message, Ping, RescindOffer
from offerd.wire import codec
from offerd.wire.codec import FRAME_TARGET_BYTES, MAX_FRAME_BYTES, MAX_SENT_BYTES, encode_message, frames


def sized(size: int) -> FrameworkMessage:
    """A message of exactly this many bytes."""
    empty = FrameworkMessage(FrameworkID("f"), SlaveID("s"), ExecutorID("e"), b"\x00" * 70_000)
    overhead = len(encode_message(empty)) - 70_000
    return FrameworkMessage(FrameworkID("f"), SlaveID("s"), ExecutorID("e"), b"\x00" * (size - overhead))


def read(frame: bytes) -> tuple[int, list[codec.ToScheduler]]:
    return codec.to_scheduler.decode(frame)


def test_no_messages_make_no_frame() -> None:
    assert list(frames([])) == []


def test_small_messages_travel_together_in_their_order_under_the_epoch() -> None:
    messages = [RescindOffer(OfferID(f"o-{number}")) for number in range(1000)]
    (frame,) = frames(messages, epoch=(1 << 63) - 1)
    assert read(frame) == ((1 << 63) - 1, messages)


@given(st.lists(st.integers(70_100, 400_000), min_size=1, max_size=6))
def test_frames_are_cut_at_the_target_and_lose_nothing(sizes: list[int]) -> None:
    messages: list[Message] = [sized(size) for size in sizes]
    cut = list(frames(messages, epoch=4))
    assert [message for frame in cut for message in read(frame)[1]] == messages
    for frame in cut:
        assert len(frame) <= max(FRAME_TARGET_BYTES, *sizes) + 64
        assert len(frame) <= MAX_FRAME_BYTES
    # No frame had room for the next message.
    for left, right in itertools.pairwise(cut):
        assert len(left) + len(encode_message(read(right)[1][0])) > FRAME_TARGET_BYTES


def test_the_largest_message_fits_into_a_frame_and_one_byte_more_is_refused() -> None:
    largest = sized(MAX_SENT_BYTES)
    (frame,) = frames([largest], epoch=(1 << 63) - 1)
    assert len(frame) <= MAX_FRAME_BYTES
    assert read(frame)[1] == [largest]
    with pytest.raises(MessageTooLarge, match="FrameworkMessage"):
        list(frames([sized(MAX_SENT_BYTES + 1)]))


def test_what_comes_before_a_message_too_large_is_sent() -> None:
    cut = frames([Ping(), sized(MAX_SENT_BYTES + 1), Ping()])
    assert read(next(cut))[1] == [Ping()]
    with pytest.raises(MessageTooLarge):
        next(cut)


def test_frames_are_plain_messagepack() -> None:
    (frame,) = frames([Ping(), RescindOffer(OfferID("o"))], epoch=7)
    assert msgspec.msgpack.decode(frame) == [7, [["Ping"], ["RescindOffer", "o"]]]


def test_a_codec_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="to_nobody"):
        codec.__getattr__("to_nobody")
