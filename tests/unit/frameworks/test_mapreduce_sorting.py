"""A mapper's lines sorted by counting: the same bytes as from GNU sort, or GNU sort sorts them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd_frameworks.mapreduce import map_task
from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.sorting import EqualLines, Sorting
from offerd_frameworks.mapreduce.streaming import COMMANDS, Pump, Reporter, Stage, pipe

MUCH_BYTES = 1 << 20
LINES = st.lists(
    st.sampled_from([b"", b"a", b"a\t", b"a\t1", b"a\t2", b"a b", b"b", b"\x00", b"\xff\t", b"\t"])
)


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / COMMANDS).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def block(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def key(line: bytes) -> bytes:
    return line.partition(b"\t")[0]


@given(blocks=st.lists(LINES, max_size=6))
def test_counted_lines_come_out_as_from_a_stable_sort_by_key(blocks: list[list[bytes]]) -> None:
    counted = EqualLines(MUCH_BYTES)
    taken = [line for lines in blocks if counted.take(block(lines)) for line in lines]
    assert b"".join(counted.in_order()) == block(sorted(taken, key=key))
    assert sorted(b"".join(counted.as_they_came()).splitlines()) == sorted(taken)


@given(blocks=st.lists(LINES, max_size=6))
def test_lines_of_one_key_that_were_taken_are_all_the_same_line(blocks: list[list[bytes]]) -> None:
    counted = EqualLines(MUCH_BYTES)
    taken = {line for lines in blocks if counted.take(block(lines)) for line in lines}
    assert len({key(line) for line in taken}) == len(taken)


def test_lines_that_hardly_repeat_are_not_counted() -> None:
    assert not EqualLines(MUCH_BYTES).take(block([b"%d" % number for number in range(1000)]))
    assert EqualLines(MUCH_BYTES).take(block([b"%d" % (number % 100) for number in range(1000)]))


def test_no_more_memory_is_held_than_was_given() -> None:
    counted = EqualLines(100_000)
    number = 0
    while counted.take(block([b"%099d" % number] * 3)):
        number += 1
    assert 100 < number < 300


def task(**more: Any) -> dict[str, Any]:
    return {"combiner": "", "sort_bytes": 1 << 20, "job": {}, "environment": {}, **more}


def sorted_by_us(data: bytes, **more: Any) -> bytes:
    reading, writing = pipe()
    sorting = Sorting(task(**more), Reporter(), reading, "output")
    writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writing)
    os.close(writing)
    assert writer.stdin is not None
    writer.stdin.write(data[: 1 << 15])  # no more than a pipe holds, before anybody reads
    writer.stdin.flush()
    pump = Pump(sorting.run)
    writer.communicate(data[1 << 15 :])
    pump.wait()
    sorting.reap()
    pump.join()
    sorting.finish()
    return Path("output").read_bytes()


def sorted_by_gnu(data: bytes) -> bytes:
    words = ["sort", "-s", "-t", "\t", "-k1,1"]
    return subprocess.run(words, input=data, capture_output=True, check=True, env={"LC_ALL": "C"}).stdout


REPEATED = block([b"%d" % (number % 700) for number in range(50_000)])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(REPEATED, id="the same lines again and again"),
        pytest.param(REPEATED + b"the end", id="a last line without an end"),
        pytest.param(REPEATED.replace(b"\n", b"\t1\n"), id="the same keys with the same value"),
        pytest.param(REPEATED + REPEATED.replace(b"\n", b"\t1\n"), id="values that come late"),
        pytest.param(REPEATED.replace(b"\n", b"\t1\n") + b"7\t2\n5\n" * 9, id="a second value that comes late"),
        pytest.param(REPEATED + block([b"x%d" % number for number in range(99_999)]), id="new ones that come late"),
        pytest.param(REPEATED + b"long " * 100_000 + b"\n" + REPEATED, id="a very long line"),
        pytest.param(b"long " * 100_000, id="nothing but a very long line"),
    ],
)  # fmt: skip
def test_counting_gives_the_same_bytes_as_gnu_sort(data: bytes) -> None:
    assert sorted_by_us(data) == sorted_by_gnu(data)


def test_repeated_lines_need_no_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sorted_by_gnu(REPEATED)
    monkeypatch.setattr("offerd_frameworks.mapreduce.sorting.sort_words", lambda *_, **__: ["false"])
    assert sorted_by_us(REPEATED) == expected


@pytest.mark.parametrize("data", [REPEATED, block([b"%d" % number for number in range(50_000)])])
def test_a_combiner_gets_them_sorted_and_what_it_writes_is_sorted_too(data: bytes) -> None:
    assert sorted_by_us(data, combiner="uniq | tac") == block(sorted(set(data.split(b"\n")) - {b""}))


def map_all(sandbox: Path, mapper: str, **more: Any) -> None:
    (sandbox / "in").write_bytes(b"x\n")
    what = task(
        mapper=mapper, reads_pieces=False, pieces=[[str(sandbox / "in"), 0, 2, 0]], block="", places=[], reduces=1,
        **more,
    )  # fmt: skip
    map_task.run(what, Reporter())


@pytest.mark.parametrize(
    "mapper",
    [
        "seq 900000",
        "yes | head -n 900000",
        "$OFFERD_PYTHON -c 'for number in range(900000): print(number)'",  # hears of a broken pipe, and ends with status 1
        "trap '' PIPE; seq 900000",
    ],
)
def test_a_full_disk_is_reported_rather_than_the_mapper_that_it_cuts_off(
    mapper: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERD_PYTHON", sys.executable)
    (sandbox / "output").symlink_to("/dev/full")
    # Its spills have no place either, so it ends before it has read all.
    monkeypatch.setattr(
        "offerd_frameworks.mapreduce.sorting.sort_words",
        lambda *_, **__: ["sh", "-c", "head -c 100000 > output; echo more >&2; exit 2"],
    )
    with pytest.raises((CommandFailed, OSError)) as caught:
        map_all(sandbox, mapper)
    assert os.strerror(errno.ENOSPC) in str(caught.value)


@pytest.mark.parametrize("combiner", ["", "uniq"])
@pytest.mark.parametrize("data", ["yes | head -n 1000", "seq 100000"])
def test_an_error_of_the_task_is_never_an_empty_output(
    data: str, combiner: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: EqualLines) -> Iterator[bytes]:
        raise MemoryError
        yield b""

    monkeypatch.setattr(EqualLines, "in_order", fails)
    monkeypatch.setattr(EqualLines, "as_they_came", fails)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(MemoryError):
        map_all(sandbox, data, combiner=combiner)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("data", ["yes | head -n 1000", "seq 100000"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_program_that_cannot_be_started_ends_those_that_were_started(
    data: str, number: int, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    class Failing(Stage):
        def __init__(self, what: str, *more: Any, **options: Any) -> None:
            if len(started) == number:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            super().__init__(what, *more, **options)
            started.append(what)

    monkeypatch.setattr("offerd_frameworks.mapreduce.sorting.Stage", Failing)
    before = set(os.listdir("/proc/self/fd"))
    if number == 3 or (number == 2 and data.startswith("yes")):  # there are no more than these
        map_all(sandbox, data, combiner="uniq")
    else:
        with pytest.raises(BlockingIOError):
            map_all(sandbox, data, combiner="uniq")
    assert set(os.listdir("/proc/self/fd")) == before
