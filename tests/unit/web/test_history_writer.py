"""The thread that writes the history: nobody waits for it, and what it cannot write is counted and leaves a gap."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import wait_until
from helpers.past_tasks import NOON, batch, ended
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history import writer as writing
from offerd_web.history.batch import Batch, Gap
from offerd_web.history.schema import HistoryError
from offerd_web.history.store import History
from offerd_web.history.writer import Writer


class Disk(History):
    """A history whose disk can be full, or stand still."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_full = False
        self.may_write = threading.Event()
        self.may_write.set()
        self.writes: list[int] = []
        self.tries = 0

    def write(self, *batches: Batch) -> None:
        self.tries += 1
        assert self.may_write.wait(60)
        if self.is_full:
            raise HistoryError("the disk is full; make room there")
        super().write(*batches)
        self.writes.append(len(batches))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "history.db")
    yield disk
    disk.close()


def one(number: int, tasks: int = 1) -> Batch:
    some = [ended(f"t{number}-{each}", NOON + number) for each in range(tasks)]
    return batch(some, NOON + number, number)


def names(disk: Disk) -> list[str]:
    return sorted(task.task_id for task in disk.tasks(TaskFilter(), limit=1000)[0])


def test_what_waits_is_written_together_and_in_order(disk: Disk) -> None:
    disk.may_write.clear()
    writer = Writer(disk)
    writer.start()
    writer.put(one(0))
    wait_until(lambda: disk.tries == 1, "the first write has begun")
    for number in range(1, 6):
        writer.put(one(number))
    assert writer.lag_s > 0
    disk.may_write.set()
    writer.close()
    assert disk.writes == [1, 5]
    assert names(disk) == [f"t{number}-0" for number in range(6)]
    assert (writer.lag_s, writer.dropped, disk.gaps(0, 1e11)) == (0.0, 0, [])


def test_one_transaction_is_bounded(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_TOGETHER", 10)
    writer = Writer(disk)
    for number in range(4):
        writer.put(one(number, 4))  # five with the batch itself
    writer.put(one(4, 30))
    writer.start()
    writer.close()
    assert disk.writes == [2, 2, 1]
    assert len(names(disk)) == 46


def test_nothing_new_is_not_written(disk: Disk) -> None:
    writer = Writer(disk)
    writer.start()
    writer.put(batch(number=5))
    writer.close()
    assert disk.tries == 0


def test_a_full_disk_drops_the_oldest_and_leaves_one_gap_and_two_lines(
    disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FIRST_PAUSE_S", 0.01)
    caplog.set_level(logging.INFO, "offerd.web")
    disk.is_full = True
    writer = Writer(disk, max_waiting=12)
    writer.start()
    for number in range(10):
        writer.put(one(number, 3))  # four with the batch itself: three fit
    wait_until(
        lambda: disk.tries > 3 and writer.dropped == 7,
        "writing was tried several times, and the oldest dropped",
    )
    assert writer.why_failing == "the disk is full; make room there"
    disk.is_full = False
    wait_until(lambda: writer.lag_s == 0.0, "what is left is written")
    writer.close()
    assert names(disk) == [f"t{number}-{each}" for number in (7, 8, 9) for each in range(3)]
    assert disk.gaps(0, 1e11) == [Gap(NOON, NOON + 6, 21)]
    assert writer.why_failing == ""
    assert [record.getMessage() for record in caplog.records] == [
        "the history is not written: the disk is full; make room there",
        "the history is written again; it lacks 7 answers of the master",
    ]


def test_a_batch_larger_than_all_that_may_wait_is_written(disk: Disk) -> None:
    writer = Writer(disk, max_waiting=10)
    writer.start()
    writer.put(one(0, 30))
    writer.close()
    assert len(names(disk)) == 30


def test_a_writer_that_cannot_write_ends_at_once_and_says_what_is_missing(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.is_full = True
    writer = Writer(disk)
    writer.start()
    writer.put(one(0))
    writer.put(one(1))
    wait_until(lambda: disk.tries > 0, "writing was tried")
    writer.close()
    assert caplog.messages[-1] == "the history lacks the last 2 answers of the master"
