"""Calls that come in pieces: lost and repeated pieces, several calls at once, and calls that are not wanted any more."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from offerd.drivers.executor_loop import Timer, Timers
from offerd.python_calls import calls, large_calls
from offerd_executors.large_calls import AHEAD_BYTES, LargeCalls

SIZE = 5 * large_calls.PIECE_BYTES + 17


class Line:
    """The line between an executor and its scheduler, which has these calls: open questions, and timers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: dict[str, bytes] = {}
        self.asked: list[bytes] = []
        self.timers = Timers()
        self.done: list[tuple[str, str]] = []
        self.large = LargeCalls(self.asked.append, self.call_later)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return Timer(self.timers, delay_s, callback)

    def fetch(self, name: str, size_bytes: int = SIZE) -> None:
        self.calls[name] = os.urandom(size_bytes)
        done: Callable[[str], None] = lambda fault: self.done.append((name, fault))  # noqa: E731
        self.large.fetch(name, size_bytes, str(self.directory / "calls" / name), done)

    def question(self) -> large_calls.AskPiece:
        question = large_calls.question_in(self.asked.pop(0))
        assert question is not None
        return question

    def answer(self) -> bytes:
        question = self.question()
        piece = self.calls[question.task_id][question.offset : question.offset + question.count]
        return large_calls.answer(question, piece)

    def serve(self) -> None:
        """Answer all questions until there are no more."""
        while self.asked:
            self.large.take(self.answer())

    def time_passes(self) -> None:
        for _ in range(len(self.timers)):
            for callback in self.timers.take(math.inf) or ():
                callback()

    def content(self, name: str) -> bytes:
        return (self.directory / "calls" / name).read_bytes()


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_calls_come_whole_one_after_another(line: Line) -> None:
    line.fetch("one")
    line.fetch("two")
    assert {large_calls.question_in(asked).task_id for asked in line.asked} == {"one"}  # type: ignore[union-attr]
    line.serve()
    assert line.done == [("one", ""), ("two", "")]
    assert (line.content("one"), line.content("two")) == (line.calls["one"], line.calls["two"])
    line.time_passes()
    assert not line.asked


def test_no_more_is_asked_for_than_what_may_be_on_its_way(line: Line) -> None:
    line.fetch("one", 100 * large_calls.PIECE_BYTES)
    for _ in range(20):
        asked = [large_calls.question_in(asked) for asked in line.asked]
        assert sum(question.count for question in asked if question is not None) == AHEAD_BYTES
        line.large.take(line.answer())


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_what_was_lost_is_asked_for_again_and_what_comes_twice_counts_once(line: Line, lost: int) -> None:
    line.fetch("one")
    answers = [line.answer() for _ in range(4)]
    for answer in answers[:lost] + answers[lost + 1 :]:
        line.large.take(answer)
    assert line.done == []
    line.asked.clear()
    line.time_passes()
    line.large.take(answers[lost])
    line.large.take(answers[lost])
    line.time_passes()
    line.serve()
    assert line.done == [("one", "")]
    assert line.content("one") == line.calls["one"]


def test_a_call_that_is_not_wanted_any_more_leaves_nothing_and_the_next_one_comes(line: Line) -> None:
    line.fetch("one")
    line.fetch("two")
    line.large.take(line.answer())
    assert line.large.all_ids() == ["one", "two"]
    assert line.large.forget("one")
    assert not line.large.forget("one")
    line.serve()
    assert line.done == [("two", "")]
    assert os.listdir(line.directory / "calls") == ["two"]


def test_a_call_that_cannot_be_stored_fails_and_the_next_one_comes(line: Line) -> None:
    (line.directory / "calls" / "one").mkdir(parents=True)
    line.fetch("one")
    line.fetch("two")
    line.serve()
    assert line.done == [("one", "its call cannot be stored in the sandbox: Is a directory"), ("two", "")]


@pytest.mark.parametrize("data", [b"", b"x" * (SIZE + 1)])
def test_an_empty_piece_or_one_with_too_many_bytes_is_ignored(line: Line, data: bytes) -> None:
    line.fetch("one")
    line.large.take(large_calls.answer(line.question(), data))
    line.large.take(b"\xc1")
    line.time_passes()
    del line.asked[:-4]
    line.serve()
    assert line.content("one") == line.calls["one"]


def test_a_header_is_distinguished_from_a_call_and_its_size_is_bounded() -> None:
    assert large_calls.size_in(large_calls.header(SIZE)) == SIZE
    assert large_calls.size_in(calls.with_key(calls.pack_call(len), b"k" * 16)) is None
    assert large_calls.size_in(large_calls.header(large_calls.MAX_BYTES + 1)) is None
    assert large_calls.size_in(large_calls.header(0)) is None
    assert large_calls.question_in(large_calls.ask("t", 0, large_calls.PIECE_BYTES + 1)) is None
    assert large_calls.question_in(large_calls.ask("t", -1, 1)) is None


def test_pieces_of_a_call_with_its_key_are_those_of_the_whole() -> None:
    call, key = calls.pack_call(len, ("x" * 50,)), b"k" * 16
    whole = calls.with_key(call, key)
    assert len(whole) == len(call) + calls.ADDED_BYTES
    for count in (1, 7, 16, 19, len(call), len(whole)):
        pieces = [calls.piece_with_key(call, key, at, at + count) for at in range(0, len(whole), count)]
        assert b"".join(pieces) == whole
    assert calls.piece_with_key(call, key, len(whole), len(whole) + 9) == b""
