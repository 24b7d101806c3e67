"""Sorts a mapper's lines by key.

If the same lines come again and again, they are counted; otherwise GNU sort sorts them. Counting the words of a language takes
two fifths of the time of comparing them. The result is the same: that of a stable sort by key. (If no line has had a TAB so
far, GNU sort sorts whole lines; then the lines of one key are in the order of their values.)
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from offerd_frameworks.mapreduce.keys import Keys
from offerd_frameworks.mapreduce.streaming import (
    Pump,
    Reporter,
    Stage,
    job_environment,
    pass_on,
    pipe,
    read_block,
    sort_environment,
    sort_words,
    through,
    write_all,
)

USUAL = Keys()
LEAST_REPEATS = 2
"""If lines occur less often than this on average, counting them is not worth it."""
LINE_BYTES = 250
"""Memory of a line besides its bytes: its object and its key's, an entry in a dict, one in a set, a number."""
LONGEST_BYTES = 64 << 10
PIECE_BYTES = 256 << 10


class EqualLines:
    """Lines and how often each has come, within so many bytes of memory.

    Lines of one key must stay in the order in which they came, so a key with two different lines cannot be kept here.
    """

    def __init__(self, most_bytes: int) -> None:
        self.has_tabs = False
        self._left_bytes = most_bytes
        self._total = 0
        self._counts: Counter[bytes] = Counter()
        self._keys: set[bytes] = set()
        """The keys, once a line has had a TAB; before, each line is its own key."""

    def take(self, block: bytes) -> bool:
        """Count these complete lines. False if they should be sorted instead: then none of them is counted."""
        lines = block.split(b"\n")
        lines.pop()
        known = len(self._counts)
        self._counts.update(lines)
        added = list(islice(reversed(self._counts), len(self._counts) - known))
        if self._can_be_kept(added, len(lines)) and self._are_keys_new(added, b"\t" in block):
            self._total += len(lines)
            return True
        self._counts.subtract(lines)
        for line in added:
            del self._counts[line]
        return False

    def _can_be_kept(self, added: list[bytes], number: int) -> bool:
        self._left_bytes -= len(added) * LINE_BYTES + 2 * sum(map(len, added))
        is_worth_it = len(self._counts) * LEAST_REPEATS <= self._total + number
        return is_worth_it and self._left_bytes >= 0

    def _are_keys_new(self, added: list[bytes], has_tabs: bool) -> bool:
        if not (has_tabs or self.has_tabs):
            return True
        if not self.has_tabs:
            self._keys = set(self._counts).difference(added)
        number = len(self._keys)
        self._keys.update(map(_key, added))
        if len(self._keys) != number + len(added):
            return False
        self.has_tabs = True
        return True

    def in_order(self) -> Iterator[bytes]:
        """All lines, sorted by key, in pieces."""
        return self._pieces(sorted(self._counts, key=_key if self.has_tabs else None))

    def as_they_came(self) -> Iterator[bytes]:
        """All lines, in the order of their first appearance, in pieces."""
        return self._pieces(self._counts)

    def _pieces(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        piece: list[bytes] = []
        size = 0
        for line in lines:
            ended = line + b"\n"
            left = self._counts[line]
            while left:
                number = min(left, max(1, PIECE_BYTES // len(ended)))
                piece.append(ended * number)
                size += len(ended) * number
                left -= number
                if size >= PIECE_BYTES:
                    yield b"".join(piece)
                    piece, size = [], 0
        yield b"".join(piece)


def _key(line: bytes) -> bytes:
    return line.partition(b"\t")[0]


class Sorting:
    """Takes a mapper's output. The lines decide how it is sorted."""

    def __init__(
        self, task: dict[str, Any], reporter: Reporter, source: int, output: str, keys: Keys = USUAL
    ) -> None:
        """Reads `source`, a pipe; `output` is the name of the file. Lines are as `keys` has changed them."""
        self.by_key = False
        self.has_read_all = False
        """False if it ended before the mapper did: then the mapper may have been cut off."""
        self._task = task
        self._reporter = reporter
        self._source = source
        self._output = output
        self._fds = {source}
        self._stages: list[Stage] = []
        self._keys = keys
        self._keying: list[Pump] = []

    def run(self) -> None:
        """In a thread: read the mapper's output to its end, and sort it into the file. Raises `OSError`."""
        try:
            self._sort_all()
        finally:
            # Otherwise, after an error, a process at the other end of one of these pipes would wait for ever.
            self._close(*self._fds)

    def reap(self) -> None:
        """Wait until all processes have ended, also if the mapper has failed."""
        for stage in self._stages:
            stage.reap()
        for keying in self._keying:
            keying.join()

    def finish(self) -> None:
        """Check how they have ended. Raises `CommandFailed`."""
        for stage in reversed(self._stages):
            stage.wait(may_be_cut_off=stage is not self._stages[-1])

    def _sort_all(self) -> None:
        counted = EqualLines(self._task["sort_bytes"])
        rest = self._count(counted)
        by_key = counted.has_tabs or (rest is not None and b"\t" in rest)
        self.by_key = by_key or bool(self._task["combiner"])
        target = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._fds.add(target)
        if self._task["combiner"]:
            target = self._combine(target)
        if rest is None:
            self.has_read_all = True
            self._write(counted.in_order(), target)
            return
        into_sort, unsorted = self._pipe()
        self._stages.insert(0, self._sort(into_sort, target, by_key))
        self._close(into_sort, target)
        if write_all(chain(counted.as_they_came(), [rest]), unsorted):
            del counted  # frees its memory for the sort
            self.has_read_all = pass_on(self._source, unsorted)

    def _write(self, pieces: Iterable[bytes], target: int) -> None:
        try:
            write_all(pieces, target)
        except OSError as error:
            error.filename = self._output
            raise

    def _count(self, counted: EqualLines) -> bytes | None:
        """Count lines; returns None when all have been counted, or else the bytes that must be sorted with the rest."""
        line = b""
        while block := read_block(self._source):
            block = line + block
            end = block.rfind(b"\n") + 1
            line = block[end:]
            if len(line) > LONGEST_BYTES or not counted.take(block[:end]):
                return block
        if line and not counted.take(line + b"\n"):
            return line
        return None

    def _combine(self, output: int) -> int:
        """Start a combiner; returns the descriptor to write its input to.

        A combiner should keep keys and their order, but it is not trusted: its output is sorted, too.
        """
        into_combiner, sorted_once = self._pipe()
        into_last, combined = self._pipe()
        environment = job_environment(self._task["job"], self._task["environment"])
        if not self._keys.is_usual:
            into_combiner = self._through(self._keys.back, into_combiner)
            into_last = self._through(self._keys.forth(self._task["reduces"]), into_last)
        combiner, any_status = self._task["combiner"], self._task.get("any_status", False)
        self._stages.append(
            Stage(
                "combiner",
                combiner,
                environment,
                self._reporter,
                into_combiner,
                combined,
                any_status,
                umask=self._task.get("umask"),
            )
        )
        self._close(into_combiner, combined)
        self._stages.append(self._sort(into_last, output, by_key=True))
        self._close(into_last, output)
        return sorted_once

    def _through(self, transform: Callable[[bytes], bytes], source: int) -> int:
        """Transform the lines of a pipe; returns the reading end of a pipe with the result."""
        transformed, target = self._pipe()
        self._fds -= {source, target}
        self._keying.append(Pump(partial(through, transform, source, target)))
        return transformed

    def _sort(self, source: int, target: int, by_key: bool) -> Stage:
        words = sort_words(self._task["sort_bytes"], by_key=by_key)
        return Stage("sort", words, sort_environment(), self._reporter, source, target)

    def _pipe(self) -> tuple[int, int]:
        ends = pipe()
        self._fds.update(ends)
        return ends

    def _close(self, *fds: int) -> None:
        for fd in fds:
            self._fds.discard(fd)
            os.close(fd)
