"""The demo's work: counting words, once for a shell and once for Python, by the same idea of a word."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from pathlib import Path

_WORD = re.compile(rb"[A-Za-z_]+")

SHELL_COUNT = 'export LC_ALL=C; xargs -d "\\n" grep -hoaE "[A-Za-z_]+" < "$1" | sort | uniq -c'
"""`sh -c SHELL_COUNT count LIST`: how often each word stands in the files whose names are the lines of LIST."""


def library_sources() -> list[Path]:
    """Every `.py` of Python's standard library here, without what others installed below it."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(
        path
        for path in library.rglob("*.py")
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    )


def chunks(paths: list[Path], number: int) -> list[list[str]]:
    """The paths in at most `number` lists of about the same size in bytes, largest files first to the emptiest list."""
    lists: list[list[str]] = [[] for _ in range(min(number, len(paths)))]
    sizes = [0] * len(lists)
    for size, path in sorted(((path.stat().st_size, path) for path in paths), reverse=True):
        emptiest = sizes.index(min(sizes))
        lists[emptiest].append(str(path))
        sizes[emptiest] += size
    return lists


def count_words(paths: list[str]) -> dict[bytes, int]:
    """How often each word stands in these files."""
    counts: Counter[bytes] = Counter()
    for path in paths:
        counts.update(_WORD.findall(Path(path).read_bytes()))
    return dict(counts)


def parse_counts(output: bytes) -> dict[bytes, int]:
    """The sum of what any number of `SHELL_COUNT` printed."""
    counts: dict[bytes, int] = {}
    for line in output.splitlines():
        number, word = line.split()
        counts[word] = counts.get(word, 0) + int(number)
    return counts
