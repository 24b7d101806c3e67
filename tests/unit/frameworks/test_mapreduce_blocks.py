"""Data sets on file servers of the test: incomplete listings, and interrupted uploads."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from offerd import BadInput, OfferdError, Resources
from offerd.files_access import FilesAccess
from offerd_frameworks.mapreduce import blocks, digests, task
from offerd_frameworks.mapreduce.describe import Describer
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.planner import Planner
from offerd_frameworks.mapreduce.report import read_report
from offerd_frameworks.mapreduce.splits import Piece, Split
from offerd_frameworks.mapreduce.transfer import Server
from offerd_frameworks.mapreduce.work import Attempt, Kind, Rules, Work

HOSTS = [blocks.Host("s1", "slave-1", FilesAccess("s1:5051"))]


def test_an_incomplete_listing_is_not_taken_for_a_complete_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object) -> bytes:
        return json.dumps({"entries": [{"name": "block-00000"}], "truncated": True}).encode()

    monkeypatch.setattr(Server, "_request", answer)
    for look in (lambda: blocks.find("logs", HOSTS), lambda: blocks.names(HOSTS)):
        with pytest.raises(OfferdError, match=r"s1:5051 holds more in /data/.* than it lists"):
            look()


def test_a_set_of_more_blocks_than_are_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "find", lambda *_: None)
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 2)
    (tmp_path / "f").write_text("x\n" * 3)
    with pytest.raises(BadInput, match="3 blocks are too many: at most 2 are possible"):
        blocks.put("logs", [str(tmp_path / "f")], HOSTS, replicas=1, block_bytes=2)


def test_an_interrupt_ends_the_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = threading.Event()
    put: list[str] = []

    def first_is_quick(_server: Server, path: str, _content: bytes) -> None:
        put.append(path)
        if not path.endswith("00000"):
            interrupted.wait(10)

    def interrupt(_done: int, _total: int) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "find", lambda *_: None)
    monkeypatch.setattr(Server, "put", first_is_quick)
    monkeypatch.setattr(Server, "delete", lambda *_: True)
    (tmp_path / "f").write_text("x\n" * 200)
    with pytest.raises(KeyboardInterrupt):
        blocks.put("logs", [str(tmp_path / "f")], HOSTS, replicas=1, block_bytes=2, progress=interrupt)
    assert len(put) < 150


def test_two_jobs_of_one_program_and_minute_have_different_ids() -> None:
    def variables() -> dict[str, Any]:
        describer = Describer("j", Job(("f",), "out", "cat"), {}, [], "", lambda _: FilesAccess())
        work = Work(Kind.MAP, 0, Split((Piece("f", 0, 4, 0),)))
        attempt = Attempt("j.m00000.0", 0, work, "s1", "slave-1", "s1:5051", 60.0, 0.0, None)
        planner = Planner()
        state = planner.submit("j", Rules(resources=Resources(), reduces=0), [], 0.0)
        return describer._variables(state, attempt)

    first, second = variables(), variables()
    for name in ("mapreduce_job_id", "mapreduce_task_id", "mapreduce_task_attempt_id"):
        assert first[name] != second[name]


@pytest.mark.parametrize("name", ["/in/caf\udce9", "/in/é", "/in/\udcff\t"])
def test_a_manifest_names_files_of_any_bytes(name: str) -> None:
    piece = Piece(name, 0, 2, 0)
    data_set = blocks.DataSet("s", 2, 1, 1.0, [blocks.Block("block-00000", 2, "0" * 64, [piece])])
    read = blocks._read_manifest("s", blocks._manifest(data_set))
    assert [Piece(*found) for found in read.blocks[0].pieces] == [piece]


def test_a_name_that_no_file_can_have_is_refused_in_a_manifest() -> None:
    piece = {"name": "block-00000", "bytes": 2, "sha256": "0" * 64, "pieces": [["\0\u4e00", 0, 2, 0]]}
    with pytest.raises(OfferdError, match="cannot be read"):
        blocks._read_manifest(
            "s", json.dumps({"bytes": 2, "replicas": 1, "created_s": 1.0, "blocks": [piece]}).encode()
        )


def test_an_error_with_a_file_of_any_name_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    what = {
        "id": "t", "key": "k", "kind": "map", "set": "job-j", "data": "/data/@", "files": {}, "shelves": [], "block": "",
        "pieces": [["/no/caf\udce9", 0, 2, 0]], "places": [], "reduces": 0, "job": {}, "environment": {},
    }  # fmt: skip
    for variable, value in task.pack(what).items():
        monkeypatch.setenv(variable, value)
    assert task.main() == task.EXIT_FAILED
    report = read_report(digests.unseal((tmp_path / task.REPORT).read_bytes(), "k", "it"))
    assert report["error"].startswith(r"this slave cannot read /no/caf\udce9")
