"""Splits the output of `mpiexec` into the ranks' lines and its own.

Hydra can write a pattern before everything that a rank writes. Ours holds a random word, so no program writes it by chance. It
stands before each line, and before each part of a line that was read at once; what has none is hydra's own. The shell around a
rank's program writes an *end* on both streams, with the same word: before it stands all that the rank wrote.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import offerd

BLOCK_BYTES = 64 << 10
"""Of a line that has not ended, no more than this is kept in memory."""
MAX_MARK_BYTES = 48
"""Longest pattern, and longest end."""


class Piece(NamedTuple):
    """What a rank wrote, or hydra itself (`rank` None): a line, or a part of a long one. The parts of one line are consecutive.

    A piece that `ends` a line without a line end is the last of its rank.
    """

    rank: int | None
    data: bytes
    begins: bool = True
    ends: bool = True


class End(NamedTuple):
    """A rank's output on this stream has been read completely. `was_asked`: its process group had been sent SIGTERM before."""

    rank: int
    exit_status: int
    was_asked: bool


def pattern(word: str) -> str:
    """The value of `-prepend-pattern`."""
    return f"\x01{word}:%r\x02"


class Splitter:
    """Splits one stream of `mpiexec`, stdout or stderr."""

    def __init__(self, word: str) -> None:
        self._start = b"\x01" + word.encode() + b":"
        self._mark = re.compile(re.escape(self._start) + rb"(\d+)\x02")
        self._rest = b""
        self._rank: int | None = None

    def feed(self, data: bytes) -> list[tuple[int | None, bytes]]:
        """Ranks with what they wrote, at most a line each; an incomplete mark at the end is kept for the next call."""
        data = self._rest + data
        cut = data.rfind(b"\x01", -MAX_MARK_BYTES)
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

    def _pieces(self, text: bytes) -> list[tuple[int | None, bytes]]:
        if not text:
            return []
        line, end, own = text.partition(b"\n")
        pieces = [(self._rank, line + end)]
        if end:
            # The rank's next line has a mark of its own.
            self._rank = None
        if own:
            pieces.append((None, own))
        return pieces


class _Begun:
    """The beginning of a line: where its blocks are, and what has come after them."""

    __slots__ = ("blocks", "tail")

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.tail = bytearray()


class Lines:
    """Puts one stream together to whole lines, separately for each rank, however long they are.

    `add` and `rest` raise `OfferdError` if there is no room for a long line.
    """

    def __init__(self, word: str) -> None:
        self._ends: list[End] = []
        self._end_start = b"\x01" + word.encode() + b"!"
        self._end = re.compile(re.escape(self._end_start) + rb"(-?)(\d+)\x02\n\Z")
        self._begun: dict[int | None, _Begun] = {}
        self._blocks = _Blocks()

    def add(self, rank: int | None, data: bytes) -> Iterator[Piece]:
        """The lines that are complete now. `data` is a line, or a part of one."""
        is_whole = data.endswith(b"\n")
        begun = self._begun.get(rank)
        if begun is None:
            if is_whole:
                yield from self._line(rank, [], data)
                return
            begun = self._begun[rank] = _Begun()
        begun.tail += data
        if is_whole or (rank is None and len(begun.tail) > BLOCK_BYTES):
            del self._begun[rank]
            yield from self._line(rank, begun.blocks, bytes(begun.tail))
            return
        while len(begun.tail) >= BLOCK_BYTES + MAX_MARK_BYTES:  # an end must not be cut
            begun.blocks.append(self._blocks.put(begun.tail[:BLOCK_BYTES]))
            del begun.tail[:BLOCK_BYTES]

    def take_ends(self) -> list[End]:
        """The ends that have been read since the last call."""
        ends, self._ends = self._ends, []
        return ends

    def rest(self) -> Iterator[Piece]:
        """Lines that never ended."""
        begun, self._begun = self._begun, {}
        for rank, line in begun.items():
            yield from self._line(rank, line.blocks, bytes(line.tail))

    def close(self) -> None:
        self._blocks.close()

    def _line(self, rank: int | None, blocks: list[int], tail: bytes) -> Iterator[Piece]:
        if rank is not None and self._end_start in tail and (end := self._end.search(tail)):
            self._ends.append(End(rank, int(end[2]), bool(end[1])))
            tail = tail[: end.start()]
            if not tail and not blocks:
                return
        for number, block in enumerate(blocks):
            yield Piece(rank, self._blocks.take(block), begins=not number, ends=False)
        yield Piece(rank, tail, begins=not blocks)


class _Blocks:
    """Parts of lines, in one unlinked file. Space is reused once a part was taken."""

    def __init__(self) -> None:
        self._fd = -1
        self._number = 0
        self._free: list[int] = []

    def put(self, data: bytes | bytearray) -> int:
        """Store a part; returns its number."""
        try:
            if self._fd < 0:
                with tempfile.TemporaryFile() as file:
                    self._fd = os.dup(file.fileno())
            if not self._free:
                self._free.append(self._number)
                self._number += 1
            at, rest = self._free[-1] * BLOCK_BYTES, memoryview(data)
            while rest:  # a full disk may take only a part
                written = os.pwrite(self._fd, rest, at)
                at, rest = at + written, rest[written:]
        except OSError as error:
            where = tempfile.gettempdir()
            raise offerd.OfferdError(f"a long line cannot be kept in {where}: {error.strerror}") from None
        return self._free.pop()

    def take(self, number: int) -> bytes:
        data = os.pread(self._fd, BLOCK_BYTES, number * BLOCK_BYTES)
        self._free.append(number)
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
