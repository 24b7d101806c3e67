"""The scheduler between a driver and file servers of the test: parts are saved while jobs end and slaves die."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import offerd
from offerd import TaskState
from offerd.files_access import FilesAccess
from offerd.ids import ContainerID, OfferID, SlaveID, TaskID
from offerd_frameworks.mapreduce import digests
from offerd_frameworks.mapreduce import scheduler as scheduling
from offerd_frameworks.mapreduce.describe import Describer
from offerd_frameworks.mapreduce.failures import TransferError
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.output import SUCCESS, OutputDirectory
from offerd_frameworks.mapreduce.report import Said
from offerd_frameworks.mapreduce.scheduler import MapReduceScheduler, Running
from offerd_frameworks.mapreduce.splits import Piece, Split
from offerd_frameworks.mapreduce.transfer import Server

REPORT: dict[str, Any] = {
    "output_bytes": 4,
    "samples": [["k", 4]],
    "output_sha256": digests.of_bytes(b"k\tv\n"),
    "index_sha256": digests.of_bytes(b""),
}


class LaterPool(Executor):
    """A pool that does its work when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, work: Callable[..., Any], /, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                result = work()
            except (OSError, TransferError) as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.waiting.append(run)
        return future


class FakeDriver:
    """Notes its calls."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.all_launched: list[str] = []
        self.launched: list[str] = []
        self.killed: list[str] = []
        self.unsendable: set[str] = set()

    def files(self, slave_id: SlaveID) -> FilesAccess:
        return FilesAccess(f"{slave_id}:5051")

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        self.soon.append(partial(function, *arguments))

    def reply_to_offer(self, _offer: str, tasks: list[offerd.TaskInfo], _refusal_s: float = 0.0) -> None:
        if any(map(self.fault, tasks)):
            raise offerd.MessageTooLarge("too large")
        self.all_launched += [task.task_id for task in tasks]
        self.launched += [task.task_id for task in tasks if not task.task_id.startswith("clean-")]

    def set_filters(self, filters: offerd.Filters) -> None:
        self.filters = filters

    def kill_task(self, task_id: str, _grace_s: float) -> None:
        self.killed.append(task_id)

    def fault(self, task: offerd.TaskInfo) -> str:
        return "too large" if task.task_id in self.unsendable else ""

    def fits_message(self, _tasks: object) -> bool:
        return True

    def decline_offer(self, *_: object) -> None: ...
    def revive_offers(self) -> None: ...
    def set_needs_offers(self, _wanted: bool) -> None: ...


class Site:
    """A job of one map and one reduce that has come as far as the reduce's output, which is not fetched yet."""

    def __init__(self, base: Path) -> None:
        self.pool, self.fake = LaterPool(), FakeDriver()
        self.driver = cast(offerd.SchedulerDriver, self.fake)
        self.questions = LaterPool()
        self.scheduler = MapReduceScheduler(lambda _: self.driver, self.pool, self.questions)
        self.base, self.jobs = base, 0
        self.offers = 0

    def submit(self, name: str) -> Running:
        job = Job(("f",), str(self.base / name), "cat", "cat", speculate=False)
        running = Running(
            job_id=name,
            job=job,
            splits=[Split((Piece("f", 0, 4, 0),))],
            output=OutputDirectory(job.output),
            describer=Describer(name, job, {}, [], "/data/@", self.scheduler.access),
            cluster_cpus=1.0,
            forget_files=lambda: None,
        )
        self.scheduler.add(self.driver, running)
        return running

    def offer(self, slave: str) -> str:
        """The one task that is launched on it."""
        before = len(self.fake.launched)
        self.offers += 1
        offer = offerd.Offer(
            OfferID(f"o{self.offers}"),
            SlaveID(slave),
            slave,
            offerd.Resources.of(cpus="1.5", mem="1G"),
            {"cpus": 1500, "mem": 1 << 30},
            60.0,
            files_address=f"{slave}:5051",
        )
        self.scheduler.resource_offers(self.driver, [offer])
        return "".join(self.fake.launched[before:])

    def finish(self, task_id: str) -> None:
        self.status(task_id, TaskState.FINISHED)
        self.do(self.pool.waiting.pop(0))  # the report

    def status(self, task_id: str, state: TaskState) -> None:
        self.scheduler.status_update(self.driver, offerd.TaskStatus(TaskID(task_id), state))

    def do(self, work: Callable[[], None]) -> None:
        """Do it in the pool, and then in the driver's thread: an error there ends all jobs."""
        work()
        while self.fake.soon:
            self.fake.soon.pop(0)()

    def run(self) -> None:
        """Do everything that waits now, and everything that follows from it."""
        while self.pool.waiting:
            self.do(self.pool.waiting.pop(0))

    def start(self, task_id: str) -> None:
        status = offerd.TaskStatus(TaskID(task_id), TaskState.RUNNING, container_id=ContainerID("c1"))
        self.scheduler.status_update(self.driver, status)

    def until_the_reduce_has_ended(self, name: str, slave: str = "s1") -> Running:
        running = self.submit(name)
        self.finish(self.offer("s1"))
        self.finish(self.offer(slave))
        return running


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    def copy(_server: Server, _path: str, target: int, *_: int) -> int:
        return os.write(target, b"k\tv\n")

    monkeypatch.setattr(scheduling, "_report", lambda *_: dict(REPORT))
    monkeypatch.setattr(Server, "copy", copy)
    return Site(tmp_path)


def test_an_output_is_whole_and_nothing_else_is_left(site: Site, tmp_path: Path) -> None:
    running = site.until_the_reduce_has_ended("out")
    site.run()
    running.done.result(0)
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(tmp_path / "out")) == [SUCCESS, "part-00000"]
    assert (tmp_path / "out" / "part-00000").read_bytes() == b"k\tv\n"


@pytest.mark.parametrize("outcome", ["saved", "lost", "full"])
def test_a_job_that_is_cancelled_while_a_part_is_saved_does_not_touch_the_others(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    running = site.until_the_reduce_has_ended("out")
    other = site.submit("other")
    saving = site.pool.waiting.pop(0)
    site.scheduler.cancel(site.driver, "out")

    def copy(_server: Server, _path: str, target: int, *_: int) -> int:
        if outcome != "saved":
            raise TransferError("no route") if outcome == "lost" else OSError(28, "No space left on device")
        return 4

    with monkeypatch.context() as patched:
        patched.setattr(Server, "copy", copy)
        site.do(saving)
    site.run()
    with pytest.raises(offerd.OfferdError, match="cancelled"):
        running.done.result(0)
    site.finish(site.offer("s1"))
    site.finish(site.offer("s1"))
    site.run()
    other.done.result(0)
    assert os.listdir(tmp_path) == ["other"]


def test_a_part_that_was_saved_although_its_slave_died_is_not_made_again(site: Site, tmp_path: Path) -> None:
    running = site.until_the_reduce_has_ended("out", "s2")
    site.scheduler.slave_lost(site.driver, "s2")
    again = site.offer("s1")
    assert again == "out.r00000.1"
    site.run()
    running.done.result(0)
    assert again in site.fake.killed
    site.status(again, TaskState.FINISHED)
    site.run()
    assert (tmp_path / "out" / "part-00000").read_bytes() == b"k\tv\n"


def test_a_slave_that_was_lost_is_not_waited_for_to_be_cleaned(site: Site) -> None:
    site.until_the_reduce_has_ended("out", "s2")
    site.scheduler.slave_lost(site.driver, "s2")
    site.run()
    assert site.offer("s1") == ""  # where there is only something to remove
    for task_id in [task_id for task_id in site.fake.all_launched if task_id.startswith("clean-")]:
        site.status(task_id, TaskState.FINISHED)
    assert site.scheduler.is_idle


def test_an_attempt_that_was_overtaken_while_it_was_saved_spoils_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = site.until_the_reduce_has_ended("out", "s2")
    first = site.pool.waiting.pop(0)
    site.scheduler.slave_lost(site.driver, "s2")
    site.finish(site.offer("s1"))
    site.do(site.pool.waiting.pop(0))  # the second attempt's part is there

    def cut_off(_server: Server, _path: str, target: int, *_: int) -> int:
        os.write(target, b"k")
        raise TransferError("no route")

    monkeypatch.setattr(Server, "copy", cut_off)
    site.do(first)
    site.run()
    running.done.result(0)
    assert (tmp_path / "out" / "part-00000").read_bytes() == b"k\tv\n"
    assert os.listdir(tmp_path) == ["out"]


def test_a_part_of_another_size_than_its_task_reported_is_made_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = site.until_the_reduce_has_ended("out")
    with monkeypatch.context() as patched:
        patched.setattr(Server, "copy", lambda *_: 3)
        site.run()
    assert not running.done.done()
    assert site.offer("s1") == "out.r00000.1"


def test_a_disk_that_is_full_ends_the_job_with_the_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    running = site.until_the_reduce_has_ended("out")
    monkeypatch.setattr(Server, "copy", is_full)
    site.run()
    with pytest.raises(offerd.OfferdError, match="cannot write the output: No space left"):
        running.done.result(0)


@pytest.mark.parametrize("step", ["touch", "rename"])
def test_an_output_that_cannot_be_published_ends_the_job_with_the_reason_and_is_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    running = site.until_the_reduce_has_ended("out")
    site.do(site.pool.waiting.pop(0))  # the part
    monkeypatch.setattr(*((Path, "touch", is_full) if step == "touch" else (os, "rename", is_full)))
    site.run()
    with pytest.raises(offerd.OfferdError, match=r"is complete in .*/parts, but .*No space left"):
        running.done.result(0)
    assert len(list(tmp_path.glob(".out.*/parts/part-00000"))) == 1


def test_a_reduce_is_asked_again_when_it_has_answered_and_no_report_waits_for_that(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "POLL_S", 0.0)
    monkeypatch.setattr(scheduling, "_progress", lambda *_: Said("reduce", 7, "half way"))
    running = site.submit("out")
    site.finish(site.offer("s1"))
    site.start(site.offer("s1"))
    for _ in range(3):
        site.scheduler.tick(site.driver)
    assert (len(site.questions.waiting), len(site.pool.waiting)) == (1, 0)
    site.do(site.questions.waiting.pop())
    site.scheduler.tick(site.driver)
    assert len(site.questions.waiting) == 1
    assert running.progress.shuffled_bytes == 7


def test_a_silent_slave_is_asked_for_progress_for_a_short_time_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduling, "POLL_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        files = FilesAccess(f"127.0.0.1:{silent.getsockname()[1]}")
        assert scheduling._progress(files, "c1", "out.r00000.0") == Said()
    assert time.monotonic() - began < scheduling.POLL_S


def test_a_task_too_large_for_a_message_ends_only_its_own_job(site: Site) -> None:
    bad, good = site.submit("bad"), site.submit("good")
    site.fake.unsendable = {"bad.m00000.0"}
    launched = site.offer("s1") or site.offer("s1")
    site.run()
    with pytest.raises(offerd.OfferdError, match=r"bad\.m00000\.0: too large"):
        bad.done.result(0)
    assert launched == "good.m00000.0"
    assert not good.done.done()


def test_a_job_fails_if_no_thread_can_be_started_for_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    running = site.submit("out")
    task_id = site.offer("s1")
    no_thread: Future[Any] = Future()
    no_thread.set_exception(offerd.NoThread("mapreduce"))
    monkeypatch.setattr(site.pool, "submit", lambda *_: no_thread)
    site.status(task_id, TaskState.FINISHED)
    site.do(lambda: None)
    with pytest.raises(offerd.OfferdError, match="no thread can be started for mapreduce"):
        running.done.result(0)


def test_a_job_takes_only_slaves_with_the_attributes_that_were_asked_for(site: Site) -> None:
    site.scheduler = MapReduceScheduler(lambda _: site.driver, site.pool, site.questions, {"rack": "7"})
    site.submit("out")
    assert site.fake.filters.attributes == {"rack": "7"}
    assert site.fake.filters.minimum.millicpus == 1000
