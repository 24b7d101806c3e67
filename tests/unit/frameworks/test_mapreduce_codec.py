"""Keys and values of Python functions: a reduce gets values that are equal to those that a map yielded, of the same type."""

from __future__ import annotations

import fcntl
import io
import math
import os
import subprocess
import sys
import termios
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.cli import wait_until
from offerd_frameworks.mapreduce.codec import NotCarried, decode, encode_key, encode_value
from offerd_frameworks.mapreduce.functions import Functions, run_map, run_reduce

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # with lone surrogates
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), ANY_TEXT, st.binary(max_size=20)
)
HASHABLE = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=4).map(tuple) | st.frozensets(one, max_size=4), max_leaves=8
)
VALUES = st.recursive(
    SCALARS,
    lambda one: (
        st.lists(one, max_size=4)
        | st.dictionaries(HASHABLE, one, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.lists(one, max_size=4).map(tuple)
    ),
    max_leaves=8,
)


def types(value: Any, *, signs: bool = True) -> Any:
    """The types of everything inside, and the sign of a zero; of unordered values, by their parts."""
    if isinstance(value, tuple | list):
        return type(value), tuple(types(each, signs=signs) for each in value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset((types(each, signs=signs), each) for each in value)
    if isinstance(value, dict):
        return dict, tuple((types(key, signs=signs), types(each, signs=signs)) for key, each in value.items())
    return type(value), math.copysign(1, value) if signs and isinstance(value, float) else 0


@given(VALUES)
def test_a_value_comes_back_equal_and_of_its_type_in_one_line_without_a_tab(value: Any) -> None:
    written = encode_value(value)
    assert not set(written) & set(b"\t\n")
    assert decode(written) == value
    assert types(decode(written)) == types(value)


@given(HASHABLE, HASHABLE)
def test_equal_keys_of_one_type_are_one_key(one: Any, other: Any) -> None:
    assert decode(encode_key(one)) == one
    are_of_one_type = types(one, signs=False) == types(other, signs=False)
    assert (encode_key(one) == encode_key(other)) == (one == other and are_of_one_type)


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), ((1, 0.0), (1, -0.0)), ([-0.0], [0.0])])
def test_a_zero_is_one_key_whatever_its_sign(one: Any, other: Any) -> None:
    assert encode_key(one) == encode_key(other)
    assert decode(encode_key(one)) == other


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, 2**63, 2**64, -(2**70), -0.0, "\ud83d\ude00", "\udce9"]
)
def test_values_that_json_lacks_come_back_too(value: Any) -> None:
    assert (decode(encode_value(value)), types(decode(encode_value(value)))) == (value, types(value))


class Colour(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


@dataclass
class Thing:
    x: int


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Point(1), Thing(1), Counter("a"), Decimal(1), bytearray(b"x"), 1j, range(3), object()],
)
def test_a_type_that_would_not_come_back_is_refused_by_name(value: Any) -> None:
    for content in (value, [value], {"a": value}):
        with pytest.raises(NotCarried, match=type(value).__qualname__):
            encode_value(content)
    with pytest.raises(NotCarried, match=type(value).__qualname__):
        encode_key((value,))


@pytest.mark.parametrize("key", [{}, set(), ({1: 2},), [{1}]])
def test_unordered_values_cannot_be_keys(key: Any) -> None:
    with pytest.raises(NotCarried, match="cannot be a key"):
        encode_key(key)


def keep(key: Any, values: Iterator[Any]) -> Iterable[tuple[Any, Any]]:
    """A combiner that combines nothing."""
    for value in values:
        yield key, value


SEEN = [None, True, 1, 1.0, math.inf, "a", "\udce9", b"a", (1, "a"), [1, [2]], {"a": 1, 2: ()}, {1, 2}, 2**70]


@pytest.mark.parametrize("combine", [None, keep])
def test_a_reduce_gets_what_the_map_yielded_also_through_a_combiner(
    combine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd_frameworks.mapreduce.functions.COMBINE_AFTER", 5)
    got: list[tuple[Any, Any]] = []

    def everything(line: str) -> Iterable[tuple[Any, Any]]:
        changing: list[Any] = []
        for value in SEEN:
            yield ("value", value)
            changing.append(value)
            yield ("list", changing)
        for key in (True, 1, 1.0, "1", b"1", (1,), (1.0,), frozenset({1})):
            yield (key, "key")

    def note(key: Any, values: Iterator[Any]) -> Iterable[tuple[Any, Any]]:
        got.extend((key, value) for value in values)
        return ()

    mapped = io.BytesIO()
    run_map(Functions(everything, note, combine), [b"x\n"], mapped)
    run_reduce(Functions(everything, note), sorted(mapped.getvalue().splitlines(True)), io.BytesIO())
    values = [value for key, value in got if key == "value"]
    assert sorted(map(repr, values)) == sorted(map(repr, SEEN))
    lists = [value for key, value in got if key == "list"]
    assert sorted(map(len, lists)) == list(range(1, len(SEEN) + 1))
    assert len([key for key, value in got if value == "key"]) == 8
    assert len({(type(key), repr(key)) for key, value in got if value == "key"}) == 8


@pytest.mark.parametrize("reduces", [True, False])
def test_lines_keep_their_bytes(reduces: bool) -> None:
    def pairs(line: str) -> Iterable[tuple[str, str]]:
        yield line, line

    def pass_on(key: str, values: Iterator[str]) -> Iterable[tuple[str, str]]:
        yield key, "".join(values)

    every_byte = bytes(byte for byte in range(256) if byte not in b"\t\n")
    lines = [b"caf\xe8", b"caf\xe9", "é".encode(), b"\r", every_byte]
    functions = Functions(pairs, pass_on if reduces else None)
    mapped, reduced = io.BytesIO(), io.BytesIO()
    run_map(functions, [line + b"\n" for line in lines], mapped)
    if reduces:
        run_reduce(functions, sorted(mapped.getvalue().split(b"\n")[:-1]), reduced)
    found = (reduced if reduces else mapped).getvalue()
    assert sorted(found.split(b"\n")[:-1]) == sorted(line + b"\t" + line for line in lines)


def test_a_reducers_values_become_text_without_loss() -> None:
    def pairs(line: str) -> Iterable[tuple[int, Any]]:
        yield from enumerate([math.inf, -math.inf, b"\xff", "\udcff", (1, "\udcff"), 2**70])

    mapped = io.BytesIO()
    run_map(Functions(pairs), [b"x\n"], mapped)
    assert [line.split(b"\t")[1] for line in mapped.getvalue().split(b"\n")[:-1]] == [
        b"Infinity", b"-Infinity", b"\xff", b"\xff", b'[1,"\xff"]', b"1180591620717411303424",
    ]  # fmt: skip


def test_a_non_blocking_pipe_gets_all_that_a_program_yields(tmp_path: Path) -> None:
    lines = 20_000
    functions = Functions(lambda line: [(line, None)], lambda key, values: [(key, len(list(values)))])
    (tmp_path / "functions.pickle").write_bytes(cloudpickle.dumps(functions))
    (tmp_path / "lines").write_bytes(b"".join(encode_key(f"{n:0500d}") + b"\tnull\n" for n in range(lines)))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    capacity = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    words = [sys.executable, "-m", "offerd_frameworks.mapreduce.functions", "reduce"]
    with (
        (tmp_path / "lines").open("rb") as source,
        subprocess.Popen(words, cwd=tmp_path, stdin=source, stdout=writing) as program,
        os.fdopen(reading, "rb") as output,
    ):
        os.close(writing)
        held = array("i", [0])
        wait_until(
            lambda: not fcntl.ioctl(reading, termios.FIONREAD, held) and held[0] > capacity // 2, "much"
        )
        assert output.read().count(b"\n") == lines
    assert program.returncode == 0
