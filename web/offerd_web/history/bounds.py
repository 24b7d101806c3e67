"""What is removed from the history: what is older than its age limit, and the oldest while the file is at its size limit.

A little is removed with each write, somewhat more than it adds, so that no write waits long. Pages that become free are
used again by later writes; only a file above its limit (the limit was lowered) is made smaller, by incremental vacuum.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from offerd.errors import BadInput
from offerd_web.history.accounting import DAY_S

MIN_BYTES = 4 << 20
LEAST_STEP = 500
"""Rows of what is due that a write removes beside a quarter more than it adds."""
PAUSE_S = 1.0
OTHERS_PAUSE_S = 10.0
TASK_BYTES = 1024
"""About the most that a usual task adds, with its indexes and a row of the accounts."""
ACCOUNT_BYTES = 400
"""About what a row of the accounts takes, with its index."""
VACUUM_PAGES = 256
"""Pages that a write gives back to the file system, of a file above its limit."""

REMOVED_UNTIL = "tasks_removed_until"
THINNED_UNTIL = "samples_thinned_until"


class HistorySettings(NamedTuple):
    """How long and how much is kept."""

    tasks_age_s: float = 30.0 * DAY_S
    """Ended tasks, frameworks that have ended, samples, changes of slaves, gaps."""
    accounts_age_s: float = 400.0 * DAY_S
    max_bytes: int = 1 << 30
    """Of the file. Its write-ahead log may have some megabytes more. Accounts may take half of it."""
    fine_s: float = 1.0 * DAY_S
    """Samples older than this are thinned."""
    coarse_step_s: float = 300.0
    """To one in this time."""

    def checked(self) -> HistorySettings:
        """The same. Raises `BadInput`."""
        if self.max_bytes < MIN_BYTES:
            raise BadInput(
                f"a history of {self.max_bytes} bytes is too small; give it {MIN_BYTES >> 20}M at least"
            )
        if min(self.tasks_age_s, self.accounts_age_s, self.fine_s, self.coarse_step_s) <= 0:
            raise BadInput("the history is kept for a time above 0")
        return self


class Bounds:
    """Removes through the writer's connection, within its transaction."""

    def __init__(self, database: sqlite3.Connection, settings: HistorySettings) -> None:
        self._database = database
        self._settings = settings
        self._added = 0
        self._removed_at = self._others_removed_at = float("-inf")
        (self._page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        self.removed_until = self._mark(REMOVED_UNTIL)
        """Tasks that ended up to this time are not here any more, or not all of them."""
        self.thinned_until = self._mark(THINNED_UNTIL)
        """Samples up to this time are averages."""

    def read_marks(self) -> None:
        """Read again what a transaction that was rolled back had changed."""
        self.removed_until = self._mark(REMOVED_UNTIL)
        self.thinned_until = self._mark(THINNED_UNTIL)

    def remove(self, now: float, added: int) -> None:
        """`added`: rows that the write adds. A few small writes after each other remove once."""
        self._added += added
        if self._added < LEAST_STEP and abs(now - self._removed_at) < PAUSE_S:
            return
        step = self._added + self._added // 4 + LEAST_STEP
        self._added, self._removed_at = 0, now
        self._remove_tasks(now - self._settings.tasks_age_s, step)
        if abs(now - self._others_removed_at) >= OTHERS_PAUSE_S:
            self._others_removed_at = now
            self._remove_others(now)
        if self._used_bytes() > self._limit_bytes(added):
            self._remove_any(step)

    def _remove_others(self, now: float) -> None:
        """What is too old beside tasks. It grows slowly."""
        settings, step = self._settings, LEAST_STEP
        oldest, oldest_day = now - settings.tasks_age_s, now - settings.accounts_age_s
        self._delete("accounts", "day < date(?, 'unixepoch')", max(oldest_day, 0.0), step)
        self._delete("frameworks", "seen_at < ?", oldest, step)
        for table in ("slave_changes", "shares", "utilization"):
            self._remove_before(table, oldest, step)
        self._database.execute("DELETE FROM gaps WHERE until < ?", (oldest,))
        self._database.execute("DELETE FROM masters WHERE heard_at < ?", (oldest,))
        self._thin(now - settings.fine_s)

    def shrink(self) -> None:
        """Give back some pages of a file above its limit. Not within a transaction."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        if pages * self._page_bytes > self._settings.max_bytes:
            # It frees a page with each step, in rows without columns, of which `execute` takes one alone.
            self._database.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _limit_bytes(self, added: int) -> int:
        """The rest is room for what this write adds after its removals, and those that come before the next removal."""
        most = self._settings.max_bytes
        return most - most // 16 - min((added + LEAST_STEP) * TASK_BYTES, most // 4)

    def _used_bytes(self) -> int:
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        return int((pages - free) * self._page_bytes)

    def _remove_any(self, step: int) -> None:
        """The file is full: remove the oldest, of accounts only where they take more than half."""
        row = self._database.execute("SELECT max(id) - min(id) + 1 FROM accounts").fetchone()
        if (row[0] or 0) * ACCOUNT_BYTES > self._settings.max_bytes // 2:
            # Each task may add a row here, too, and tasks are not removed meanwhile.
            self._delete("accounts", "id <= (SELECT min(id) FROM accounts) + ?", 2 * step, 2 * step)
        elif not self._remove_tasks(None, step):
            for table in ("shares", "utilization", "slave_changes", "frameworks"):
                column = "seen_at" if table == "frameworks" else "at"
                row = self._database.execute(
                    f"SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET ?", (step,)
                ).fetchone()
                if row is not None:
                    self._database.execute(f"DELETE FROM {table} WHERE {column} < ?", row)
                    return

    def _remove_tasks(self, before: float | None, step: int) -> bool:
        """At most `step` tasks, the oldest first. Returns whether there was one."""
        where, values = ("", ()) if before is None else ("WHERE ended_at < ?", (before,))
        oldest = f"SELECT id, ended_at FROM tasks {where} ORDER BY ended_at LIMIT {step}"
        row = self._database.execute(f"SELECT max(ended_at) FROM ({oldest})", values).fetchone()
        if row[0] is None:
            return False
        self._database.execute(f"DELETE FROM tasks WHERE id IN (SELECT id FROM ({oldest}))", values)
        self.removed_until = max(self.removed_until, row[0])
        self._set_mark(REMOVED_UNTIL, self.removed_until)
        return True

    def _delete(self, table: str, where: str, value: float, step: int) -> None:
        self._database.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT ?)",
            (value, step),
        )

    def _remove_before(self, table: str, moment: float, step: int) -> None:
        """About `step` rows of a table whose key begins with a time, as far as they are that old."""
        row = self._database.execute(
            f"SELECT at FROM {table} WHERE at < ? ORDER BY at LIMIT 1 OFFSET ?", (moment, step)
        ).fetchone()
        self._database.execute(f"DELETE FROM {table} WHERE at < ?", (moment,) if row is None else row)

    # -- Samples --------------------------------------------------------------------------------------------------------

    def _thin(self, before: float) -> None:
        """Put the averages of one step in place of its samples. What is missing in a sample counts as 0."""
        width = self._settings.coarse_step_s
        row = self._database.execute(
            "SELECT at FROM utilization WHERE at >= ? ORDER BY at LIMIT 1", (self.thinned_until,)
        ).fetchone()
        if row is None:
            return
        since = row[0] // width * width
        until = since + width
        if until > before:
            return
        database, span = self._database, (since, until)
        (samples,) = database.execute(
            "SELECT count(DISTINCT at) FROM utilization WHERE at >= ? AND at < ?", span
        ).fetchone()
        shares = database.execute(
            "SELECT framework_id, owner, sum(share), sum(held_millicpus), sum(held_mem_bytes), sum(running)"
            " FROM shares WHERE at >= ? AND at < ? GROUP BY framework_id, owner",
            span,
        ).fetchall()
        utilization = database.execute(
            "SELECT resource, sum(total), sum(held), sum(offered), avg(used)"
            " FROM utilization WHERE at >= ? AND at < ? GROUP BY resource",
            span,
        ).fetchall()
        for table in ("shares", "utilization"):
            database.execute(f"DELETE FROM {table} WHERE at >= ? AND at < ?", span)
        middle = since + width / 2
        database.executemany(
            "INSERT INTO shares VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(middle, *row[:2], *(total / samples for total in row[2:])) for row in shares],
        )
        database.executemany(
            "INSERT INTO utilization VALUES (?, ?, ?, ?, ?, ?)",
            [
                (middle, resource, total / samples, held / samples, offered / samples, used)
                for resource, total, held, offered, used in utilization
            ],
        )
        self.thinned_until = until
        self._set_mark(THINNED_UNTIL, until)

    def _mark(self, name: str) -> float:
        row = self._database.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return float("-inf") if row is None else float(row[0])

    def _set_mark(self, name: str, value: float) -> None:
        self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))
