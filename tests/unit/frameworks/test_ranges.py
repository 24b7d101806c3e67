"""Partitions of sorted files: every line is in exactly one, and a key never in two."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd_frameworks.mapreduce import ranges

KEYS = st.binary(max_size=12).map(lambda key: key.replace(b"\n", b"x").replace(b"\t", b"y"))
LINES = st.lists(
    st.tuples(KEYS, st.binary(max_size=30).map(lambda value: value.replace(b"\n", b"x"))), max_size=200
)


def sorted_file(path: Path, pairs: list[tuple[bytes, bytes]]) -> list[bytes]:
    lines = [key + b"\t" + value + b"\n" for key, value in sorted(pairs, key=lambda pair: pair[0])]
    path.write_bytes(b"".join(lines))
    return lines


def cut(content: bytes, index: ranges.Index, boundaries: list[bytes]) -> list[int]:
    """Where the partitions of a sorted file begin, and where the last ends."""

    def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    size = len(content)
    return [0, *(ranges.find(index, size, boundary, read) for boundary in boundaries), size]


@given(files=st.lists(LINES, min_size=1, max_size=4), parts=st.integers(1, 7))
def test_partitions_hold_every_line_once_in_order_and_keep_keys_together(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[bytes, bytes]]], parts: int
) -> None:
    base = tmp_path_factory.mktemp("ranges")
    indexes, sampled = [], []
    for number, pairs in enumerate(files):
        path = base / str(number)
        lines = sorted_file(path, pairs)
        with path.open("rb") as file:
            index = ranges.unpack(ranges.pack(ranges.make_index(file)))
        indexes.append((path.read_bytes(), index, lines))
        sampled += ranges.samples(index, path.stat().st_size, 20)
    boundaries = ranges.choose_boundaries(sampled, parts)
    assert len(boundaries) == parts - 1
    assert boundaries == sorted(boundaries)
    for content, index, lines in indexes:
        cuts = cut(content, index, boundaries)
        pieces = [content[start:end] for start, end in itertools.pairwise(cuts)]
        assert b"".join(pieces) == b"".join(lines)
        for piece, low, high in zip(pieces, [b"", *boundaries], [*boundaries, None], strict=True):
            keys = [ranges.key_of(line) for line in io.BytesIO(piece)]
            assert all(low <= key and (high is None or key < high) for key in keys)


def test_boundaries_make_even_parts(tmp_path: Path) -> None:
    lines = sorted_file(tmp_path / "f", [(b"%06d" % number, b"x" * 20) for number in range(20_000)])
    with (tmp_path / "f").open("rb") as file:
        index = ranges.make_index(file)
    size = sum(map(len, lines))
    boundaries = ranges.choose_boundaries(ranges.samples(index, size, 100), 4)
    cuts = cut((tmp_path / "f").read_bytes(), index, boundaries)
    parts = [end - start for start, end in itertools.pairwise(cuts)]
    assert max(parts) < 1.1 * size / 4


def test_a_key_of_most_lines_has_a_partition_of_its_own() -> None:
    assert ranges.choose_boundaries([(b"a", 10), (b"the", 80), (b"z", 10)], 4) == [b"the", b"the", b"z"]


def test_boundaries_exist_even_without_any_output() -> None:
    assert ranges.choose_boundaries([], 3) == [b"", b""]
