"""Python functions as mapper, combiner and reducer: this runs on a slave, as `python -m offerd_frameworks.mapreduce.functions`.

It speaks the streaming protocol: one pair a line, with key and value as `codec` writes them. What a reducer yields is the job's
output: strings and bytes as they are, other types as JSON. Bytes of a line that are not UTF-8 are surrogates in its string (PEP
383), and bytes again in the output.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from offerd_frameworks.mapreduce.codec import carried, decode, encode_key, encode_value
from offerd_frameworks.mapreduce.compressed import is_compressed, open_plain
from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.map_task import PIECES
from offerd_frameworks.mapreduce.streaming import SHORTER, WaitingOutput, leftovers

PICKLE = "functions.pickle"
ENDED = "functions.ended"
"""Made when everything has been written. A function may end its process earlier with status 0 (`sys.exit()`, `os._exit(0)`)."""
COMBINE_AFTER = 200_000
"""Combine when so many values are held."""
MOST_KEYS = 100_000
"""If more keys than this are held after combining, write all."""
BATCH = 10_000

Pair = tuple[Any, Any]

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=msgspec.to_builtins).encode
TEXT = ("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of the job's author. `map(line)`, `combine(key, values)` and `reduce(key, values)` yield pairs."""

    map: Callable[[str], Iterable[Pair]]
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None


def run_map(functions: Functions, lines: Iterable[bytes], output: BinaryIO) -> None:
    """Write all pairs of all lines, combined as far as memory allows."""
    pairs = itertools.chain.from_iterable(functions.map(line.decode(*TEXT).rstrip("\n")) for line in lines)
    if functions.reduce is None:
        _write(output, map(_text_line, pairs))
    elif functions.combine is None:
        _write(output, map(_pair_line, pairs))
    else:
        _write(output, map(_pair_line, _combined(functions.combine, pairs)))


def read_pieces(pieces: Iterable[tuple[str, str, int, int, int]]) -> Iterator[bytes]:
    """The lines of all pieces of a split. The environment names the file of each while it is read.

    Raises `CommandFailed` if a piece is incomplete.
    """
    for path, name, start, length, offset in pieces:
        os.environ["mapreduce_map_input_file"] = name  # noqa: SIM112 (Hadoop's names are so)
        os.environ["mapreduce_map_input_start"] = str(start)  # noqa: SIM112
        os.environ["mapreduce_map_input_length"] = str(length)  # noqa: SIM112
        if is_compressed(name):
            with open_plain(path, leftovers, name) as plain:
                yield from plain
            continue
        with open(path, "rb") as file:
            file.seek(offset)
            left = length
            while left and (line := file.readline(left)):
                left -= len(line)
                yield line
            if left:
                raise CommandFailed(SHORTER)


def run_reduce(functions: Functions, lines: Iterable[bytes], output: BinaryIO) -> None:
    """Write the pairs of every group of lines with the same key."""
    assert functions.reduce is not None
    _write(output, map(_text_line, _reduced(functions.reduce, lines)))


def _alone(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, in this process only. A child that a function has forked, and that returns here, must read none: this process
    would miss them.
    """
    own_pid = os.getpid()
    for line in lines:
        yield line
        if os.getpid() != own_pid:
            os._exit(0)


def _combined(
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]], pairs: Iterable[Pair]
) -> Iterator[Pair]:
    groups: dict[bytes, tuple[Any, list[Any]]] = {}  # by the encoded key: 1, 1.0 and True are three keys
    held = 0
    for key, value in pairs:
        _hold(groups, key, value)
        held += 1
        if held >= COMBINE_AFTER:
            combined = [pair for same, values in groups.values() for pair in combine(same, iter(values))]
            groups = {}
            if len(combined) > MOST_KEYS:
                yield from combined
            else:
                for combined_key, combined_value in combined:
                    _hold(groups, combined_key, combined_value)
            held = 0
    for same, values in groups.values():
        yield from combine(same, iter(values))


def _hold(groups: dict[bytes, tuple[Any, list[Any]]], key: Any, value: Any) -> None:
    written = encode_key(key)
    if (group := groups.get(written)) is None:
        group = groups[written] = (carried(key), [])
    group[1].append(carried(value))


def _reduced(
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]], lines: Iterable[bytes]
) -> Iterator[Pair]:
    pairs = (line.rstrip(b"\n").partition(b"\t") for line in lines)
    for key, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        yield from reduce(decode(key), (decode(value) for _, _, value in group))


def _pair_line(pair: Pair) -> bytes:
    key, value = pair
    return encode_key(key) + b"\t" + encode_value(value) + b"\n"


def _text_line(pair: Pair) -> bytes:
    key, value = pair
    return _text(key) + b"\t" + _text(value) + b"\n"


def _text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else _json(value)).encode(*TEXT)


def _write(output: BinaryIO, lines: Iterator[bytes]) -> None:
    while batch := list(itertools.islice(lines, BATCH)):
        output.write(b"".join(batch))
    output.flush()


def count(group: str, name: str, amount: int = 1) -> None:
    """Add to a counter of the job, from within `map`, `combine` or `reduce`."""
    sys.stderr.write(f"reporter:counter:{group},{name},{amount}\n")


def status(text: str) -> None:
    """Set the text that says what this task is doing."""
    sys.stderr.write(f"reporter:status:{' '.join(text.split())}\n")


def main() -> None:
    """Run `map` or `reduce`, from standard input to standard output. What the functions print goes to the task's log."""
    import cloudpickle

    own_pid, ended = os.getpid(), os.path.abspath(ENDED)
    target = os.dup(1)
    os.register_at_fork(after_in_child=lambda: _turn_away(target))
    try:
        with io.BufferedWriter(WaitingOutput(target)) as output:
            os.dup2(2, 1)
            with open(PICKLE, "rb") as file:
                functions: Functions = cloudpickle.load(file)
            if sys.argv[1] == "map":
                pieces = json.loads(os.environ[PIECES])
                run_map(functions, _alone(read_pieces(pieces)), output)
            else:
                run_reduce(functions, _alone(sys.stdin.buffer), output)
    except SystemExit as error:
        if os.getpid() != own_pid:
            raise
        traceback.print_exc()
        sys.exit(f"a function has called sys.exit({error.code!r}); it ends by returning")
    if os.getpid() == own_pid:
        os.close(os.open(ended, os.O_WRONLY | os.O_CREAT, 0o600))


def _turn_away(target: int) -> None:
    """In a child that a function has forked: discard the inherited output, which the parent will write."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, target, inheritable=False)
    os.close(null)


if __name__ == "__main__":
    main()
