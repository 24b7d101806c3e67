"""Python functions as mapper, combiner and reducer: what runs on a slave, `python -m offerd_frameworks.mapreduce.functions`.

It speaks the streaming protocol: keys and values travel as JSON, one pair a line, so that any key of numbers, strings and
lists of them sorts and groups as itself. What a reducer yields is the job's output: strings as they are, the rest as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.map_task import PIECES
from offerd_frameworks.mapreduce.streaming import SHORTER

PICKLE = "functions.pickle"
COMBINE_AFTER = 200_000
"""Values held before they are combined."""
MOST_KEYS = 100_000
"""Keys held when that was done; with more, all are written."""
BATCH = 10_000

Pair = tuple[Any, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Functions:
    """What a job's author wrote. `map(line)` yields pairs; `combine(key, values)` and `reduce(key, values)` do, too."""

    map: Callable[[str], Iterable[Pair]]
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None


def run_map(functions: Functions, lines: Iterable[bytes], output: BinaryIO) -> None:
    """All pairs of all lines, combined as far as memory holds them."""
    pairs = itertools.chain.from_iterable(
        functions.map(line.decode(errors="replace").rstrip("\n")) for line in lines
    )
    if functions.reduce is None:
        _write(output, map(_text_line, pairs))
    elif functions.combine is None:
        _write(output, map(_json_line, pairs))
    else:
        _write(output, map(_json_line, _combined(functions.combine, pairs)))


def read_pieces(pieces: Iterable[tuple[str, str, int, int, int]]) -> Iterator[bytes]:
    """The lines of all pieces of a split; meanwhile the environment says which file they are from.

    Raises `CommandFailed` where a piece is not all there.
    """
    for path, name, start, length, offset in pieces:
        os.environ["mapreduce_map_input_file"] = name  # noqa: SIM112 (Hadoop's names are so)
        os.environ["mapreduce_map_input_start"] = str(start)  # noqa: SIM112
        os.environ["mapreduce_map_input_length"] = str(length)  # noqa: SIM112
        with open(path, "rb") as file:
            file.seek(offset)
            left = length
            while left and (line := file.readline(left)):
                left -= len(line)
                yield line
            if left:
                raise CommandFailed(SHORTER)


def run_reduce(functions: Functions, lines: Iterable[bytes], output: BinaryIO) -> None:
    """The pairs of every group of lines with one key."""
    assert functions.reduce is not None
    _write(output, map(_text_line, _reduced(functions.reduce, lines)))


def _combined(
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]], pairs: Iterable[Pair]
) -> Iterator[Pair]:
    groups: dict[Any, list[Any]] = {}
    held = 0
    for key, value in pairs:
        if (values := groups.get(key)) is None:
            groups[key] = [value]
        else:
            values.append(value)
        held += 1
        if held >= COMBINE_AFTER:
            combined = [pair for group in groups.items() for pair in combine(group[0], iter(group[1]))]
            groups = {}
            if len(combined) > MOST_KEYS:
                yield from combined
            else:
                for combined_key, combined_value in combined:
                    groups.setdefault(combined_key, []).append(combined_value)
            held = 0
    for key, values in groups.items():
        yield from combine(key, iter(values))


def _reduced(
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]], lines: Iterable[bytes]
) -> Iterator[Pair]:
    pairs = (line.rstrip(b"\n").partition(b"\t") for line in lines)
    for key, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        yield from reduce(_hashable(_decode(key)), (_decode(value) for _, _, value in group))


def _hashable(key: Any) -> Any:
    """Tuples travel as JSON's lists."""
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _json_line(pair: Pair) -> bytes:
    return _encode(pair[0]) + b"\t" + _encode(pair[1]) + b"\n"


def _text_line(pair: Pair) -> bytes:
    return _text(pair[0]) + b"\t" + _text(pair[1]) + b"\n"


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else _encode(value)


def _write(output: BinaryIO, lines: Iterator[bytes]) -> None:
    while batch := list(itertools.islice(lines, BATCH)):
        output.write(b"".join(batch))
    output.flush()


def count(group: str, name: str, amount: int = 1) -> None:
    """Add to a counter of the job, from within `map`, `combine` or `reduce`."""
    sys.stderr.write(f"reporter:counter:{group},{name},{amount}\n")


def status(text: str) -> None:
    """Say what this task is doing."""
    sys.stderr.write(f"reporter:status:{' '.join(text.split())}\n")


def main() -> None:
    """`map` or `reduce`, from standard input to standard output."""
    import cloudpickle

    with open(PICKLE, "rb") as file:
        functions: Functions = cloudpickle.load(file)
    if sys.argv[1] == "map":
        run_map(functions, read_pieces(json.loads(os.environ[PIECES])), sys.stdout.buffer)
    else:
        run_reduce(functions, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
