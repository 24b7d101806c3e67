"""The labels of ranks in front of lines, which are otherwise unchanged."""

from __future__ import annotations

import pytest

from offerd_cli.mpi_jobs import WRITE_BYTES, batches, labelled
from offerd_frameworks.mpi.output import Piece


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"a\r\n", b"[3] a\r\n"),
        (b"10 %\r20 %\n", b"[3] 10 %\r20 %\n"),
        (b"page\x0cnext\x0b\n", b"[3] page\x0cnext\x0b\n"),
        (b"\0\xff\n", b"[3] \0\xff\n"),
        (b"no end", b"[3] no end\n"),
        (b"\n", b"[3] \n"),
    ],
)
def test_a_label_stands_before_a_line_and_the_line_stays_as_it_is(written: bytes, shown: bytes) -> None:
    assert labelled(Piece(3, written)) == shown


def test_a_line_in_parts_has_one_label() -> None:
    parts = [
        Piece(3, b"a", ends=False),
        Piece(3, b"b", begins=False, ends=False),
        Piece(3, b"c", begins=False),
    ]
    assert b"".join(map(labelled, parts)) == b"[3] abc\n"


def test_many_short_lines_are_few_writes() -> None:
    lines = [b"x" * 99 + b"\n"] * (WRITE_BYTES // 50)
    written = list(batches(lines))
    assert b"".join(written) == b"".join(lines)
    assert len(written) <= 3
    assert list(batches([])) == []
