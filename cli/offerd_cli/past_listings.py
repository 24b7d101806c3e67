"""Listings from the history that a gateway keeps: ended tasks, and reports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from offerd.errors import OfferdError
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.operator_messages import TaskSummary
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_cli import documents, render
from offerd_cli.fitting import Column
from offerd_cli.screen import say
from offerd_cli.units import format_bytes, format_duration
from offerd_cli.web_client import Gateway, ask, find_gateway
from offerd_web.core.past_shapes import Gap, Gaps, Report, ReportRow
from offerd_web.core.shapes import Task

T = TypeVar("T")

PAGE = 1000
MAX_LISTED = 20_000
HOUR_S = 3600.0


def print_ended_tasks(
    master: str, since_s: float, *, framework: str, slave: str, user: str, as_json: bool
) -> None:
    """List the tasks that have ended in the last `since_s` seconds, the latest launch first."""
    gateway, now = find_gateway(master), time.time()
    query = {
        "state": "ended", "since": now - since_s, "framework": framework, "slave": slave, "user": user, "limit": PAGE,
    }  # fmt: skip
    tasks, only_of = _tasks(gateway, query)
    lacking = ask(gateway, "/v1/gaps", {"since": now - since_s})
    if as_json:
        documents.print_document({"tasks": tasks, "gaps": lacking.get("gaps"), "only_of": only_of})
        return
    if tasks:
        render.print_tasks(render.console(), [_summary(task, now) for task in tasks])
    else:
        say(f"no such tasks have ended in the last {format_duration(since_s)}")
    for line in gap_lines(_as(Gaps, lacking).gaps):
        say(line)
    render.print_owner(only_of)


def _tasks(gateway: Gateway, query: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    tasks: list[dict[str, Any]] = []
    after = ""
    while True:
        page = ask(gateway, "/v1/tasks", {**query, "after": after})
        tasks += page.get("tasks", [])
        after = page.get("next") or ""
        if not after:
            return tasks, str(page.get("only_of", ""))
        if len(tasks) >= MAX_LISTED:
            say(f"only the latest {len(tasks)} are listed; --since with less time lists all")
            return tasks, str(page.get("only_of", ""))


def _summary(document: dict[str, Any], now: float) -> TaskSummary:
    """As the master lists it. Raises `OfferdError` for a document that is none of a task."""
    task = _as(Task, document)
    try:
        state = TaskState(task.state)
    except ValueError as error:
        raise OfferdError(f"the gateway's answer is not valid: {error}") from None
    ended_at = now if task.ended_at is None else task.ended_at
    scalars = {name: amount for name, amount in task.resources.items() if isinstance(amount, int | float)}
    return TaskSummary(
        TaskID(task.task_id),
        FrameworkID(task.framework_id),
        task.framework_name,
        SlaveID(task.slave_id),
        task.hostname,
        ExecutorID(task.executor_id),
        state,
        name=task.name,
        resources=Resources.of(cpus=scalars.pop("cpus", 0), mem=int(scalars.pop("mem", 0))),
        time_limit_s=task.time_limit_s,
        reason=task.reason,
        message=task.message,
        exit_status=task.exit_status,
        launched_s=max(now - task.launched_at, 0.0),
        ran_s=0.0 if task.running_since is None else max(ended_at - task.running_since, 0.0),
        ended_s=max(now - ended_at, 0.0),
        user=task.user,
    )


def _as(kind: type[T], document: object) -> T:
    """Raises `OfferdError` for a document of another kind: another program, or a much older or newer gateway."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise OfferdError(f"the gateway's answer is not valid: {error}") from None


def gap_lines(gaps: Sequence[Gap]) -> Iterator[str]:
    """One line for each time that the history may not have."""
    for gap in gaps[-3:]:
        begin, end = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) for at in (gap.since, gap.until))
        how_many = "perhaps some" if gap.missed is None else str(gap.missed)
        yield f"the history lacks ends of tasks ({how_many}) from {begin} to {end}"
    if len(gaps) > 3:
        yield f"... and in {len(gaps) - 3} times before that"


def print_report(master: str, since_s: float, by: str, *, as_json: bool) -> None:
    """What was held, used and wasted in the last `since_s` seconds, whole days included."""
    gateway, now = find_gateway(master), time.time()
    document = ask(gateway, "/v1/report", {"since": now - since_s, "by": by})
    if as_json:
        documents.print_document(document)
        return
    report = _as(Report, document)
    if not report.rows:
        say(f"no tasks have ended in the last {format_duration(since_s)}")
    else:
        render.print_table(render.console(), _report_table(report.rows, by))
    for line in gap_lines(report.gaps):
        say(line)
    render.print_owner(report.only_of)


def _report_table(rows: Sequence[ReportRow], by: str) -> render.FittedTable:
    table = render.FittedTable(
        Column(by.upper(), cuts=True),
        Column("TASKS", "right", worth=60),
        Column("CPU HELD", "right"),
        Column("USED", "right", worth=80),
        Column("WASTED", "right", worth=70),
        Column("MEM HELD", "right", worth=50),
        Column("MEM USED", "right", worth=40),
    )
    for row in rows:
        held, used, wasted = row.cpu_s_held, row.cpu_s_used, row.cpu_s_wasted
        table.add_row(
            row.framework_name or row.name or "-",
            str(row.tasks),
            f"{held:.1f} cpu s" if held < HOUR_S else f"{held / HOUR_S:.1f} cpu h",
            f"{used / held:.0%}" if held else "-",
            f"{wasted / held:.0%}" if held and wasted else "-",
            f"{format_bytes(round(row.mem_byte_s_held / HOUR_S))} h",
            f"{row.mem_byte_s_used / row.mem_byte_s_held:.0%}" if row.mem_byte_s_held else "-",
        )
    return table
