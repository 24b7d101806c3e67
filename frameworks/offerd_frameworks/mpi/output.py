"""Who wrote what: takes the output of `mpiexec` apart into the ranks' lines and its own words.

Hydra can put a pattern before everything that a rank writes; ours holds a random word, so that no program writes it by
chance. It is put before each line and each part of one that was read at once, so what has none is hydra's own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_LINE_BYTES = 64 << 10
"""A longer line is passed on in parts."""
MAX_PATTERN_BYTES = 48


class Piece(NamedTuple):
    """What a rank wrote, or hydra itself (`rank` None)."""

    rank: int | None
    data: bytes


def pattern(word: str) -> str:
    """For `-prepend-pattern`."""
    return f"\x01{word}:%r\x02"


class Splitter:
    """One stream of `mpiexec`, stdout or stderr."""

    def __init__(self, word: str) -> None:
        self._start = b"\x01" + word.encode() + b":"
        self._mark = re.compile(re.escape(self._start) + rb"(\d+)\x02")
        self._rest = b""
        self._rank: int | None = None

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces in `data`, each of one line at most; the beginning of a mark is kept for the next time."""
        data = self._rest + data
        cut = data.rfind(b"\x01", -MAX_PATTERN_BYTES)
        is_begun = cut >= 0 and (
            self._start.startswith(data[cut:])
            or (data.startswith(self._start, cut) and b"\x02" not in data[cut:])
        )
        self._rest = data[cut:] if is_begun else b""
        parts = self._mark.split(data[:cut] if is_begun else data)
        pieces = self._pieces(parts[0])
        for rank, text in zip(parts[1::2], parts[2::2], strict=True):
            self._rank = int(rank)
            pieces += self._pieces(text)
        return pieces

    def _pieces(self, text: bytes) -> list[Piece]:
        if not text:
            return []
        line, end, own = text.partition(b"\n")
        pieces = [Piece(self._rank, line + end)]
        if end:
            # The next line of a rank has a mark of its own.
            self._rank = None
        if own:
            pieces.append(Piece(None, own))
        return pieces


class Lines:
    """Puts pieces together to whole lines, for each rank by itself."""

    def __init__(self) -> None:
        self._begun: dict[int | None, bytes] = {}

    def add(self, piece: Piece) -> list[Piece]:
        """The lines that are complete now."""
        data = self._begun.pop(piece.rank, b"") + piece.data
        whole, end, rest = data.rpartition(b"\n")
        if len(rest) >= MAX_LINE_BYTES:
            whole, end, rest = data, b"", b""
        if rest:
            self._begun[piece.rank] = rest
        return [Piece(piece.rank, whole + end)] if whole or end else []

    def rest(self) -> list[Piece]:
        """Lines that never ended."""
        begun, self._begun = self._begun, {}
        return [Piece(rank, data) for rank, data in begun.items()]
