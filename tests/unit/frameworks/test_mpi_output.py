"""Which rank wrote what in the output of `mpiexec`."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

import offerd
from offerd_frameworks.mpi.output import BLOCK_BYTES, MAX_MARK_BYTES, End, Lines, Piece, Splitter, pattern

WORD = "c0ffee"


def mark(rank: int) -> bytes:
    return pattern(WORD).replace("%r", str(rank)).encode()


def end(status: str) -> bytes:
    return b"\x01%s!%s\x02\n" % (WORD.encode(), status.encode())


def lines(*chunks: bytes) -> list[Piece]:
    """The pieces from these reads, with incomplete lines last."""
    splitter, whole = Splitter(WORD), Lines(WORD)
    found = [line for chunk in chunks for part in splitter.feed(chunk) for line in whole.add(*part)]
    return [*found, *whole.rest()]


def test_lines_written_in_parts_by_several_ranks_come_out_whole() -> None:
    written = mark(0) + b"par" + mark(1) + b"other" + mark(0) + b"tial\n" + mark(1) + b" half\n"
    assert lines(written) == [Piece(0, b"partial\n"), Piece(1, b"other half\n")]


def test_reads_may_cut_the_output_anywhere() -> None:
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


def joined(pieces: list[Piece]) -> list[tuple[int | None, bytes]]:
    """Whole lines; fails if a part of another line comes in between."""
    found: list[tuple[int | None, bytes]] = []
    is_open = False
    for piece in pieces:
        assert piece.begins != is_open
        if piece.begins:
            found.append((piece.rank, b""))
        rank, before = found.pop()
        assert rank == piece.rank
        found.append((rank, before + piece.data))
        is_open = not piece.ends
    assert not is_open
    return found


@pytest.mark.parametrize("size", [BLOCK_BYTES + delta for delta in (-1, 0, 1, MAX_MARK_BYTES)] + [3_000_000])
@pytest.mark.parametrize("ends", [True, False])
def test_long_lines_of_several_ranks_come_out_whole_and_are_not_kept_in_memory(size: int, ends: bool) -> None:
    texts = [bytes([97 + rank]) * size + (b"\r\n" if ends else b"\xff\0") for rank in range(3)]
    splitter, whole = Splitter(WORD), Lines(WORD)
    found = []
    for at in range(0, size + 2, 50_000):
        chunk = b"".join(mark(rank) + text[at : at + 50_000] for rank, text in enumerate(texts))
        found += [line for part in splitter.feed(chunk) for line in whole.add(*part)]
        assert all(len(begun.tail) < BLOCK_BYTES + MAX_MARK_BYTES for begun in whole._begun.values())
    assert joined([*found, *whole.rest()]) == list(enumerate(texts))
    whole.close()


def test_the_room_of_a_long_line_is_reused() -> None:
    whole = Lines(WORD)
    for _ in range(5):
        assert list(whole.add(0, b"x" * 3 * BLOCK_BYTES)) == []
        assert len(joined(list(whole.add(0, b"\n")))[0][1]) == 3 * BLOCK_BYTES + 1
    assert whole._blocks._number <= 3
    whole.close()


def test_a_long_line_without_room_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(offerd.OfferdError, match=r"a long line cannot be kept in .*gone: No such file"):
        list(Lines(WORD).add(0, b"x" * 2 * BLOCK_BYTES))


@pytest.mark.parametrize("before", [b"", b"no end", b"whole\n", b"y" * BLOCK_BYTES, b"y" * 200_000])
@pytest.mark.parametrize("cut", [1, 9, 11])
def test_a_ranks_end_is_reported_and_is_not_output_wherever_it_is_cut(before: bytes, cut: int) -> None:
    whole, reported = Lines(WORD), end("-143")
    pieces: list[Piece] = []
    for data in filter(None, (before, reported[:cut], reported[cut:])):
        pieces += whole.add(4, data)
    assert b"".join(piece.data for piece in pieces) == before
    assert whole.take_ends() == [End(4, 143, was_asked=True)]
    assert whole.take_ends() == []
    assert list(whole.rest()) == []
    whole.close()
