"""`offerd top`: rates from two answers, and which tasks have a row."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.live import Live

from offerd.ids import FrameworkID
from offerd_cli import top
from offerd_cli.top import Sample

MIB = 1 << 20


def usage(cpu_s: float, mem_bytes: int = 0, throttled_s: float = 0.0) -> dict[str, Any]:
    return {
        "cpu_s": cpu_s, "mem_bytes": mem_bytes, "peak_mem_bytes": mem_bytes, "processes": 3, "throttled_s": throttled_s,
        "cpu_pressure": 12.5, "mem_pressure": 0.0, "io_pressure": 60.0,
    }  # fmt: skip


def task(name: str, used: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "task_id": name, "framework_id": "F-1", "container_id": "c1", "name": name, "state": "TASK_RUNNING",
        "cpus": 0.5, "mem_bytes": 64 * MIB, "usage": used,
    }  # fmt: skip


def sample(monotonic_s: float, *tasks: dict[str, Any], executor: dict[str, Any] | None = None) -> Sample:
    shared = {
        "container_id": "c1", "framework_id": "F-1", "executor_id": "python", "tasks": len(tasks), "cpus": 1.25,
        "usage": executor,
    }  # fmt: skip
    document = {"hostname": "host", "monotonic_s": monotonic_s, "executors": [shared], "tasks": list(tasks)}
    return Sample({FrameworkID("F-1"): "words"}, {"S-1": document}, {})


def test_cpu_and_throttling_are_rates_between_two_looks_and_the_busiest_is_first() -> None:
    before = sample(100.0, task("a", usage(1.0)), task("b", usage(5.0)))
    now = sample(
        102.0, task("a", usage(1.5, throttled_s=1.0)), task("b", usage(7.0)), task("new", usage(9.0))
    )
    rows = top.rows(before, now)
    assert [(row.name, row.cpus, row.throttled) for row in rows] == [
        ("b", 1.0, 0.0),
        ("a", 0.25, 0.5),
        ("new", 0.0, 0.0),
    ]
    assert {row.framework for row in rows} == {"words"}


def test_tasks_that_share_their_executors_processes_have_one_row() -> None:
    before = sample(100.0, task("a", None), task("b", None), executor=usage(1.0))
    (row,) = top.rows(before, sample(102.0, task("a", None), task("b", None), executor=usage(9.0, 32 * MIB)))
    assert (row.kind, row.name, row.tasks) == ("executor", "python", 2)
    assert (row.cpus, row.held_cpus, row.held_mem_bytes) == (1.25, 1.0, 128 * MIB)


def test_a_slave_that_was_not_there_before_counts_from_now() -> None:
    rows = top.rows(Sample({}, {}, {"host": "no answer"}), sample(102.0, task("a", usage(7.0))))
    assert [(row.name, row.cpus) for row in rows] == [("a", 0.0)]


def test_the_table_shows_used_and_held_and_what_was_waited_for() -> None:
    before = sample(100.0, task("a", usage(1.0)))
    rows = top.rows(before, sample(102.0, task("a", usage(1.5, 60 * MIB, 1.0))))
    console = Console(width=160, record=True)
    with console.capture() as captured:
        console.print(top.table(rows))
    line = captured.get().splitlines()[1].split()
    assert line == ["a", "words", "host", "0.25/0.5", "60M/64M", "60M", "50%", "12%", "-", "60%", "3"]


def test_while_the_master_is_away_the_last_table_stays_below_what_is_waited_for() -> None:
    console = Console(width=120, height=20, file=io.StringIO(), force_terminal=False)
    live = Live(console=console, auto_refresh=False)
    screen = top.LiveTable(live)

    def shown() -> str:
        with console.capture() as capture:
            console.print(live.renderable)
        return capture.get()

    screen.show(top.rows(sample(1.0), sample(2.0, task("t", usage(1.0)))))
    screen.note("no master for 1 s: nothing listens at 127.0.0.1:5060; still trying")
    first, *table = shown().splitlines()
    assert first == "offerd top: no master for 1 s: nothing listens at 127.0.0.1:5060; still trying"
    assert any(line.startswith("t ") for line in table)
    screen.show([])
    assert "no master" not in shown()
