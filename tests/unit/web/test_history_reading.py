"""Looking things up in the history: filters, pages, sums, and what belongs to whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.past_tasks import ANN, BOB, DAY, NOON, batch, ended
from offerd.errors import BadInput
from offerd.ids import SlaveID
from offerd.messages import TaskOutput
from offerd.states import TaskState
from offerd_web.core import shapes
from offerd_web.core.describe import resources
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history import reading
from offerd_web.history.batch import Batch, PastFramework, ShareSample, SlaveChange, UtilizationSample
from offerd_web.history.schema import HistoryError, TooSlow
from offerd_web.history.store import History
from offerd_web.services.past import described

S2 = SlaveID("S-2")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """Five tasks: a, b, c of ann, and d, e of bob; each was launched ten seconds after the one before."""
    history = History(tmp_path / "history.db")
    tasks = [
        ended("a", NOON, 100.0),
        ended("b", NOON + 10, 1.0, state=TaskState.FAILED, slave_id=S2, name="map-1"),
        ended("c", NOON + 20, 1.0, user="carl"),
        ended("d", NOON + 30, 1.0, BOB, state=TaskState.KILLED),
        ended("e", NOON + 40, 1.0, BOB, slave_id=S2),
    ]
    history.write(batch(tasks, NOON + 200))
    yield history
    history.close()


def ids(history: History, owner: str = "", role: str = "", **wanted: Any) -> str:
    return "".join(task.task_id for task in history.tasks(TaskFilter(**wanted), owner, role=role)[0])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "edcba"),
        ({"states": frozenset({TaskState.FAILED, TaskState.KILLED, TaskState.RUNNING})}, "db"),
        ({"states": frozenset({TaskState.RUNNING})}, ""),
        ({"framework": ANN}, "cba"),
        ({"framework": "render"}, "ed"),
        ({"framework": "F-3"}, ""),
        ({"slave": "S-2"}, "eb"),
        ({"slave": "alpha"}, "dca"),
        ({"name": "map"}, "b"),
        ({"name": "d"}, "edca"),
        ({"name": "%"}, ""),
        ({"user": "carl"}, "c"),
        ({"role": "art"}, "ed"),
        ({"since": NOON + 31}, "eda"),
        ({"until": NOON + 20}, "ba"),
        ({"since": NOON + 12, "until": NOON + 31, "framework": ANN}, "ca"),
        ({"owner": "bob"}, "ed"),
        ({"owner": "bob", "framework": ANN}, ""),
        ({"owner": "nobody"}, ""),
    ],
)
def test_a_filter_finds_what_it_names_the_latest_launch_first(
    history: History, wanted: dict[str, Any], found: str
) -> None:
    assert ids(history, **wanted) == found


def test_pages_hold_each_task_once_while_others_are_added(history: History) -> None:
    history.write(batch([ended(f"t{number}", NOON + 50, 1.0) for number in range(7)], NOON + 300))
    seen, after = [], ""
    while True:
        found, following = history.tasks(TaskFilter(), after=after, limit=2)
        seen += [task.task_id for task in found]
        history.write(batch([ended(f"new{len(seen)}", NOON + 100, 1.0)], NOON + 300))
        if following is None:
            break
        after = following
    assert seen == ["t6", "t5", "t4", "t3", "t2", "t1", "t0", "e", "d", "c", "b", "a"]


@pytest.mark.parametrize("after", ["x", "1/x", "1", "/", "ended:1/2"])
def test_a_place_that_is_none_is_refused(history: History, after: str) -> None:
    with pytest.raises(BadInput, match="is not the `next` of a page"):
        history.tasks(TaskFilter(), after=after)


def test_one_task_is_the_last_of_its_id_and_its_owners(history: History) -> None:
    history.write(batch([ended("a", NOON - 500, 1.0)], NOON + 300))
    found = history.task(ANN, "a", "ann")
    assert found is not None
    assert found.launched_at == NOON
    assert history.task(ANN, "a", "bob") is None
    assert history.task(BOB, "a") is None


def test_a_framework_with_very_many_tasks_is_paged_by_launch(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FEW_TASKS", 2)
    assert ids(history, framework=ANN) == "cba"


def test_an_owner_reads_its_own_accounts(history: History) -> None:
    assert [
        (row.name, row.framework_name, row.tasks) for row in history.report(NOON, NOON, "framework", "bob")
    ] == [(BOB, "render", 2)]
    assert history.report(NOON + DAY, NOON + 2 * DAY, "day") == []
    with pytest.raises(BadInput, match="choose one of role, framework, user, day"):
        history.report(NOON, NOON, "moon")


def test_shares_are_averages_with_names_and_zero_where_nothing_was_held(history: History) -> None:
    framework = PastFramework(ANN, "words", "science", "ann", "desk", NOON, None, "active", {})
    for number in range(4):
        at = NOON + 10 * number
        shares = [ShareSample(at, BOB, 0.5, 2000, 1 << 20, 2)]
        if number == 1:
            shares.append(ShareSample(at, ANN, 0.25, 1000, 1 << 20, 1))
        used = UtilizationSample(at, "cpus", 4000, 1000 * number, 0, 500)
        history.write(Batch(at=at, shares=tuple(shares), utilization=(used,), frameworks=(framework,)))
    found = history.shares(NOON, NOON + 40, 20.0)
    assert [
        (each.at - NOON, each.framework_id, each.framework_name, each.share, each.held_millicpus)
        for each in found
    ] == [
        (0, ANN, "words", 0.125, 500),
        (0, BOB, "", 0.5, 2000),
        (20, BOB, "", 0.5, 2000),
    ]
    assert [each.framework_id for each in history.shares(NOON, NOON + 40, 20.0, "ann")] == [ANN]
    assert [
        (each.at - NOON, each.total, each.held, each.used)
        for each in history.utilization(NOON, NOON + 40, 20)
    ] == [
        (0, 4000, 500, 500),
        (20, 4000, 2500, 500),
    ]


def test_a_time_is_cut_into_a_bounded_number_of_steps(history: History) -> None:
    samples = [UtilizationSample(NOON + 10 * number, "cpus", 1, 1, 0, None) for number in range(5000)]
    history.write(Batch(at=NOON + 50_000, utilization=tuple(samples)))
    assert len(history.utilization(NOON, NOON + 50_000, 0.0)) <= reading.MAX_STEPS
    with pytest.raises(BadInput, match="until is not above since"):
        history.shares(NOON, NOON, 1.0)


def test_changes_of_slaves_are_found_by_time(history: History) -> None:
    changes = [
        SlaveChange(NOON + number, "S-1", "alpha", event)
        for number, event in enumerate(("registered", "lost"))
    ]
    history.write(batch(slave_changes=tuple(changes)))
    assert history.slave_changes(NOON, NOON + 1) == changes[:1]


def test_what_takes_too_long_is_given_up(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_S", -1.0)
    monkeypatch.setattr(reading, "CHECKED_EVERY", 1)
    with pytest.raises(TooSlow, match=r"ask for less time, or one framework"):
        history.tasks(TaskFilter())
    monkeypatch.undo()
    assert ids(history) == "edcba"


def test_readers_and_the_writer_do_not_wait_for_each_other(history: History) -> None:
    begun, may_end = threading.Event(), threading.Event()
    seen: list[list[str]] = []

    def read() -> None:
        with history._reading() as database:
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM tasks").fetchone()
            begun.set()
            may_end.wait(30)
            seen.append([row["task_id"] for row in database.execute("SELECT task_id FROM tasks ORDER BY id")])
            database.execute("COMMIT")

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    history.write(batch([ended("new", NOON + 50, 1.0)], NOON + 300))
    assert ids(history) == "newedcba"
    may_end.set()
    reader.join()
    assert seen == [list("abcde")]


def test_a_reader_cannot_write(history: History) -> None:
    with pytest.raises(HistoryError, match="cannot be opened"), history._reading() as database:
        database.execute("DELETE FROM tasks")


def test_the_api_shows_past_tasks_with_all_that_is_kept_of_them(history: History) -> None:
    task = ended("f", 5.0, 1.0, output=TaskOutput(3, 4))
    history.write(batch([task], NOON + 6, offset_s=NOON))
    found = history.task(ANN, "f")
    assert found is not None
    shown = described(found)
    assert (shown.task_id, shown.framework_id, shown.framework_name) == (
        task.task_id,
        ANN,
        found.framework_name,
    )
    assert (shown.slave_id, shown.hostname, shown.executor_id) == (
        task.slave_id,
        found.hostname,
        task.executor_id,
    )
    assert (shown.name, shown.state, shown.user) == (task.name, task.state.value, task.user)
    assert shown.resources == resources(task.resources)
    assert (shown.time_limit_s, shown.is_long, shown.is_being_killed) == (task.time_limit_s, None, False)
    assert task.running_since is not None
    times = (task.launched_at, task.running_since, task.ended_at)
    assert (shown.launched_at, shown.running_since, shown.ended_at) == tuple(
        NOON + moment for moment in times
    )
    assert (shown.reason, shown.message, shown.exit_status) == (task.reason, task.message, task.exit_status)
    assert shown.output == shapes.TaskOutput(stdout_bytes=3, stderr_bytes=4)
    assert shown.has_files is bool(task.container_id)
    if task.usage is None:
        assert shown.usage is None
    else:
        assert shown.usage == shapes.TaskUsage(
            cpu_s=task.usage.cpu_s, peak_mem_bytes=task.usage.peak_mem_bytes
        )
