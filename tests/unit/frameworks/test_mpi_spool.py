"""The queue in a directory: jobs survive their server, and each is served once."""

from __future__ import annotations

from pathlib import Path

import pytest

import offerd
from offerd_frameworks.mpi.core.job import Job, Outcome
from offerd_frameworks.mpi.spool import FOLLOW_BYTES, Spool

JOB = Job(
    "hello-1",
    ("./hello", "a b"),
    4,
    offerd.Resources.of(cpus="0.5", mem="64M"),
    2,
    30.0,
    1,
    "/",
    {"A": "b"},
    0o027,
)


def test_a_job_comes_out_as_it_was_put_in(tmp_path: Path) -> None:
    Spool(tmp_path / "new" / "queue").put(JOB)
    assert Spool(tmp_path / "new" / "queue").take() == [JOB]


def test_a_job_is_taken_once_and_again_by_the_next_server_until_it_has_ended(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(JOB)
    assert spool.take() == [JOB]
    assert spool.take() == []
    assert not spool.is_empty()
    successor = Spool(tmp_path)
    assert successor.take() == [JOB]
    successor.end("hello-1", Outcome(3, "rank 1 exited with status 3", hosts=("slave-1:4",)))
    assert Spool(tmp_path).take() == []
    assert spool.is_empty()
    assert spool.outcome("hello-1") == Outcome(3, "rank 1 exited with status 3", hosts=("slave-1:4",))


def test_jobs_are_taken_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    names = ["c", "a", "b"]
    for name in names:
        Spool(tmp_path).put(Job(name, ("x",), 1, offerd.Resources.of(cpus=1)))
    assert [job.job_id for job in Spool(tmp_path).take()] == names


def test_a_job_that_cannot_be_read_is_ended_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.job").write_text('{"argv": ["x"]}')
    (tmp_path / "worse.job").write_text('{"argv": ["x"], "ranks": 1, "need": "cpus=1", "umask": 512}')
    spool = Spool(tmp_path)
    assert spool.take() == []
    worse = spool.outcome("worse")
    assert worse is not None
    assert worse.reason == "worse.job cannot be read: 512 is not a umask"
    outcome = spool.outcome("bad")
    assert outcome is not None
    assert outcome.exit_status == 2
    assert "bad.job" in outcome.reason


def test_only_one_serves(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    with first.served():
        assert second.is_served()
        with pytest.raises(offerd.BadInput, match="served already"), second.served():
            pass
    assert not second.is_served()


def test_the_serving_process_is_woken(tmp_path: Path) -> None:
    server = Spool(tmp_path)
    Spool(tmp_path).wake()  # nobody serves: nothing happens
    with server.served():
        Spool(tmp_path).put(JOB)
        server.wait()
        assert server.take() == [JOB]


def test_a_jobs_output_is_followed_to_its_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin("hello-1")
    spool.write("hello-1", b"of an attempt that was lost", is_stderr=False)
    spool.begin("hello-1")
    spool.write("hello-1", b"out\n", is_stderr=False)
    spool.write("hello-1", b"err\n", is_stderr=True)
    spool.end("hello-1", Outcome(0))
    assert list(Spool(tmp_path).follow("hello-1")) == [(False, b"out\n"), (True, b"err\n")]


def test_a_line_that_comes_in_parts_is_followed_before_anything_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin("hello-1")
    followed = Spool(tmp_path).follow("hello-1")
    spool.write("hello-1", b"[1] part, ", is_stderr=False)
    spool.write("hello-1", b"[0] other\n", is_stderr=True)
    assert next(followed) == (False, b"[1] part, ")
    spool.write("hello-1", b"and its end\n", is_stderr=False)
    assert [next(followed), next(followed)] == [(False, b"and its end\n"), (True, b"[0] other\n")]
    long = b"x" * (2 * FOLLOW_BYTES)
    spool.write("hello-1", long + b"\n", is_stderr=False)
    spool.end("hello-1", Outcome(0))
    parts = list(followed)
    assert b"".join(data for _, data in parts) == long + b"\n"
    assert max(len(data) for _, data in parts) == FOLLOW_BYTES


def test_an_incomplete_line_of_an_earlier_attempt_is_completed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin("hello-1")
    spool.write("hello-1", b"[0] cut off", is_stderr=False)
    followed = Spool(tmp_path).follow("hello-1")
    assert next(followed) == (False, b"[0] cut off")
    spool.begin("hello-1")
    spool.write("hello-1", b"[0] again\n", is_stderr=False)
    assert [next(followed), next(followed)] == [(False, b"\n"), (False, b"[0] again\n")]
    spool.end("hello-1", Outcome(0))
    assert list(followed) == []


def test_another_attempt_is_followed_from_its_beginning_however_much_the_first_one_wrote(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    followed = Spool(tmp_path).follow("hello-1")
    for written in (b"first, and long\n", b"second\n", b"third, and longer still\n"):
        spool.begin("hello-1")
        spool.write("hello-1", written, is_stderr=False)
        assert next(followed) == (False, written)
    spool.end("hello-1", Outcome(0))
    assert list(followed) == []


def test_an_output_that_was_emptied_is_followed_from_its_beginning(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin("hello-1")
    spool.write("hello-1", b"before\n", is_stderr=False)
    followed = Spool(tmp_path).follow("hello-1")
    assert next(followed) == (False, b"before\n")
    (tmp_path / "hello-1.out").write_bytes(b"now\n")
    assert next(followed) == (False, b"now\n")
    spool.end("hello-1", Outcome(0))
    assert list(followed) == []


def test_a_cancellation_is_reported_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    Spool(tmp_path).cancel("hello-1")
    assert spool.cancelled() == ["hello-1"]
    assert spool.cancelled() == []
