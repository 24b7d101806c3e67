"""Data sets with file servers of the test's: what is not shown, and uploads that are interrupted."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from offerd import BadInput, OfferdError, Resources
from offerd.files_access import FilesAccess
from offerd_frameworks.mapreduce import blocks
from offerd_frameworks.mapreduce.describe import Describer
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.planner import Planner
from offerd_frameworks.mapreduce.splits import Piece, Split
from offerd_frameworks.mapreduce.transfer import Server
from offerd_frameworks.mapreduce.work import Attempt, Kind, Rules, Work

HOSTS = [blocks.Host("s1", "slave-1", FilesAccess("s1:5051"))]


def test_a_listing_that_does_not_show_all_is_not_taken_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(BadInput, match="3 blocks are too many, 2 are possible"):
        blocks.put("logs", [str(tmp_path / "f")], HOSTS, replicas=1, block_bytes=2)


def test_who_is_interrupted_uploads_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
