"""Who wrote what in the output of `mpiexec`."""

from __future__ import annotations

import random

from offerd_frameworks.mpi.output import MAX_LINE_BYTES, Lines, Piece, Splitter, pattern

WORD = "c0ffee"


def mark(rank: int) -> bytes:
    return pattern(WORD).replace("%r", str(rank)).encode()


def lines(*chunks: bytes) -> list[Piece]:
    """What comes out of these reads, the unended rest last."""
    splitter, whole = Splitter(WORD), Lines()
    found = [line for chunk in chunks for piece in splitter.feed(chunk) for line in whole.add(piece)]
    return [*found, *whole.rest()]


def test_lines_written_in_parts_by_several_ranks_come_out_whole() -> None:
    written = mark(0) + b"par" + mark(1) + b"other" + mark(0) + b"tial\n" + mark(1) + b" half\n"
    assert lines(written) == [Piece(0, b"partial\n"), Piece(1, b"other half\n")]


def test_it_does_not_matter_where_reads_cut() -> None:
    written = b"".join(mark(rank) + b"line of %d\x01\x02 with odd bytes\n" % rank for rank in range(12))
    expected = lines(written)
    assert len(expected) == 12
    for seed in range(100):
        cuts = sorted(random.Random(seed).sample(range(len(written)), 9))
        chunks = [written[i:j] for i, j in zip([0, *cuts], [*cuts, len(written)], strict=True)]
        whole: dict[int | None, bytes] = {}
        for piece in lines(*chunks):
            whole[piece.rank] = whole.get(piece.rank, b"") + piece.data
        assert whole == {piece.rank: piece.data for piece in expected}, f"seed {seed}"


def test_a_line_without_a_mark_is_the_process_managers_own() -> None:
    assert lines(mark(3) + b"mine\n" + b"= BAD TERMINATION =\n") == [
        Piece(3, b"mine\n"), Piece(None, b"= BAD TERMINATION =\n")
    ]  # fmt: skip


def test_a_mark_of_another_word_is_text() -> None:
    text = b"\x01other:7\x02 is text\n"
    assert lines(mark(1) + text) == [Piece(1, text)]


def test_a_line_that_never_ends_is_passed_on_in_parts() -> None:
    long = b"x" * MAX_LINE_BYTES
    assert lines(mark(0) + long, mark(0) + b"y") == [Piece(0, long), Piece(0, b"y")]
