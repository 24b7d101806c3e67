"""What stands before a rank's lines, and that nothing else of them changes."""

from __future__ import annotations

import pytest

from offerd_cli.mpi_jobs import labelled
from offerd_frameworks.mpi.output import Piece


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"a\r\n", b"[3] a\r\n"),
        (b"10 %\r20 %\n", b"[3] 10 %\r20 %\n"),
        (b"a\n\nb\n", b"[3] a\n[3] \n[3] b\n"),
        (b"page\x0cnext\x0b\n", b"[3] page\x0cnext\x0b\n"),
        (b"no end", b"[3] no end\n"),
        (b"\n", b"[3] \n"),
    ],
)
def test_a_label_stands_before_a_line_and_the_line_stays_as_it_is(written: bytes, shown: bytes) -> None:
    assert labelled(Piece(3, written)) == shown
