"""MapReduce on a real cluster by its Python interface: functions as jobs, and jobs that share a framework."""

from __future__ import annotations

import math
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import listing, wait_until
from helpers.texts import real_texts
from helpers.word_jobs import lines_of
from offerd import BadInput, OfferdError
from offerd_cli.local_cluster import LocalCluster
from offerd_frameworks import mapreduce
from offerd_frameworks.mapreduce import blocks, framework


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3, cpus="2", mem="1G", isolation="noop") as running:
        yield running


def test_a_block_is_read_from_afar_when_its_slave_has_no_room(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x\n" * 1000)
    hosts = blocks.hosts(cluster.address)
    blocks.put("far", [str(tmp_path / "in")], hosts[:1], replicas=1, block_bytes=400)
    try:
        with mapreduce.MapReduce(cluster.address) as framework:
            # Each map keeps its slave busy for longer than the others wait.
            job = mapreduce.Job(
                ("data:far",), str(tmp_path / "out"), "sleep 1; cat", "wc -l", cpus="2", delay_s=0.3
            )
            summary = framework.submit(job).result(60)
    finally:
        blocks.remove("far", hosts)
    assert summary.counters["remote maps"] > 0
    assert lines_of(tmp_path / "out") == [b"1000"]


def count(line: str) -> Iterator[tuple[str, int]]:
    mapreduce.count("Lines", "read")
    for word in line.split():
        yield word, 1


def add(word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield word, sum(counts)


def test_python_functions_count_words(cluster: LocalCluster, tmp_path: Path) -> None:
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    sources = [str(path) for path in real_texts()]
    summary = mapreduce.run(
        count, add, combine=add, input=sources, output=tmp_path / "out", reduces=2, master=cluster.address
    )
    counts: Counter[str] = Counter()
    lines = 0
    for path in sources:
        text = Path(path).read_text().split("\n")
        lines += len(text) - 1
        counts.update(word for line in text for word in line.split())
    assert sorted(lines_of(tmp_path / "out")) == sorted(f"{word}\t{n}".encode() for word, n in counts.items())
    assert summary.counters["Lines:read"] == lines


def test_lines_of_any_bytes_and_values_of_any_kind_come_to_a_reduce_as_they_were(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    def pairs(line: str) -> Iterator[tuple[str, object]]:
        yield line, math.inf
        yield line, (1, b"x")

    def show(key: str, values: Iterator[object]) -> Iterator[tuple[str, str]]:
        yield key, repr(sorted(values, key=repr))

    def count_letters(line: str) -> Iterator[tuple[str, object]]:
        yield "letters", Counter(line)

    (tmp_path / "f").write_bytes(b"caf\xe9\ncaf\xe8\n")
    where: dict[str, Any] = {"input": tmp_path / "f", "master": cluster.address}
    mapreduce.run(pairs, show, output=tmp_path / "out", **where)
    shown = b"\t[(1, b'x'), inf]"
    assert sorted(lines_of(tmp_path / "out")) == [b"caf\xe8" + shown, b"caf\xe9" + shown]
    with pytest.raises(
        OfferdError, match=r"a collections\.Counter would not come from map to reduce as it is"
    ):
        mapreduce.run(count_letters, show, output=tmp_path / "none", max_attempts=1, **where)


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_functions_that_were_changed_on_a_slave_are_not_run(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slave could do this, or a process that may write its files."""
    place, evil = framework._place, pickle.dumps(RunsCode(tmp_path / "ran"))

    def place_another(job_id: str, contents: dict[str, bytes], *rest: Any) -> Any:
        longer = {name: evil.ljust(len(content), b".") for name, content in contents.items()}
        return place(job_id, longer, *rest)

    monkeypatch.setattr(framework, "_place", place_another)
    (tmp_path / "f").write_text("a b\n")
    with pytest.raises(OfferdError, match="SHA-256"):
        mapreduce.run(
            lambda line: ((word, 1) for word in line.split()),
            input=tmp_path / "f",
            output=tmp_path / "out",
            master=cluster.address,
        )
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_jobs_of_one_framework_share_and_an_idle_one_holds_nothing(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("x\n" * 40)
    with mapreduce.MapReduce(cluster.address) as framework:
        handles = [
            framework.submit(
                mapreduce.Job(
                    (str(tmp_path / "in"),),
                    str(tmp_path / f"out{n}"),
                    "sleep 0.2; cat",
                    "wc -l",
                    block_bytes=4,
                )
            )
            for n in (1, 2)
        ]
        wait_until(
            lambda: all(2 <= handle.progress.maps_running <= 4 for handle in handles),
            "both jobs to run on their part of 6 cpus",
        )
        for n, handle in enumerate(handles, 1):
            handle.result(60)
            assert lines_of(tmp_path / f"out{n}") == [b"40"]

        def held() -> object:
            (found,) = [
                one for one in listing(cluster, "frameworks")["frameworks"] if one["name"] == "mapreduce"
            ]
            return found["used"] or found["offered"]

        wait_until(lambda: not held(), "the idle framework to hold nothing")
        with pytest.raises(BadInput, match="exists already"):
            framework.submit(mapreduce.Job((str(tmp_path / "in"),), str(tmp_path / "out1"), "cat", "cat"))


def test_a_slow_task_is_overtaken_by_a_copy(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x\n" * 8)
    mapper = 'case "$mapreduce_task_attempt_id" in *_m_000000_0) sleep 600;; esac; cat'
    with mapreduce.MapReduce(cluster.address) as framework:
        job = mapreduce.Job((str(tmp_path / "in"),), str(tmp_path / "out"), mapper, "wc -l", block_bytes=4)
        summary = framework.submit(job).result(60)
    assert lines_of(tmp_path / "out") == [b"8"]
    assert summary.counters["copies"] == 1
