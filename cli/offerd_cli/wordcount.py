"""The demo's work: counting words, by commands and by Python functions that agree on what a word is."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

_WORD = re.compile(r"[A-Za-z_]+")
_WORD_BYTES = re.compile(rb"[A-Za-z_]+")

MAPPER = 'LC_ALL=C grep -oaE "[A-Za-z_]+" || true'
"""`|| true`: a file without words is not a failure, although grep reports one."""
REDUCER = "uniq -c"


def library_sources() -> list[Path]:
    """Every `.py` file of Python's standard library here, without packages installed below it."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(
        path
        for path in library.rglob("*.py")
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    )


def count_words(paths: Iterable[str | Path]) -> dict[bytes, int]:
    """How often each word occurs in these files."""
    counts: Counter[bytes] = Counter()
    for path in paths:
        counts.update(_WORD_BYTES.findall(Path(path).read_bytes()))
    return dict(counts)


def words(line: str) -> Iterator[tuple[str, int]]:
    """A pair (word, 1) for each word of a line."""
    for word in _WORD.findall(line):
        yield word, 1


def add(word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
    """The sum of a word's counts."""
    yield word, sum(counts)


def read_counts(output: Path) -> dict[bytes, int]:
    """The result of a job in `output`: lines of `uniq -c`, or words and counts separated by a TAB."""
    counts: dict[bytes, int] = {}
    for part in sorted(output.glob("part-*")):
        for line in part.read_bytes().splitlines():
            first, second = line.split()
            word, number = (first, second) if b"\t" in line else (second, first)
            counts[word] = counts.get(word, 0) + int(number)
    return counts
