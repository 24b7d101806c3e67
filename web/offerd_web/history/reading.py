"""Looking things up in the history: from any thread, beside the thread that writes, and never in its way.

Each question is bounded in rows and in time. Every method takes `owner`: with one, only what belongs to that owner's frameworks
is found. Times are Unix times in seconds.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history.batch import Gap, SlaveChange
from offerd_web.history.schema import TooSlow, open_to_read, plain_errors

MAX_S = 5.0
MAX_PAGE = 1000
MAX_ROWS = 20_000
"""Rows of any other answer."""
MAX_STEPS = 2000
"""Steps that a time is cut into; a shorter step is lengthened."""
FEW_TASKS = 20_000
"""So many tasks of a framework are found and sorted quickly. If it has more, they are met by looking at all, by launch."""
CHECKED_EVERY = 10_000
"""Steps of SQLite's machine between two looks at the clock."""
REPORTS = {"role": "role", "framework": "framework_id", "user": "user", "day": "day"}
"""What a report is made by, and the column of it."""

_ENDED = frozenset(state for state in TaskState if state.terminal)


class PastTask(msgspec.Struct, frozen=True):
    """A task that has ended."""

    id: int
    framework_id: str
    task_id: str
    slave_id: str
    executor_id: str
    name: str
    state: str
    framework_name: str
    role: str
    hostname: str
    user: str
    launched_at: float
    running_since: float | None
    ended_at: float
    resources: Resources
    time_limit_s: float | None
    reason: str
    message: str
    exit_status: int | None
    container_id: str
    is_command: bool
    stdout_bytes: int | None
    stderr_bytes: int | None
    cpu_s: float | None
    peak_mem_bytes: int | None


class SharePoint(NamedTuple):
    """Averages of a framework over one step."""

    at: float
    """When the step begins."""
    framework_id: str
    framework_name: str
    role: str
    share: float
    held_millicpus: float
    held_mem_bytes: float
    running: float


class UtilizationPoint(NamedTuple):
    """Averages of a resource of the cluster over one step, in thousandths or bytes."""

    at: float
    """When the step begins."""
    resource: str
    total: float
    held: float
    offered: float
    used: float | None


class ReportRow(NamedTuple):
    """What tasks held, used, and held in vain (they were ended at their time limits)."""

    name: str
    """Of the role or user, or the day (UTC, as 2026-01-31), or the framework's id."""
    framework_name: str
    """Empty unless the report is by frameworks."""
    tasks: int
    cpu_s_held: float
    cpu_s_used: float
    cpu_s_wasted: float
    mem_byte_s_held: float
    mem_byte_s_used: float
    mem_byte_s_wasted: float


class Reading:
    """The methods that read, each with a connection of its thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._guard = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    def close_readers(self) -> None:
        """No thread may be reading."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()

    # -- Tasks ----------------------------------------------------------------------------------------------------------

    def tasks(
        self, wanted: TaskFilter, owner: str = "", after: str = "", limit: int = 100, *, role: str = ""
    ) -> tuple[list[PastTask], str | None]:
        """The latest launch first, and where the next page begins; None: this is the last. Raises `BadInput` for an `after`
        that is not such a place, and `TooSlow`.
        """
        limit = min(max(limit, 1), MAX_PAGE)
        if not any(state.terminal for state in wanted.states):
            return [], None
        place = _place(after)
        with self._reading() as database:
            where, values = _conditions(database, wanted, owner, role)
            if place is not None:
                where.append("(launched_at, id) < (?, ?)")
                values += place
            rows = database.execute(
                f"SELECT * FROM tasks WHERE {' AND '.join(where)} ORDER BY launched_at DESC, id DESC LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
        found = [_task(row) for row in rows[:limit]]
        following = f"{found[-1].launched_at!r}/{found[-1].id}" if len(rows) > limit else None
        return found, following

    def task(self, framework_id: str, task_id: str, owner: str = "") -> PastTask | None:
        """The latest that has ended under this id."""
        with self._reading() as database:
            row = database.execute(
                "SELECT * FROM tasks WHERE framework_id = ? AND task_id = ? AND (? = '' OR owner = ?)"
                " ORDER BY launched_at DESC, id DESC LIMIT 1",
                (framework_id, task_id, owner, owner),
            ).fetchone()
        return None if row is None else _task(row)

    # -- The cluster ----------------------------------------------------------------------------------------------------

    def shares(self, since: float, until: float, step_s: float, owner: str = "") -> list[SharePoint]:
        """Averages over steps, in the order of time. A framework that held nothing in a step is not in it."""
        step_s = _step(since, until, step_s)
        with self._reading() as database:
            rows = database.execute(
                """
                WITH samples AS (
                    SELECT CAST((at - :since) / :step AS INTEGER) AS step, count(DISTINCT at) AS number
                    FROM utilization WHERE at >= :since AND at < :until GROUP BY step
                ), sums AS (
                    SELECT CAST((at - :since) / :step AS INTEGER) AS step, framework_id, sum(share) AS share,
                        sum(held_millicpus) AS millicpus, sum(held_mem_bytes) AS mem_bytes, sum(running) AS running
                    FROM shares WHERE at >= :since AND at < :until AND (:owner = '' OR owner = :owner)
                    GROUP BY step, framework_id
                )
                SELECT :since + step * :step, framework_id, coalesce(name, ''), coalesce(role, ''), share / number,
                    millicpus / number, mem_bytes / number, running / number
                FROM sums JOIN samples USING (step) LEFT JOIN frameworks USING (framework_id)
                ORDER BY step, framework_id LIMIT :limit
                """,
                {"since": since, "until": until, "step": step_s, "owner": owner, "limit": MAX_ROWS},
            ).fetchall()
        return [SharePoint(*row) for row in rows]

    def utilization(
        self, since: float, until: float, step_s: float, owner: str = ""
    ) -> list[UtilizationPoint]:
        """Averages over steps, in the order of time. It is the same for every owner: who uses it is not in it."""
        step_s = _step(since, until, step_s)
        with self._reading() as database:
            rows = database.execute(
                """
                SELECT :since + CAST((at - :since) / :step AS INTEGER) * :step AS step, resource,
                    avg(total), avg(held), avg(offered), avg(used)
                FROM utilization WHERE at >= :since AND at < :until
                GROUP BY step, resource ORDER BY step, resource LIMIT :limit
                """,
                {"since": since, "until": until, "step": step_s, "limit": MAX_ROWS},
            ).fetchall()
        return [UtilizationPoint(*row) for row in rows]

    def slave_changes(self, since: float, until: float, owner: str = "") -> list[SlaveChange]:
        """The oldest first. Slaves are the same for every owner."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT at, slave_id, hostname, event FROM slave_changes WHERE at >= ? AND at < ?"
                " ORDER BY at, slave_id, event LIMIT ?",
                (since, until, MAX_ROWS),
            ).fetchall()
        return [SlaveChange(*row) for row in rows]

    def gaps(self, since: float, until: float, owner: str = "") -> list[Gap]:
        """Times that overlap with this one and may lack ends; the oldest first. They are the same for every owner."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT since, until, missed FROM gaps WHERE until > ? AND since < ? ORDER BY since, until LIMIT ?",
                (since, until, MAX_ROWS),
            ).fetchall()
        return [Gap(*row) for row in rows]

    def report(self, since: float, until: float, by: str, owner: str = "") -> list[ReportRow]:
        """What was held and used on the UTC days from that of `since` to that of `until`, days included; who held most comes
        first, days in their order. `by` is one of `REPORTS`. Raises `BadInput` for another.
        """
        column = REPORTS.get(by)
        if column is None:
            raise BadInput(f"there is no report by {by!r}; choose one of {', '.join(REPORTS)}")
        name = "max(framework_name)" if by == "framework" else "''"
        order = "day" if by == "day" else f"sum(cpu_s_held) DESC, {column}"
        with self._reading() as database:
            rows = database.execute(
                f"""
                SELECT {column}, {name}, sum(tasks), sum(cpu_s_held), sum(cpu_s_used), sum(cpu_s_wasted),
                    sum(mem_byte_s_held), sum(mem_byte_s_used), sum(mem_byte_s_wasted)
                FROM accounts
                WHERE day >= date(?, 'unixepoch') AND day <= date(?, 'unixepoch') AND (? = '' OR owner = ?)
                GROUP BY {column} ORDER BY {order} LIMIT ?
                """,
                (since, until, owner, owner, MAX_ROWS),
            ).fetchall()
        return [ReportRow(*row) for row in rows]

    # -- Connections ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection. Whatever takes longer than `MAX_S` is given up."""
        with plain_errors(self.path):
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = open_to_read(self.path)
                with self._guard:
                    self._open.append(connection)
            end = time.monotonic() + MAX_S
            connection.set_progress_handler(lambda: time.monotonic() > end, CHECKED_EVERY)
            try:
                yield connection
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise TooSlow(
                        f"looking through the history took longer than {MAX_S:.0f} s; ask for less time, or one framework"
                    ) from None
                raise


def _conditions(
    database: sqlite3.Connection, wanted: TaskFilter, owner: str, role: str
) -> tuple[list[str], list[Any]]:
    """SQL that is true of the tasks that are wanted, in parts, and its values."""
    where: list[str] = ["1"]
    values: list[Any] = []

    def add(condition: str, *more: object) -> None:
        where.append(condition)
        values.extend(more)

    states = sorted(state.value for state in wanted.states & _ENDED)
    if len(states) < len(_ENDED):
        add(f"state IN ({', '.join('?' * len(states))})", *states)
    if owner:
        add("owner = ? AND owner != ''", owner)  # the second part lets SQLite use the partial index
    if wanted.framework:
        add(*_of_framework(database, wanted.framework))
    if wanted.slave:
        add("(slave_id = ? OR hostname = ?)", wanted.slave, wanted.slave)
    if wanted.name:
        add("(instr(task_id, ?) OR instr(name, ?))", wanted.name, wanted.name)
    if wanted.user:
        add("user = ?", wanted.user)
    if role:
        add("role = ?", role)
    if wanted.since is not None:
        add("+ended_at >= ?", wanted.since)  # looked up by launch, in the order of the answer
    if wanted.until is not None:
        add("launched_at < ?", wanted.until)
    return where, values


def _of_framework(database: sqlite3.Connection, framework: str) -> tuple[str, str]:
    """By the id, if there is one; else by name."""
    (number,) = database.execute(
        "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE framework_id = ? LIMIT ?)", (framework, FEW_TASKS)
    ).fetchone()
    if number == 0:
        return "framework_name = ?", framework
    return ("framework_id = ?" if number < FEW_TASKS else "+framework_id = ?"), framework


def _place(after: str) -> tuple[float, int] | None:
    if not after:
        return None
    launched, _, number = after.partition("/")
    try:
        return float(launched), int(number)
    except ValueError:
        raise BadInput(f"after={after[:100]} is not the `next` of a page") from None


def _step(since: float, until: float, step_s: float) -> float:
    """The step, lengthened where there would be too many."""
    if not until > since:
        raise BadInput("the time must end after it begins: until is not above since")
    return max(step_s, (until - since) / MAX_STEPS, 0.001)


def _task(row: sqlite3.Row) -> PastTask:
    more = row["more_resources"]
    if more is None:
        scalars = {"cpus": row["millicpus"], "mem": row["mem_bytes"]}
        resources = Resources({name: amount for name, amount in scalars.items() if amount})
    else:
        resources = msgspec.json.decode(more, type=Resources)
    return PastTask(
        row["id"], row["framework_id"], row["task_id"], row["slave_id"], row["executor_id"], row["name"], row["state"],
        row["framework_name"], row["role"], row["hostname"], row["user"], row["launched_at"], row["running_since"],
        row["ended_at"], resources, row["time_limit_s"], row["reason"], row["message"], row["exit_status"],
        row["container_id"], bool(row["is_command"]), row["stdout_bytes"], row["stderr_bytes"], row["cpu_s"],
        row["peak_mem_bytes"],
    )  # fmt: skip
