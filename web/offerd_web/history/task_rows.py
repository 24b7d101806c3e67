"""Ended tasks as rows, and how those that are not in the table yet are added to it.

One statement adds many rows. SQLite's module lets go of Python's lock around each call, and gets it back only when a busy
event loop yields it, up to 5 ms later: a statement for each row would add two hundred rows a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from offerd.ids import FrameworkID, TaskID, owner_of
from offerd.protocol.change_messages import EndedTask
from offerd.resources import Resources
from offerd.states import Reason
from offerd_web.history.accounting import Accounts, Use
from offerd_web.history.batch import NO_NAMES, Batch

OVERLAP_S = 1.0
"""What is reported by two masters is one task if their times overlap by more than this: so exactly are their clocks known."""
MAX_MESSAGE = 4096
"""Characters of a task's message that are kept."""
TOGETHER = 1024
"""Rows that one statement adds: more have more values than SQLite takes. What remains is added by some more statements, each of
half as many.
"""

Row = tuple[Any, ...]
COLUMNS = (
    "framework_id", "task_id", "slave_id", "executor_id", "name", "state", "framework_name", "role", "owner", "hostname",
    "user", "launched_at", "running_since", "ended_at", "millicpus", "mem_bytes", "more_resources", "time_limit_s",
    "reason", "message", "exit_status", "container_id", "is_command", "stdout_bytes", "stderr_bytes", "cpu_s",
    "peak_mem_bytes", "master_id", "master_launched_us", "lifetime_us",
)  # fmt: skip
_USUAL = {"cpus", "mem"}

_json = msgspec.json.Encoder().encode


def _adding(number: int) -> str:
    """SQL that adds those of so many rows that are not there yet. Rows of one statement are not compared with each other."""
    names, marks = ", ".join(COLUMNS), f"({', '.join('?' * len(COLUMNS))})"
    # The statement must begin with INSERT: Python's module counts the rows of no other.
    # A task so short that it cannot overlap for long is known by what its slave measured, which both masters pass on.
    return f"""INSERT INTO tasks ({names}) WITH new ({names}) AS (VALUES {", ".join([marks] * number)})
        SELECT * FROM new WHERE NOT EXISTS (
            SELECT 1 FROM tasks AS old WHERE old.framework_id = new.framework_id AND old.task_id = new.task_id AND
            CASE WHEN old.master_id = new.master_id
            THEN old.master_launched_us = new.master_launched_us AND old.lifetime_us = new.lifetime_us
            ELSE min(old.ended_at, new.ended_at) - max(old.launched_at, new.launched_at) > {OVERLAP_S}
                OR abs(old.launched_at - new.launched_at) < {OVERLAP_S}
                AND old.slave_id = new.slave_id AND old.container_id = new.container_id AND old.container_id != ''
                AND old.state = new.state AND old.exit_status IS new.exit_status
                AND old.cpu_s IS new.cpu_s AND old.peak_mem_bytes IS new.peak_mem_bytes
            END
        )"""


_ADDING = {1 << power: _adding(1 << power) for power in range(TOGETHER.bit_length())}


class TaskRows:
    """Collects rows and adds them, and counts those that are new in `accounts`. Call `flush` at the end."""

    def __init__(self, database: sqlite3.Connection, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts
        self._waiting: dict[tuple[FrameworkID, TaskID], tuple[EndedTask, Row]] = {}

    def add(self, batch: Batch, clock_offset_s: float, removed_until: float, latest: float) -> None:
        """Those tasks of the batch that ended after `removed_until`; older ones have been here, and were removed. No task ended
        after `latest`.
        """
        names, hostnames, master_id, waiting = batch.names, batch.hostnames, batch.master_id, self._waiting
        for task in batch.ended:
            ended_at = min(round(task.ended_at + clock_offset_s, 3), latest)
            if ended_at <= removed_until:
                continue
            key = framework_id, _ = task.framework_id, task.task_id
            if key in waiting or len(waiting) == TOGETHER:
                self.flush()
            called = names.get(framework_id, NO_NAMES)
            hostname = hostnames.get(task.slave_id, "")
            launched, running, resources = task.launched_at, task.running_since, task.resources
            output, usage, scalars = task.output, task.usage, resources.scalars
            waiting[key] = task, (
                framework_id, task.task_id, task.slave_id, task.executor_id, task.name, task.state._value_, called.name,
                called.role, owner_of(framework_id), hostname, task.user,
                min(round(launched + clock_offset_s, 3), ended_at),
                None if running is None else round(running + clock_offset_s, 3),
                ended_at,
                scalars.get("cpus", 0), scalars.get("mem", 0), _more_resources(resources),
                task.time_limit_s, task.reason, task.message[:MAX_MESSAGE], task.exit_status, task.container_id,
                task.is_command,
                None if output is None else output.stdout_bytes, None if output is None else output.stderr_bytes,
                None if usage is None else usage.cpu_s, None if usage is None else usage.peak_mem_bytes,
                master_id, round(launched * 1e6), round((task.ended_at - launched) * 1e6),
            )  # fmt: skip

    def flush(self) -> None:
        """Add what has been collected."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        while waiting:
            number = 1 << (len(waiting).bit_length() - 1)
            self._add_rows(waiting[:number])
            del waiting[:number]

    def _add_rows(self, some: Sequence[tuple[EndedTask, Row]]) -> None:
        values = [value for _, row in some for value in row]
        adding = self._database.execute(_ADDING[len(some)], values)
        if adding.rowcount < len(some):
            new = self._keys_of_last(adding) if adding.rowcount else set()
            some = [(task, row) for task, row in some if (row[0], row[1]) in new]
        for task, row in some:
            self._accounts.add(row[0], row[6], row[7], row[10], _use(task, row))

    def _keys_of_last(self, adding: sqlite3.Cursor) -> set[tuple[str, str]]:
        """Framework id and task id of the rows that this statement has added: their row ids are the last."""
        (found,) = self._database.execute(
            "SELECT json_group_array(json_array(framework_id, task_id)) FROM tasks WHERE id > ?",
            ((adding.lastrowid or 0) - adding.rowcount,),
        ).fetchone()
        return {(framework_id, task_id) for framework_id, task_id in msgspec.json.decode(found)}


def _more_resources(resources: Resources) -> str | None:
    if resources.ranges or resources.sets or resources.scalars.keys() - _USUAL:
        return _json(resources).decode()
    return None


def _use(task: EndedTask, row: Row) -> Use:
    usage = task.usage
    return Use(
        row[11], row[12], row[13], row[14], row[15],
        0.0 if usage is None else usage.cpu_s, 0 if usage is None else usage.peak_mem_bytes,
        task.reason == Reason.TASK_TIMEOUT,
    )  # fmt: skip
