"""The arguments of `offerd map`, as GNU parallel takes them: words after `:::`, lines of files after `::::`. Several sources
are combined in all ways, except that sources linked by a `+` go in step: first with first, second with second.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from offerd.errors import BadInput
from offerd.wire.posix_text import word_of

WORDS, FILES = ":::", "::::"
LINKED = "+"
MARKS = (WORDS, FILES, WORDS + LINKED, FILES + LINKED)
MAX_COMBINATIONS = 10_000_000

Argument = tuple[str, ...]
"""The arguments of one run of the command: one word from each source."""


class Arguments(Sequence[Argument]):
    """All combinations of the groups; the last group varies fastest. A group is a list of linked sources."""

    def __init__(self, groups: Sequence[Sequence[Argument]], sources: int) -> None:
        self.sources = sources
        self._groups = groups
        self._count = math.prod(map(len, groups))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Argument: ...
    @overload
    def __getitem__(self, index: slice) -> list[Argument]: ...
    def __getitem__(self, index: int | slice) -> Argument | list[Argument]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        if len(self._groups) == 1:
            return self._groups[0][index]
        chosen: list[Argument] = []
        for group in reversed(self._groups):
            index, number = divmod(index, len(group))
            chosen.append(group[number])
        return sum(reversed(chosen), ())

    def words(self) -> Iterator[str]:
        """The words of all sources, each once."""
        return itertools.chain.from_iterable(itertools.chain.from_iterable(self._groups))

    def longest(self) -> Argument:
        """The longest word of each source; there need not be a run with all of them."""
        longest: list[str] = []
        for group in self._groups:
            longest += [max(column, key=_bytes) for column in zip(*group, strict=True)]
        return tuple(longest)


class _Source(NamedTuple):
    mark: str
    words: list[str]

    @property
    def is_linked(self) -> bool:
        return self.mark.endswith(LINKED)


def split_words(words: Sequence[str], *, null: bool = False) -> tuple[list[str], Arguments]:
    """Split `CMD... ::: ARG...`, `CMD... :::: FILE...` and the like into command and arguments; without marks they come from
    stdin.

    `null`: arguments in a file end with a zero byte, and may be empty; otherwise they end with the line, and empty lines are
    skipped.

    Raises `BadInput` if there is no command or no source of arguments, or if a file cannot be read.
    """
    command, sources = _sources(words)
    if not command:
        raise BadInput("the command is missing; write CMD... ::: ARG...")
    if not sources:
        if sys.stdin.isatty():
            raise BadInput("no arguments; write CMD... ::: ARG..., :::: FILE, or pipe them into stdin")
        sources = [_Source(FILES, ["-"])]
    if sum(source.words.count("-") for source in sources if source.mark.startswith(FILES)) > 1:
        raise BadInput(
            f"{FILES} - is given twice, but stdin can be read only once; use a file for one of them"
        )
    groups: list[list[list[str]]] = []
    for number, source in enumerate(sources):
        is_linked = source.is_linked or (number + 1 < len(sources) and sources[number + 1].is_linked)
        columns = _columns(source, alone=len(sources) == 1, null=null, keeps_empty=null or is_linked)
        if source.is_linked and groups:
            groups[-1].append(columns[0])
            groups += [[column] for column in columns[1:]]
        else:
            groups += [[column] for column in columns]
    # The shortest of linked sources decides.
    arguments = Arguments(
        [list(zip(*group, strict=False)) for group in groups], sum(len(group) for group in groups)
    )
    if len(arguments) > MAX_COMBINATIONS:
        raise BadInput(
            f"{len(arguments):,} combinations of arguments are more than {MAX_COMBINATIONS:,}; run them in parts"
        )
    return command, arguments


def _sources(words: Sequence[str]) -> tuple[list[str], list[_Source]]:
    command: list[str] = []
    sources: list[_Source] = []
    for word in words:
        if word in MARKS:
            sources.append(_Source(word, []))
        else:
            (sources[-1].words if sources else command).append(word)
    return command, sources


def _columns(source: _Source, *, alone: bool, null: bool, keeps_empty: bool) -> list[list[str]]:
    """The words of each source that starts at a mark: after `::::` each file is a source. Raises `BadInput`."""
    if source.mark.startswith(FILES):
        if not source.words:
            raise BadInput("the file is missing; write :::: FILE, or :::: - for stdin")
        return [_read(file, b"\0" if null else b"\n", keeps_empty) for file in source.words]
    if not source.words and not alone:
        raise BadInput(f"a {source.mark} has no arguments after it; leave it out, or give it some")
    return [source.words]


def _read(file: str, end: bytes, keeps_empty: bool) -> list[str]:
    try:
        if file == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as stream:
                content = stream.read()
    except OSError as error:
        raise BadInput(f"cannot read arguments from {file}: {error.strerror}") from None
    parts = content.split(end)
    if not parts[-1]:
        parts.pop()  # after the last end there is no argument
    return [word_of(part) for part in parts if part or keeps_empty]


def _bytes(word: str) -> int:
    return len(word) if word.isascii() else len(word.encode(errors="surrogateescape"))
