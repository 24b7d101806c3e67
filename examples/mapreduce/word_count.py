"""Count words with Python functions: python examples/mapreduce/word_count.py TEXTS OUTPUT"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from offerd import mapreduce


def count(line: str) -> Iterator[tuple[str, int]]:
    """One for each word of a line."""
    for word in line.split():
        yield word.strip(".,;:!?\"'()").lower(), 1


def add(word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
    """The sum of a word's counts, or of such sums: this is the combiner, too."""
    yield word, sum(counts)


if __name__ == "__main__":
    texts, output = sys.argv[1:]
    summary = mapreduce.run(count, add, combine=add, input=texts, output=output, reduces=2)
    print(f"{summary.counters['reduce output records']:,} words in {summary.elapsed_s:.1f} s")
