"""Words that are not UTF-8: every byte string that the kernel accepts can be sent in a message."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.errors import BadInput
from offerd.ids import ExecutorID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, FrameworkInfo, TaskInfo
from offerd.resources import Resources
from offerd.wire.codec import encode_message
from offerd.wire.posix_text import (
    packed,
    packed_framework,
    packed_task,
    raw,
    readable,
    unpacked,
    unpacked_task,
    word_of,
)

ODD = os.fsdecode(b"caf\xe9")


@given(st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"")))
def test_any_bytes_but_zero_survive(data: bytes) -> None:
    word = word_of(data)
    traveled = msgspec.msgpack.decode(msgspec.msgpack.encode(packed(word)), type=str)
    assert unpacked(traveled) == word
    assert raw(traveled) == data


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_utf_8_travels_as_it_is(word: str) -> None:
    assert packed(word) == word


@pytest.mark.parametrize("word", ["a\0b", "\0", "\ud800", "ok \udc7f"])
def test_a_word_that_no_program_can_be_given_is_refused_in_one_line(word: str) -> None:
    with pytest.raises(BadInput, match="holds a") as refused:
        packed(word)
    assert "\n" not in str(refused.value)


def task_with(word: str) -> TaskInfo:
    command = CommandInfo([word, "b"], word, {word: word}, [[word], ["c"]], 1.0, word, 0o077)
    return TaskInfo(TaskID("t"), Resources.of(cpus=1), ExecutorID("e"), command, name=word)


def test_a_task_arrives_with_the_words_that_it_was_given() -> None:
    sent = packed_task(task_with(ODD))
    arrived = unpacked_task(msgspec.msgpack.decode(encode_message(sent), type=TaskInfo))
    assert arrived.command == task_with(ODD).command
    assert arrived.name == "caf\\udce9"


def test_a_plain_task_is_not_copied() -> None:
    plain = task_with("plain")
    assert packed_task(plain) is plain
    assert unpacked_task(plain) is plain


def test_a_framework_is_packed_with_its_executors() -> None:
    command = CommandInfo([ODD])
    framework = packed_framework(
        FrameworkInfo(ODD, executors=[ExecutorInfo(ExecutorID("e"), command=command, name=ODD)])
    )
    arrived = msgspec.msgpack.decode(encode_message(framework), type=FrameworkInfo)
    found = arrived.executors[0].command
    assert found is not None
    assert [raw(word) for word in found.argv] == [b"caf\xe9"]
    plain = FrameworkInfo("plain", executors=[ExecutorInfo(ExecutorID("e"), command=CommandInfo(["a"]))])
    assert packed_framework(plain) is plain


def test_a_text_for_people_keeps_its_lines() -> None:
    assert readable(f"one\n{ODD}\n") == "one\ncaf\\udce9\n"
    assert readable("café\n") == "café\n"
