"""MapReduce jobs by commands for tests, and how to compare their output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SPLIT_WORDS = 'tr -s "[:space:]" "\\n" | sed "/^$/d"'
# `$0 ""`: numbers are compared as text, too.
COUNT = r"""awk '
    { if ($0 "" != last) { if (n) print last "\t" n; n = 0 } last = $0 ""; n++ }
    END { if (n) print last "\t" n }'"""
INDEX_MAPPER = r"""f=${mapreduce_map_input_file##*/}
    awk -v f="$f" '{ for (i = 1; i <= NF; i++) print $i "\t" f }' | sort -u"""
INDEX_REDUCER = r"""awk -F '\t' '
    $1 "" != k { if (NR > 1) print ""; printf "%s\t", $1; k = $1 ""; s = ""; split("", seen) }
    !($2 in seen) { printf "%s%s", s, $2; s = ","; seen[$2] = 1 }
    END { if (NR) print "" }'"""


@dataclass(frozen=True)
class Example:
    """A job by commands. `plain` removes the parts of its output that may differ."""

    mapper: str
    reducer: str
    plain: Callable[[list[bytes]], list[bytes]]


def with_files_in_order(lines: list[bytes]) -> list[bytes]:
    """Sort the files of each word, which come in the order of the maps."""
    pairs = (line.partition(b"\t") for line in lines)
    return sorted(word + b"\t" + b",".join(sorted(files.split(b","))) for word, _, files in pairs)


def by_key(lines: list[bytes]) -> list[bytes]:
    """Sort the lines of each key, which come in the order of the maps."""
    keys = [line.partition(b"\t")[0] for line in lines]
    assert keys == sorted(keys), "the parts must be sorted as a whole"
    return sorted(lines)


def lines_of(output: Path) -> list[bytes]:
    """All lines of all parts, in the order of the parts."""
    assert (output / "_SUCCESS").exists()
    parts = sorted(path for path in output.iterdir() if path.name != "_SUCCESS")
    assert [path.name for path in parts] == [f"part-{number:05d}" for number in range(len(parts))]
    return [line for path in parts for line in path.read_bytes().split(b"\n")[:-1]]


EXAMPLES = {
    "word count": Example(SPLIT_WORDS, COUNT, sorted),
    "inverted index": Example(INDEX_MAPPER, INDEX_REDUCER, with_files_in_order),
    "sort": Example("cat", "cat", by_key),
}
