"""What is written to the history is there once, whoever sends it and however often, and survives what befalls its file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.past_tasks import ANN, BOB, DAY, NOON, batch, ended
from offerd.errors import BadInput
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history import schema
from offerd_web.history.batch import Gap, PastFramework, SlaveChange
from offerd_web.history.bounds import HistorySettings
from offerd_web.history.schema import HistoryError, migrate, open_to_read, open_to_write
from offerd_web.history.store import History

ALL = TaskFilter()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    with_settings = History(path)
    yield with_settings
    with_settings.close()


def task_ids(history: History) -> list[str]:
    return [task.task_id for task in history.tasks(ALL)[0]]


def accounted(history: History) -> int:
    """Tasks in the accounts."""
    return sum(row.tasks for row in history.report(0, 1e11, "day"))


def test_every_field_of_a_task_is_kept(history: History) -> None:
    task = ended(
        "t",
        5.0,
        state=TaskState.FAILED,
        reason="COMMAND_EXITED",
        message="exit status 3",
        exit_status=3,
        running_since=6.5,
    )
    history.write(batch([task], offset_s=NOON))
    found = history.task(ANN, "t")
    assert found is not None
    for field in ("task_id", "framework_id", "slave_id", "executor_id", "name", "resources", "time_limit_s", "reason",
                  "message", "exit_status", "container_id", "is_command", "user"):  # fmt: skip
        assert getattr(found, field) == getattr(task, field)
    assert (found.state, found.framework_name, found.role, found.hostname) == (
        "TASK_FAILED",
        "wordcount",
        "science",
        "alpha",
    )
    assert (found.launched_at, found.running_since, found.ended_at) == (NOON + 5, NOON + 6.5, NOON + 15)
    assert (found.cpu_s, found.peak_mem_bytes, found.stdout_bytes) == (5.0, 1 << 19, None)


def test_resources_beside_cpus_and_memory_are_kept_exactly(history: History) -> None:
    resources = Resources.parse("cpus=0.5,gpus=2,ports=[31000-31003],disks={a,b}")
    history.write(batch([ended("t", NOON, resources=resources)]))
    found = history.task(ANN, "t")
    assert found is not None
    assert found.resources == resources


def test_what_is_sent_again_is_there_once(history: History) -> None:
    tasks = [ended(f"t{number}", NOON + number) for number in range(1500)]
    history.write(batch(tasks[:1000], number=1000))
    history.write(batch(tasks[:1000], number=1000))
    history.write(batch(tasks[900:], number=1500), batch(tasks[900:], number=1500))
    assert accounted(history) == 1500


def test_a_new_counting_of_a_master_is_known_by_its_clock_also_if_ours_was_measured_otherwise(
    history: History,
) -> None:
    history.write(batch([ended("t", 5.0)], offset_s=NOON))
    history.write(batch([ended("t", 5.0), ended("u", 5.0)], origin="M-1/2", offset_s=NOON + 0.4))
    history.write(batch([ended("t", 5.0)], origin="M-1/3", offset_s=NOON + 3600))
    assert sorted(task_ids(history)) == ["t", "u"]
    assert {task.launched_at for task in history.tasks(ALL)[0]} == {NOON + 5}


def test_an_id_that_is_used_again_is_another_task(history: History) -> None:
    history.write(batch([ended("t", NOON, 0.0), ended("t", NOON + 0.001, 0.0), ended("t", NOON + 1, 10.0)]))
    assert len(task_ids(history)) == 3
    found = history.task(ANN, "t")
    assert found is not None
    assert found.launched_at == NOON + 1


def test_an_end_that_another_master_reports_again_is_the_same(history: History) -> None:
    history.write(batch([ended("t", NOON, 10.0), ended("short", NOON, 0.2)]))
    again = [ended("t", -3.0, 12.5), ended("short", -3.2, 4.0, usage=ended("short", NOON, 0.2).usage)]
    history.write(batch(again, origin="M-2/1", offset_s=NOON + 3.1))
    assert sorted(task_ids(history)) == ["short", "t"]
    assert accounted(history) == 2


def test_another_master_may_report_the_next_task_of_the_same_id(history: History) -> None:
    history.write(batch([ended("t", NOON, 10.0)]))
    history.write(batch([ended("t", NOON + 9.5, 10.0)], origin="M-2/1"))  # its clock is half a second off
    assert len(task_ids(history)) == 2


def test_where_a_gateway_goes_on_is_kept_with_the_ends(path: Path) -> None:
    history = History(path)
    assert history.cursor() is None
    history.write(batch([ended("t", 1.0)], number=7, offset_s=NOON))
    history.close()
    history = History(path)
    assert history.cursor() == ("M-1/1", 7, NOON, NOON)
    history.close()


def test_ends_that_a_master_does_not_remember_leave_a_gap(history: History) -> None:
    history.write(batch(number=1))
    history.write(batch(number=9, at=NOON + 60, ended_missed=8))
    history.write(batch(number=9, at=NOON + 70))
    assert history.gaps(0, 1e11) == [Gap(NOON, NOON + 60, 8)]


def test_from_one_master_to_the_next_something_may_be_missing(history: History) -> None:
    history.write(batch(number=1))
    history.write(batch(number=3, at=NOON + 60, origin="M-2/1", ended_missed=0))
    assert history.gaps(0, 1e11) == [Gap(NOON, NOON + 60, None)]
    assert history.gaps(NOON + 60, 1e11) == []


def test_frameworks_are_kept_as_they_were_last(history: History, path: Path) -> None:
    first = PastFramework(ANN, "words", "science", "ann", "desk", NOON, None, "active", {})
    history.write(batch(frameworks=(first,)))
    last = PastFramework(ANN, "", "", "", "", NOON + 1, NOON + 9, "ended", {"TASK_FINISHED": 3})
    history.write(batch(frameworks=(last,), at=NOON + 10))
    history.write(batch(frameworks=(first,), at=NOON - 10))  # a late one
    with open_to_read(path) as database:
        row = dict(database.execute("SELECT * FROM frameworks").fetchone())
    database.close()
    assert row == {
        "framework_id": ANN, "name": "words", "role": "science", "owner": "ann", "user": "ann", "hostname": "desk",
        "since": NOON, "ended_at": NOON + 9, "state": "ended", "counts": '{"TASK_FINISHED":3}', "seen_at": NOON + 10,
    }  # fmt: skip


def test_a_state_of_a_slave_that_is_seen_again_is_not_a_change(history: History) -> None:
    def change(after_s: float, event: str) -> SlaveChange:
        return SlaveChange(NOON + after_s, "S-1", "alpha", event)

    history.write(batch(slave_changes=(change(0, "registered"), change(5, "draining"))))
    history.write(batch(slave_changes=(change(0, "registered"), change(60, "draining"))))  # after a restart
    history.write(batch(slave_changes=(change(70, "lost"), change(80, "registered"), change(80, "draining"))))
    assert [(each.at - NOON, each.event) for each in history.slave_changes(0, 1e11)] == [
        (0, "registered"),
        (5, "draining"),
        (70, "lost"),
        (80, "draining"),
        (80, "registered"),
    ]
    assert history._database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- Accounts -----------------------------------------------------------------------------------------------------------


def test_accounts_hold_what_was_held_used_and_wasted(history: History) -> None:
    late = ended(
        "slow", NOON, 60.0, BOB, state=TaskState.KILLED, reason="TASK_TIMEOUT", running_since=NOON + 10
    )
    history.write(batch([ended("t", NOON, 10.0), ended("u", NOON + 50, 10.0), late]))
    rows = {row.name: row for row in history.report(NOON, NOON, "role")}
    science, art = rows["science"], rows["art"]
    assert (science.tasks, science.cpu_s_held, science.cpu_s_used, science.cpu_s_wasted) == (
        2,
        20.0,
        10.0,
        0.0,
    )
    assert (science.mem_byte_s_held, science.mem_byte_s_used) == (20 << 20, 20 << 19)
    assert (art.cpu_s_held, art.cpu_s_used, art.cpu_s_wasted) == (60.0, 30.0, 60.0)
    assert (art.mem_byte_s_used, art.mem_byte_s_wasted) == (50 << 19, 60 << 20)
    assert [row.name for row in history.report(NOON, NOON, "framework")] == [BOB, ANN]
    assert [row.tasks for row in history.report(NOON, NOON, "user")] == [3]


def test_a_task_counts_on_each_day_with_its_part(history: History) -> None:
    midnight = NOON + DAY / 2
    history.write(batch([ended("t", midnight - 100, 100 + DAY + 50)], at=midnight + 2 * DAY))
    rows = history.report(NOON - DAY, NOON + 9 * DAY, "day")
    assert [(row.name, row.tasks, row.cpu_s_held, row.cpu_s_used) for row in rows] == [
        ("2024-10-04", 0, 100.0, 50.0),
        ("2024-10-05", 0, DAY, DAY / 2),
        ("2024-10-06", 1, 50.0, 25.0),
    ]


def test_a_clock_that_is_out_of_its_mind_costs_no_endless_work(history: History) -> None:
    wild = [
        ended("a", -1e12, 2e12),
        ended("b", 1e12, 0.0),
        ended("c", NOON + 5, -100.0),
        ended("d", -1e12, 1.0),
    ]
    history.write(batch(wild))
    rows = history.report(-1e11, 1e11, "day")
    assert len(rows) <= 403
    assert min(row.cpu_s_held for row in rows) >= 0


# -- The file -----------------------------------------------------------------------------------------------------------


def test_only_its_owner_reads_it(history: History, path: Path) -> None:
    history.write(batch([ended("t", NOON)]))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes.keys() == {"history.db", "history.db-wal", "history.db-shm", "history.db.lock"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_belongs_to_one_gateway(history: History, path: Path) -> None:
    with pytest.raises(
        HistoryError, match=r"belongs to another gateway that runs; end it, or give this one its own"
    ):
        History(path)


def test_others_may_read_it_and_a_lock_of_theirs_is_named(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.write(batch([ended("t", NOON)]))
    other = sqlite3.connect(path, isolation_level=None)
    assert other.execute("SELECT task_id, millicpus FROM tasks").fetchall() == [("t", 1000)]
    other.execute("BEGIN IMMEDIATE")
    history._database.execute("PRAGMA busy_timeout=10")
    with pytest.raises(HistoryError, match=r"locked by another program; end the `sqlite3`"):
        history.write(batch([ended("u", NOON)]))
    assert task_ids(history) == ["t"]
    other.execute("ROLLBACK")
    other.close()
    history.write(batch([ended("u", NOON)]))
    assert len(task_ids(history)) == 2


def test_a_full_disk_loses_nothing_that_was_written(history: History) -> None:
    history.write(batch([ended("t", NOON)], number=1))
    (pages,) = history._database.execute("PRAGMA page_count").fetchone()
    history._database.execute(f"PRAGMA max_page_count={pages}")
    many = batch([ended(f"u{number}", NOON, message="x" * 1000) for number in range(2000)], number=2001)
    with pytest.raises(HistoryError, match="the disk is full; make room there"):
        history.write(many)
    assert task_ids(history) == ["t"]
    cursor = history.cursor()
    assert cursor is not None
    assert cursor.ended_after == 1
    history._database.execute("PRAGMA max_page_count=1000000")
    history.write(many)
    assert accounted(history) == 2001


@pytest.mark.parametrize("where", [0, 4096])
def test_a_damaged_file_is_named_with_what_to_do(path: Path, where: int) -> None:
    history = History(path)
    history.write(batch([ended(f"t{number}", NOON) for number in range(100)]))
    history.close()
    with path.open("r+b") as file:
        file.seek(where)
        file.write(b"\xff" * (path.stat().st_size - where))
    with pytest.raises(HistoryError, match=r"is damaged .*; stop the gateway and move the file away"):
        History(path).write(batch([ended("t", NOON)]))


def test_a_place_where_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match=r"cannot write .*; choose another place with --state-dir"):
        History(tmp_path / "file" / "history.db")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "history.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HistoryError, match="cannot write"):
        History(tmp_path / "history.db")
    assert not (tmp_path / "elsewhere").exists()


def test_an_older_file_is_brought_up_to_date_at_once_or_not_at_all(path: Path) -> None:
    steps = [
        *schema.STEPS,
        "CREATE TABLE more (a TEXT); INSERT INTO more VALUES ('x;y');\nCREATE TABLE also (b TEXT);",
    ]
    old = open_to_write(path)
    with pytest.raises(sqlite3.OperationalError):
        migrate(old, path, [*steps, "CREATE TABLE further (c TEXT);\nCREATE TABLE tasks (a TEXT);"])
    assert old.execute("PRAGMA user_version").fetchone() == (1,)
    assert old.execute("SELECT name FROM sqlite_schema WHERE name IN ('more', 'further')").fetchall() == []
    old.close()
    new = open_to_write(path, steps)
    assert new.execute("SELECT * FROM more").fetchall() == [("x;y",)]
    assert new.execute("PRAGMA user_version").fetchone() == (2,)
    new.close()


def test_a_newer_file_is_left_alone(path: Path) -> None:
    open_to_write(path, [*schema.STEPS, "CREATE TABLE more (a TEXT);"]).close()
    with pytest.raises(
        HistoryError,
        match=r"is of a newer offerd \(its format is 2, ours 1\); run that, or move the file away",
    ):
        History(path)


@pytest.mark.parametrize("settings", [HistorySettings(max_bytes=1000), HistorySettings(tasks_age_s=0)])
def test_settings_that_keep_nothing_are_refused(path: Path, settings: HistorySettings) -> None:
    with pytest.raises(BadInput):
        History(path, settings)


WRITES_ON = """
import sys
from pathlib import Path
from helpers.past_tasks import NOON, batch, ended
from offerd_web.history.store import History

history = History(Path(sys.argv[1]))
cursor = history.cursor()
done = 0 if cursor is None else cursor.ended_after
for first in range(max(done - 300, 0), done + 100_000, 300):  # the last batch is sent again
    history.write(batch([ended(f"t{n}", NOON + n / 100) for n in range(first, first + 300)], number=first + 300))
    print(first + 300, flush=True)
"""


def test_a_kill_at_any_moment_leaves_whole_batches(path: Path) -> None:
    written = 0
    for lines in (1, 4, 2, 7, 3, 1, 5):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES_ON, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        for _ in range(lines):
            written = max(int(child.stdout.readline()), written)
        child.kill()
        child.communicate()
        history = History(path)
        assert history._database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (rows, different) = history._database.execute(
            "SELECT count(*), count(DISTINCT task_id) FROM tasks"
        ).fetchone()
        cursor = history.cursor()
        assert cursor is not None
        assert rows == different == cursor.ended_after == accounted(history) >= written
        assert rows % 300 == 0
        history.close()
