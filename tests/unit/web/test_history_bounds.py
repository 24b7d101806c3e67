"""The history keeps what it may by age and size, and what it has removed does not come back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helpers.past_tasks import ANN, DAY, NOON, batch, ended
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history.batch import Batch, Gap, PastFramework, ShareSample, SlaveChange, UtilizationSample
from offerd_web.history.bounds import MIN_BYTES, HistorySettings
from offerd_web.history.store import History


def accounted(history: History) -> int:
    """Tasks in the accounts."""
    return sum(row.tasks for row in history.report(0, 1e11, "day"))


def rows(history: History, table: str) -> int:
    (number,) = history._database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)


def sample(at: float, share: float, held: int = 1000) -> Batch:
    return Batch(
        at=at,
        shares=(ShareSample(at, ANN, share, held, 1 << 20, 1),) if share else (),
        utilization=(UtilizationSample(at, "cpus", 4000, held, 500, 250),),
    )


def many(first: int, number: int) -> Batch:
    """So many tasks of 300 bytes and more, one after the other."""
    tasks = [
        ended(f"t{each}", NOON + each / 100, 1.0, message="x" * 200) for each in range(first, first + number)
    ]
    return batch(tasks, NOON + (first + number) / 100, first + number)


def test_tasks_go_at_their_age_and_accounts_stay(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", HistorySettings(tasks_age_s=DAY, accounts_age_s=10 * DAY))
    framework = PastFramework(ANN, "words", "*", "ann", "desk", NOON, None, "active", {})
    change, gap = SlaveChange(NOON, "S-1", "alpha", "lost"), Gap(NOON, NOON + 1, None)
    history.write(batch([ended("old", NOON)], frameworks=(framework,), slave_changes=(change,), gaps=(gap,)))
    history.write(batch([ended("new", NOON + DAY)], at=NOON + 2 * DAY))
    assert [task.task_id for task in history.tasks(TaskFilter())[0]] == ["new"]
    assert [rows(history, table) for table in ("frameworks", "slave_changes", "gaps")] == [0, 0, 0]
    assert accounted(history) == 2
    history.write(batch([ended("old", NOON)], at=NOON + 2 * DAY, origin="M-1/2"))
    assert (rows(history, "tasks"), accounted(history)) == (1, 2)
    history.write(batch(at=NOON + 10.6 * DAY))
    assert accounted(history) == 1
    history.close()


def test_a_full_file_loses_its_oldest_tasks_and_grows_no_further(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = History(path, HistorySettings(max_bytes=MIN_BYTES))
    written = 0
    for first in range(0, 30_000, 500):
        history.write(many(first, 500))
        written = first + 500
        assert path.stat().st_size <= MIN_BYTES
    found = history.tasks(TaskFilter(), limit=1)[0]
    assert found[0].task_id == f"t{written - 1}"
    left = rows(history, "tasks")
    assert 3000 < left < 20_000
    assert history.task(ANN, f"t{written - left}") is not None
    assert accounted(history) == written
    history.write(many(0, 1000))  # sent again by a new counting
    assert accounted(history) == written
    history.close()


def test_a_file_whose_limit_was_lowered_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = History(path)
    for first in range(0, 30_000, 3000):
        history.write(many(first, 3000))
    history.close()
    assert path.stat().st_size > 2 * MIN_BYTES
    history = History(path, HistorySettings(max_bytes=MIN_BYTES))
    for number in range(100):
        history.write(many(30_000 + 200 * number, 200))
    history.close()
    assert path.stat().st_size <= MIN_BYTES


def test_removing_a_great_deal_holds_no_write_up(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", HistorySettings(tasks_age_s=DAY))
    for first in range(0, 20_000, 4000):
        history.write(many(first, 4000))
    writes, longest_s = 0, 0.0
    while rows(history, "tasks") > 1:
        writes += 1
        begun = time.process_time()
        history.write(batch([ended("new", NOON + 9 * DAY)], at=NOON + 9 * DAY + 2 * writes))
        longest_s = max(longest_s, time.process_time() - begun)
    assert writes > 20
    history.close()
    assert longest_s < 0.2  # far more than it takes, and far less than all at once


def test_older_samples_become_one_average(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", HistorySettings(fine_s=600, coarse_step_s=300))
    begun = NOON // 300 * 300
    for number in range(120):  # twenty minutes; the framework holds something in the first half of each step
        history.write(sample(begun + 10 * number, 0.5 if number % 30 < 15 else 0.0))
    span = begun, begun + 1200
    before = history.shares(*span, 300), history.utilization(*span, 300)
    assert [(point.at - begun, point.share, point.running) for point in before[0]] == [
        (300.0 * step, 0.25, 0.5) for step in range(4)
    ]
    thinned = rows(history, "utilization")
    assert thinned < 120
    history.write(sample(begun + 1200, 0.5))
    history.write(sample(begun + 10, 0.5))  # is in the averages already
    assert rows(history, "utilization") <= thinned + 1
    assert (history.shares(*span, 300), history.utilization(*span, 300)) == before
    history.close()


def test_samples_go_when_nothing_else_is_left_to_go(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = History(path, HistorySettings(max_bytes=MIN_BYTES, fine_s=300 * DAY, tasks_age_s=300 * DAY))
    for number in range(300):
        at = NOON + 10 * number
        shares = tuple(ShareSample(at, f"F-{each:0>60}", 0.1, 1000, 1 << 20, 1) for each in range(200))
        history.write(Batch(at=at, shares=shares, utilization=(UtilizationSample(at, "cpus", 4, 4, 0, 1),)))
        assert path.stat().st_size <= MIN_BYTES
    assert history.shares(at, at + 1, 1)
    assert not history.shares(NOON, NOON + 1, 1)
    history.close()


@pytest.mark.parametrize("days", [1, 30])
def test_accounts_take_half_of_a_file_at_most(tmp_path: Path, days: int) -> None:
    path = tmp_path / "history.db"
    history = History(path, HistorySettings(max_bytes=MIN_BYTES))
    for number in range(60):
        first = number * 1000
        tasks = [
            ended(f"t{each}", NOON + number * 60, 1.0, user=f"u{each}") for each in range(first, first + 1000)
        ]
        history.write(batch(tasks, NOON + number * 60 + (days - 1) * DAY * number / 60))
        assert path.stat().st_size <= MIN_BYTES
    assert rows(history, "accounts") > 1000
    assert rows(history, "tasks") > 1000
    history.close()
