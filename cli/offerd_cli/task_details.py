"""`offerd tasks TASK`: all details of one task, from the master and from its slave."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from offerd.files_access import NO_ACCESS
from offerd.operator import OperatorClient
from offerd.operator_messages import TaskSummary
from offerd_cli import slave_statistics
from offerd_cli.render import resources_text, state_text, why
from offerd_cli.slave_statistics import Document
from offerd_cli.units import format_bytes, format_duration


def measured(client: OperatorClient, task: TaskSummary) -> Document | str:
    """What the slave of a running task measures now: `usage` as in its statistics, and for how many tasks (`shared_by`), since
    those of one executor may be measured together. A text gives the reason why there is nothing.
    """
    found = slave_statistics.ask(client.files.get(task.slave_id, NO_ACCESS))
    if isinstance(found, str):
        return f"its slave gives no figures: {found}"
    key = (task.framework_id, task.task_id)
    for each in found["tasks"]:
        if (each["framework_id"], each["task_id"]) == key:
            if each["usage"] is not None:
                return {"usage": each["usage"], "shared_by": 1}
            for executor in found["executors"]:
                if executor["container_id"] == each["container_id"] and executor["usage"] is not None:
                    return {"usage": executor["usage"], "shared_by": executor["tasks"]}
            return "nothing is measured yet"
    return "its slave does not know it yet"


def usage_document(task: TaskSummary, now: Document | str | None) -> Document | None:
    """What it has used: `cpu_s`, `peak_mem_bytes`, and while it runs `mem_bytes`, `processes` and `shared_by`; None if that is
    not known.
    """
    if task.usage is not None:
        return {"cpu_s": task.usage.cpu_s, "peak_mem_bytes": task.usage.peak_mem_bytes}
    if now is None or isinstance(now, str):
        return None
    usage = now["usage"]
    return {
        **{name: usage[name] for name in ("cpu_s", "mem_bytes", "peak_mem_bytes", "processes")},
        "shared_by": now["shared_by"],
    }


def print_task(out: Console, task: TaskSummary, now: Document | str | None) -> None:
    """Print one line for each known detail."""
    for title, said in _lines(task, now):
        out.print(Text.assemble((f"{title:<10}", "bold"), said), soft_wrap=True)


def _lines(task: TaskSummary, now: Document | str | None) -> list[tuple[str, str | Text]]:
    because = why(task.reason, task.message)
    status = "" if task.exit_status is None or because else f", {_exit_text(task.exit_status)}"
    lines: list[tuple[str, str | Text]] = [
        ("task", task.task_id + (f"  ({task.name})" if task.name not in ("", task.task_id) else "")),
        ("framework", f"{task.framework_name}  {task.framework_id}"),
        ("state", Text.assemble(state_text(task.state), status, f"  {because}" if because else "")),
        ("host", f"{task.hostname or '?'}  {task.slave_id}"),
        ("executor", task.executor_id),
        ("user", task.user or "not known"),
        ("holds" if task.ended_s is None else "held", resources_text(task.resources) or "nothing"),
        (
            "limit",
            "none (it is a long task)" if task.time_limit_s is None else format_duration(task.time_limit_s),
        ),
        ("launched", f"{_clock(task.launched_s)}, {format_duration(task.launched_s)} ago"),
        ("ran", format_duration(task.ran_s)),
    ]
    if task.ended_s is not None:
        lines.append(("ended", f"{_clock(task.ended_s)}, {format_duration(task.ended_s)} ago"))
    lines += _usage_lines(task, now)
    if task.output is not None:
        written = f"{format_bytes(task.output.stdout_bytes)} to stdout, {format_bytes(task.output.stderr_bytes)} to stderr"
        lines.append(("wrote", written))
    if task.sandbox:
        lines.append(("sandbox", f"{task.sandbox} at {task.files_address or '?'}"))
    return lines


def _usage_lines(task: TaskSummary, now: Document | str | None) -> list[tuple[str, str | Text]]:
    usage = usage_document(task, now)
    if usage is None:
        return [("used", now if isinstance(now, str) else "not known")]
    shared = usage.get("shared_by", 1)
    among = f"  (all {shared} tasks of its executor together)" if shared > 1 else ""
    asked = task.resources.scalars.get("mem", 0)
    memory = f"peak {format_bytes(usage['peak_mem_bytes'])}" if usage["peak_mem_bytes"] else "peak not known"
    if "mem_bytes" in usage:
        memory = f"{format_bytes(usage['mem_bytes'])} now, {memory}"
    memory += f", of {format_bytes(asked)} asked for" if asked else ", none asked for"
    lines: list[tuple[str, str | Text]] = [
        ("cpu", f"{format_duration(usage['cpu_s'])} used{among}"),
        ("memory", memory + among),
    ]
    if "processes" in usage:
        lines.append(("processes", f"{usage['processes']}{among}"))
    return lines


def _clock(ago_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - ago_s))


def _exit_text(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
