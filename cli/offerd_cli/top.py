"""What tasks use: requested from each slave's HTTP server; two answers make a rate.

Tasks with a cgroup of their own have a row each. Tasks that share their executor's processes have one row together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from offerd.ids import FrameworkID
from offerd.operator import OperatorClient
from offerd.workers import Workers
from offerd_cli import slave_statistics
from offerd_cli.fitting import Column
from offerd_cli.render import FittedTable
from offerd_cli.screen import one_line
from offerd_cli.units import format_bytes

SLAVES_AT_ONCE = 16
HOT, WARM = 50.0, 10.0
"""Percentage of time spent waiting from which it is shown in red, or in yellow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task, or all tasks of one executor (`tasks` is their number). Cpus are averages over the interval."""

    kind: str  # task | executor
    name: str
    framework: str
    hostname: str
    cpus: float
    held_cpus: float
    mem_bytes: int
    held_mem_bytes: int
    peak_mem_bytes: int
    throttled: float  # fraction of the interval
    cpu_pressure: float  # percent of the last ten seconds
    mem_pressure: float
    io_pressure: float
    processes: int
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """The slaves' answers; `missing` are slaves without one, with the reason."""

    frameworks: dict[FrameworkID, str]  # id -> name
    documents: dict[str, dict[str, Any]]  # by the slave's id
    missing: dict[str, str]  # by hostname


def take_sample(client: OperatorClient) -> Sample:
    """Ask the master for its slaves, and each slave for its figures. Raises `OfferdError` if there is no master."""
    frameworks = {framework.framework_id: framework.name for framework in client.frameworks()}
    slaves = [slave for slave in client.slaves() if slave.state != "lost"]
    documents: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    with Workers(SLAVES_AT_ONCE, "questions") as pool:
        answers = pool.map(lambda slave: slave_statistics.ask(slave.files), slaves)
        for slave, answer in zip(slaves, answers, strict=True):
            if isinstance(answer, str):
                missing[slave.info.hostname] = answer
            else:
                documents[slave.info.slave_id] = answer
    return Sample(frameworks, documents, missing)


def rows(before: Sample, now: Sample) -> list[Row]:
    """The rows, busiest first. A task that was not in `before` has used nothing yet."""
    found: list[Row] = []
    for slave_id, document in now.documents.items():
        earlier = before.documents.get(slave_id, {})
        elapsed_s = document["monotonic_s"] - earlier.get("monotonic_s", document["monotonic_s"])
        used = {_key(task): task["usage"] for task in earlier.get("tasks", ()) if task["usage"] is not None}
        measured_tasks = [task for task in document["tasks"] if task["usage"] is not None]
        for task in measured_tasks:
            found.append(
                _task_row(task, used.get(_key(task)), elapsed_s, now.frameworks, document["hostname"])
            )
        for executor in document["executors"]:
            others = [
                task
                for task in document["tasks"]
                if task["usage"] is None and task["container_id"] == executor["container_id"]
            ]
            if others and executor["usage"] is not None:
                found.append(_executor_row(executor, others, now.frameworks, document["hostname"]))
    return sorted(found, key=lambda row: (-row.cpus, -row.mem_bytes, row.name))


def _key(task: dict[str, Any]) -> tuple[str, str]:
    return task["framework_id"], task["task_id"]


def _task_row(
    task: dict[str, Any],
    before: dict[str, Any] | None,
    elapsed_s: float,
    frameworks: dict[FrameworkID, str],
    hostname: str,
) -> Row:
    usage = task["usage"]
    cpus = throttled = 0.0
    if before is not None and elapsed_s > 0:
        cpus = max(0.0, usage["cpu_s"] - before["cpu_s"]) / elapsed_s
        throttled = max(0.0, usage["throttled_s"] - before["throttled_s"]) / elapsed_s
    return Row(
        "task", task["task_id"], frameworks.get(task["framework_id"], task["framework_id"]), hostname, cpus,
        task["cpus"], usage["mem_bytes"], task["mem_bytes"], usage["peak_mem_bytes"], throttled, usage["cpu_pressure"],
        usage["mem_pressure"], usage["io_pressure"], usage["processes"],
    )  # fmt: skip


def _executor_row(
    executor: dict[str, Any], tasks: list[dict[str, Any]], frameworks: dict[FrameworkID, str], hostname: str
) -> Row:
    usage = executor["usage"]
    held_cpus, held_mem = sum(task["cpus"] for task in tasks), sum(task["mem_bytes"] for task in tasks)
    return Row(
        "executor", executor["executor_id"], frameworks.get(executor["framework_id"], executor["framework_id"]),
        hostname, executor["cpus"], held_cpus, usage["mem_bytes"], held_mem, usage["peak_mem_bytes"], 0.0,
        usage["cpu_pressure"], usage["mem_pressure"], usage["io_pressure"], usage["processes"], len(tasks),
    )  # fmt: skip


def row_document(row: Row) -> dict[str, Any]:
    """For programs."""
    return {
        "kind": row.kind,
        "name": row.name,
        "tasks": row.tasks,
        "framework": row.framework,
        "hostname": row.hostname,
        "cpus": round(row.cpus, 3),
        "held_cpus": row.held_cpus,
        "mem_bytes": row.mem_bytes,
        "held_mem_bytes": row.held_mem_bytes,
        "peak_mem_bytes": row.peak_mem_bytes,
        "throttled": round(row.throttled, 3),
        "pressure": {"cpu": row.cpu_pressure, "memory": row.mem_pressure, "io": row.io_pressure},
        "processes": row.processes,
    }


def table(found: Iterable[Row]) -> FittedTable:
    """CPU and MEM are used/held; THROTTLED and the pressures are fractions of the time."""
    made = FittedTable(
        Column("TASK", cuts=True),
        Column("FRAMEWORK", worth=50, cuts=True),
        Column("HOST", worth=60, cuts=True),
        Column("CPU", "right"),
        Column("MEM", "right"),
        Column("PEAK", "right", worth=40),
        Column("THROTTLED", "right", worth=35),
        Column("CPU WAIT", "right", worth=30),
        Column("MEM WAIT", "right", worth=25),
        Column("IO WAIT", "right", worth=20),
        Column("PROCS", "right", worth=15),
    )
    for row in found:
        name = row.name if row.kind == "task" else f"{row.tasks} of executor {row.name}"
        full = row.held_mem_bytes and row.mem_bytes > 0.9 * row.held_mem_bytes
        made.add_row(
            name,
            row.framework,
            row.hostname,
            f"{row.cpus:.2f}/{row.held_cpus:g}",
            Text(
                f"{format_bytes(row.mem_bytes)}/{_held(row.held_mem_bytes)}", style="yellow" if full else ""
            ),
            format_bytes(row.peak_mem_bytes),
            _percent(100 * row.throttled),
            _percent(row.cpu_pressure),
            _percent(row.mem_pressure),
            _percent(row.io_pressure),
            str(row.processes),
        )
    return made


class LiveTable:
    """The table on the whole screen. A note stands above it until the next rows come."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._rows: list[Row] = []

    def show(self, found: list[Row]) -> None:
        self._rows = found
        self._live.update(table(found), refresh=True)

    def note(self, text: str) -> None:
        line = Text(one_line(f"offerd top: {text}"), style="yellow", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(line, table(self._rows)), refresh=True)


def _held(amount: int) -> str:
    return format_bytes(amount) if amount else "-"


def _percent(amount: float) -> Text:
    style = "red" if amount >= HOT else "yellow" if amount >= WARM else ""
    return Text(f"{amount:.0f}%" if amount >= 0.5 else "-", style=style)
