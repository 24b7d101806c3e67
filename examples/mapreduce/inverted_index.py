"""List the files that each word occurs in: python examples/mapreduce/inverted_index.py TEXTS OUTPUT"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from offerd import mapreduce


def places(line: str) -> Iterator[tuple[str, str]]:
    """Each word of a line, and the file that the line is from."""
    name = os.path.basename(os.environ["mapreduce_map_input_file"])  # noqa: SIM112
    for word in set(line.split()):
        yield word, name


def distinct(word: str, names: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Each file once."""
    for name in set(names):
        yield word, name


def listed(word: str, names: Iterator[str]) -> Iterator[tuple[str, str]]:
    """All files of a word, on one line."""
    yield word, ",".join(sorted(set(names)))


if __name__ == "__main__":
    texts, output = sys.argv[1:]
    summary = mapreduce.run(places, listed, combine=distinct, input=texts, output=output, reduces=2)
    print(f"{summary.counters['reduce output records']:,} words in {summary.elapsed_s:.1f} s")
