"""Whatever is sent, in which order and by which master, and however often the gateway restarts: each end is there once."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.past_tasks import ANN, BOB, DAY, NOON, batch, ended
from offerd.ids import FrameworkID
from offerd.messages import TaskUsage
from offerd.protocol.change_messages import EndedTask
from offerd_web.history.batch import Batch
from offerd_web.history.store import History

LATE_S = 5.0
"""How much later another master may hear of an end."""


class Run(NamedTuple):
    """What one task really did."""

    framework_id: FrameworkID
    task_id: str
    launched_at: float
    ended_at: float
    is_timeout: bool
    number: int
    next_at: float = float("inf")
    """When its id was used again, after everybody had heard of its end."""


class Report(NamedTuple):
    """A master's word of its end."""

    run: Run
    master: int
    late_s: float
    """How much later than another it heard of the end."""
    is_measured: bool
    """It was sent what the task used."""


@st.composite
def runs(draw: st.DrawFn) -> list[Run]:
    """Of a few ids, which are used again: there is never more than one open task of an id."""
    found: list[Run] = []
    for framework_id in (ANN, BOB):
        for task_id in ("a", "b"):
            now = NOON
            for _ in range(draw(st.integers(0, 3))):
                now += draw(st.sampled_from([0.001, 0.2, 7.0]))
                if found and found[-1][:2] == (framework_id, task_id):
                    found[-1] = found[-1]._replace(next_at=now)
                lasted_s = draw(st.sampled_from([0.0, 0.3, 1.1, 30.0, 0.7 * DAY, 2.5 * DAY]))
                found.append(Run(framework_id, task_id, now, now + lasted_s, draw(st.booleans()), len(found)))
                now += lasted_s
    return found


@st.composite
def reports(draw: st.DrawFn) -> list[Report]:
    """Each end, from the master that saw it, and perhaps from another that heard of it again from the slave."""
    found: list[Report] = []
    for run in draw(runs()):
        for master in draw(st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True)):
            late_s = draw(st.sampled_from([0.0, min(LATE_S, run.next_at - run.ended_at)]))
            is_measured = run.ended_at - run.launched_at < 2.0 or draw(st.booleans())
            found.append(Report(run, master, late_s, is_measured))
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[list[Batch] | None]:
    """What is written, one list at a time; None: the gateway restarts."""
    clocks = {master: draw(st.sampled_from([-1000.5, 0.0, 123456.789])) for master in (1, 2, 3)}
    measured = st.sampled_from([-0.2, 0.0, 0.15])
    wrong_s = {master: draw(measured) for master in clocks}
    every = draw(reports())
    sent = draw(st.permutations(every + draw(st.lists(st.sampled_from(every), max_size=8)) if every else []))
    found: list[list[Batch] | None] = []
    while sent:
        number, master = draw(st.integers(1, 5)), sent[0].master
        some = [report for report in sent[:number] if report.master == master]
        sent = (
            [*sent[len(some) :]] if sent[: len(some)] == some else [each for each in sent if each not in some]
        )
        origin = f"M-{master}/{draw(st.integers(1, 2))}"
        offset_s = NOON + clocks[master] + wrong_s[master] + draw(st.sampled_from([-0.05, 0.0, 0.1]))
        tasks = [seen_by(report, -NOON - clocks[master]) for report in some]
        made = batch(tasks, NOON + 20 * DAY, draw(st.integers(0, 100)), origin, offset_s)
        if found and found[-1] is not None and draw(st.booleans()):
            found[-1].append(made)
        else:
            found.append([made])
        if draw(st.integers(0, 4)) == 0:
            found.append(None)
    return found


def seen_by(report: Report, clock_s: float) -> EndedTask:
    """As its master sends it, whose clock is the wall clock plus this."""
    run = report.run
    return ended(
        run.task_id,
        run.launched_at + clock_s,
        run.ended_at - run.launched_at + report.late_s,
        run.framework_id,
        reason="TASK_TIMEOUT" if run.is_timeout else "",
        name=str(run.number),
        usage=TaskUsage((run.number + 1) / 8, 1000) if report.is_measured else None,
    )


@settings(max_examples=60, deadline=None)
@given(histories())
def test_each_end_is_there_once_and_the_accounts_are_the_sums(written: list[list[Batch] | None]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.db"
        history = History(path)
        for batches in written:
            if batches is None:
                history.close()
                history = History(path)
            else:
                history.write(*batches)
        check(history, written)
        history.close()


def check(history: History, written: list[list[Batch] | None]) -> None:
    sent = {
        (task.framework_id, task.task_id, task.name)
        for batches in written
        for each in batches or ()
        for task in each.ended
    }
    rows = history._database.execute("SELECT * FROM tasks").fetchall()
    columns = [column[0] for column in history._database.execute("SELECT * FROM tasks LIMIT 0").description]
    tasks = [dict(zip(columns, row, strict=True)) for row in rows]
    assert Counter((task["framework_id"], task["task_id"], task["name"]) for task in tasks) == Counter(sent)
    sums = {framework_id: [0, 0.0, 0.0, 0.0, 0.0] for framework_id in (ANN, BOB)}
    for task in tasks:
        held_s = task["ended_at"] - task["launched_at"]
        row = sums[task["framework_id"]]
        row[0] += 1
        row[1] += held_s * task["millicpus"] / 1000
        row[2] += task["cpu_s"] or 0.0
        row[3] += held_s * task["millicpus"] / 1000 if task["reason"] == "TASK_TIMEOUT" else 0.0
        row[4] += held_s * task["mem_bytes"]
    found = {row.name: row for row in history.report(0, 1e11, "framework")}
    for framework_id, (number, held, used, wasted, mem) in sums.items():
        row_or_none = found.get(framework_id)
        assert (row_or_none is not None) == (number > 0)
        if row_or_none is not None:
            assert row_or_none.tasks == number
            for amount, other in (
                (row_or_none.cpu_s_held, held),
                (row_or_none.cpu_s_used, used),
                (row_or_none.cpu_s_wasted, wasted),
                (row_or_none.mem_byte_s_held, mem),
            ):
                assert abs(amount - other) <= 1e-6 * max(other, 1.0)
