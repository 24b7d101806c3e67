"""`offerd tasks TASK`: all that is known of one task, and nothing else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from offerd.files_access import FilesAccess
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskOutput, TaskState, TaskUsage
from offerd.operator_messages import TaskSummary
from offerd.resources import Resources
from offerd_cli import slave_statistics, task_details
from offerd_cli.render import ScreenConsole

MIB = 1 << 20
USAGE = {
    "cpu_s": 12.5, "mem_bytes": 80 * MIB, "peak_mem_bytes": 127 * MIB, "processes": 3, "throttled_s": 0.0,
    "cpu_pressure": 0.0, "mem_pressure": 0.0, "io_pressure": 0.0,
}  # fmt: skip


def task(state: TaskState = TaskState.RUNNING, **more: Any) -> TaskSummary:
    return TaskSummary(
        TaskID("t.1"), FrameworkID("F-1"), "count", SlaveID("S-1"), "host-a", ExecutorID("command"), state,
        resources=Resources.of(cpus=0.5, mem="128M"), user="ada", launched_s=70.0, ran_s=65.0, **more,
    )  # fmt: skip


def statistics(usage: dict[str, Any] | None, executors: list[dict[str, Any]]) -> dict[str, Any]:
    one = {
        "task_id": "t.1", "framework_id": "F-1", "container_id": "c", "name": "", "state": "TASK_RUNNING", "cpus": 0.5,
        "mem_bytes": 128 * MIB, "usage": usage,
    }  # fmt: skip
    return {"hostname": "host-a", "monotonic_s": 1.0, "executors": executors, "tasks": [one]}


class Operator:
    """An operator client without access to anybody's files."""

    files: dict[SlaveID, FilesAccess] = {}


def measured(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | str) -> slave_statistics.Document | str:
    monkeypatch.setattr(slave_statistics, "ask", lambda _: found)
    return task_details.measured(Operator(), task())  # type: ignore[arg-type]


def shown(summary: TaskSummary, now: slave_statistics.Document | str | None = None) -> dict[str, str]:
    out = io.StringIO()
    task_details.print_task(ScreenConsole(file=out, width=60), summary, now)
    return {line[:10].strip(): line[10:] for line in out.getvalue().splitlines()}


def test_a_running_task_is_measured_now_beside_what_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(task(), measured(monkeypatch, statistics(USAGE, [])))
    assert lines["memory"] == "80M now, peak 127M, of 128M asked for"
    assert (lines["cpu"], lines["processes"], lines["user"]) == ("12.5s used", "3", "ada")
    assert lines["launched"].endswith(", 1m10s ago")
    assert "ended" not in lines


def test_tasks_that_share_their_executors_processes_are_marked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = {
        "container_id": "c",
        "framework_id": "F-1",
        "executor_id": "e",
        "tasks": 4,
        "cpus": 1.0,
        "usage": USAGE,
    }
    lines = shown(task(), measured(monkeypatch, statistics(None, [executor])))
    assert lines["cpu"] == "12.5s used  (all 4 tasks of its executor together)"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("Connection refused", "its slave gives no figures: Connection refused"),
        (statistics(None, []), "nothing is measured yet"),
        ({**statistics(None, []), "tasks": []}, "its slave does not know it yet"),
    ],
)
def test_unknown_figures_are_explained(
    found: dict[str, Any] | str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = measured(monkeypatch, found)
    assert shown(task(), now)["used"] == reason
    assert task_details.usage_document(task(), now) is None


def test_an_ended_task_says_why_and_what_it_took() -> None:
    ended = task(
        TaskState.FAILED, reason="LIMIT_EXCEEDED", message="memory.max", exit_status=-9, ended_s=5.0,
        usage=TaskUsage(2.0, 127 * MIB), output=TaskOutput(2048, 0),
    )  # fmt: skip
    lines = shown(ended)
    assert lines["state"] == "failed  LIMIT_EXCEEDED: memory.max"
    assert lines["memory"] == "peak 127M, of 128M asked for"
    assert lines["wrote"] == "2K to stdout, 0B to stderr"
    assert lines["ended"].endswith("5s ago")
    assert task_details.usage_document(ended, None) == {"cpu_s": 2.0, "peak_mem_bytes": 127 * MIB}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps({**statistics(None, []), "tasks": [{"task_id": 1}]}).encode(),
    ],
)
def test_a_slaves_nonsense_is_reported_in_one_line(text: bytes) -> None:
    with pytest.raises(ValueError, match="its answer is not valid"):
        slave_statistics.read(text)
    assert slave_statistics.read(json.dumps(statistics(USAGE, [])).encode()) == statistics(USAGE, [])
