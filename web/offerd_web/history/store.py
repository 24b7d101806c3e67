"""The history's file: `write` is called by one thread; the methods that read (`reading.py`) by any.

A task is recognised when its end is sent again. One master gives moments on one clock, so its launch and lifetime on that clock
are exactly the same each time. Another master, which heard of the same end from the slave, has another clock, and measures from
other messages: there is never more than one open task of an id, so two whose times overlap are the same.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from offerd.ids import FrameworkID, owner_of
from offerd_web.history.accounting import DAY_S, Accounts, day_of, iso_day
from offerd_web.history.batch import Batch, PastFramework, SlaveChange
from offerd_web.history.bounds import Bounds, HistorySettings
from offerd_web.history.reading import Reading
from offerd_web.history.schema import HistoryError, open_to_write, plain_errors, put_many, roll_back
from offerd_web.history.task_rows import TaskRows

CLOCK_STEP_S = 5.0
"""A master's clock keeps its distance from ours, as it was measured first, unless ours was set by more than this."""
FUTURE_S = float(DAY_S)
"""No task has ended later than this after it was heard of."""

SAME_KIND = {
    event: ("registered", *kind)
    for kind in (
        ("active", "deactivated", "draining", "drained"),
        ("silent", "heard"),
        ("disk-full", "disk-free"),
    )
    for event in kind
}
"""Events of slaves that follow each other: the same one twice says nothing new, unless the slave has registered in between. A
gateway that has restarted sees states and not when they began.
"""

_ADD_ACCOUNTS = put_many(
    """
    INSERT INTO accounts (day, framework_id, framework_name, role, user, owner, tasks,
        cpu_s_held, cpu_s_used, cpu_s_wasted, mem_byte_s_held, mem_byte_s_used, mem_byte_s_wasted)
    """,
    13,
    """
    ON CONFLICT (day, framework_id, framework_name, role, user) DO UPDATE SET
        tasks = tasks + excluded.tasks,
        cpu_s_held = cpu_s_held + excluded.cpu_s_held,
        cpu_s_used = cpu_s_used + excluded.cpu_s_used,
        cpu_s_wasted = cpu_s_wasted + excluded.cpu_s_wasted,
        mem_byte_s_held = mem_byte_s_held + excluded.mem_byte_s_held,
        mem_byte_s_used = mem_byte_s_used + excluded.mem_byte_s_used,
        mem_byte_s_wasted = mem_byte_s_wasted + excluded.mem_byte_s_wasted
    """,
)
# A framework that is not described any more keeps its names.
_PUT_FRAMEWORKS = put_many(
    """
    INSERT INTO frameworks (framework_id, name, role, owner, user, hostname, since, ended_at, state, counts, seen_at)
    """,
    11,
    """
    ON CONFLICT (framework_id) DO UPDATE SET
        name = CASE WHEN excluded.name = '' THEN name ELSE excluded.name END,
        role = CASE WHEN excluded.role = '' THEN role ELSE excluded.role END,
        user = CASE WHEN excluded.user = '' THEN user ELSE excluded.user END,
        hostname = CASE WHEN excluded.hostname = '' THEN hostname ELSE excluded.hostname END,
        since = min(since, excluded.since),
        ended_at = coalesce(
            excluded.ended_at, CASE WHEN excluded.state IN ('ended', 'forgotten') THEN ended_at END
        ),
        state = CASE WHEN excluded.state = 'forgotten' AND state = 'ended' THEN state ELSE excluded.state END,
        counts = excluded.counts,
        seen_at = excluded.seen_at
    WHERE excluded.seen_at >= seen_at
    """,
)
_PUT_SHARES = put_many("INSERT OR REPLACE INTO shares", 7)
_PUT_UTILIZATION = put_many("INSERT OR REPLACE INTO utilization", 6)
_PUT_SLAVE_CHANGES = put_many("INSERT OR IGNORE INTO slave_changes", 4)
_PUT_GAP = "INSERT OR IGNORE INTO gaps VALUES (?, ?, ?)"

_json = msgspec.json.Encoder().encode


class _Heard(NamedTuple):
    """The row of `cursor`."""

    origin: str
    master_id: str
    ended_after: int
    at: float


class Cursor(NamedTuple):
    """How far the ends of a master are in the history."""

    origin: str
    """`Changes.origin`."""
    ended_after: int
    """`Changes.ended_after`."""
    clock_offset_s: float
    """Our wall clock minus that master's clock."""
    heard_at: float
    """When it was heard last; a Unix time in seconds."""


class History(Reading):
    """One file, held by one process. Every method raises `HistoryError` for a full disk, a damaged or a locked file."""

    def __init__(self, path: Path, settings: HistorySettings | None = None) -> None:
        """Open the file, and make it if it is not there. The thread that calls `write` may be another than this one."""
        super().__init__(path)
        self._settings = (settings or HistorySettings()).checked()
        self._lock = _held_alone(path)
        try:
            self._database = open_to_write(path)
            with plain_errors(path):
                self._bounds = Bounds(self._database, self._settings)
                self._heard: _Heard | None = None
                self._offsets: dict[str, float] = {}
                self._read_heard()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """No thread may be within a method."""
        self.close_readers()
        self._database.close()
        os.close(self._lock)

    def cursor(self) -> Cursor | None:
        """From where a gateway goes on to follow. None: nothing has been written. For the thread that writes."""
        with plain_errors(self.path):
            row = self._database.execute(
                "SELECT origin, ended_after, clock_offset_s, cursor.heard_at FROM cursor JOIN masters USING (master_id)"
            ).fetchone()
        return None if row is None else Cursor(*row)

    def write(self, *batches: Batch) -> None:
        """Write all of these in one transaction, or nothing of them. What is here already is not written again."""
        if not batches:
            return
        database = self._database
        with plain_errors(self.path):
            try:
                database.execute("BEGIN IMMEDIATE")
                self._bounds.remove(batches[-1].at, sum(len(batch.ended) for batch in batches))
                accounts = Accounts(day_of(batches[-1].at - self._settings.accounts_age_s))
                rows = TaskRows(database, accounts)
                for batch in batches:
                    self._write(batch, rows)
                rows.flush()
                self._write_accounts(accounts)
                self._write_heard()
                database.execute("COMMIT")
            except BaseException:
                roll_back(database)
                self._bounds.read_marks()
                self._read_heard()
                raise
            self._bounds.shrink()

    # -- Within the transaction -----------------------------------------------------------------------------------------

    def _write(self, batch: Batch, rows: TaskRows) -> None:
        offset_s = self._offset(batch)
        if batch.ended:
            rows.add(batch, offset_s, self._bounds.removed_until, batch.at + FUTURE_S)
        if batch.frameworks:
            self._put(_PUT_FRAMEWORKS, [_framework_row(one, batch.at) for one in batch.frameworks])
        if batch.slave_changes:
            self._write_slave_changes(batch.slave_changes)
        if batch.shares or batch.utilization:
            self._write_samples(batch)
        for gap in batch.gaps:
            self._database.execute(_PUT_GAP, (gap.since, max(gap.until, gap.since), gap.missed))
        if batch.origin:
            self._move_heard(batch)

    def _put(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows as one statement of `put_many`."""
        if rows:
            self._database.execute(statement, (_json(rows).decode(),))

    def _write_accounts(self, accounts: Accounts) -> None:
        rows = [
            (iso_day(day), framework_id, name, role, user, owner_of(framework_id), *sums)
            for (day, framework_id, name, role, user), sums in accounts.rows.items()
        ]
        self._put(_ADD_ACCOUNTS, rows)

    def _write_slave_changes(self, changes: Sequence[SlaveChange]) -> None:
        """In their order: what is new depends on what came before."""
        plain: list[tuple[Any, ...]] = []
        for change in changes:
            row = change.at, change.slave_id, change.event, change.hostname
            kind = SAME_KIND.get(change.event)
            if kind is None:
                plain.append(row)
                continue
            self._put(_PUT_SLAVE_CHANGES, plain)
            plain = []
            marks = ", ".join("?" * len(kind))
            before = self._database.execute(
                f"SELECT event FROM slave_changes WHERE slave_id = ? AND at <= ? AND event IN ({marks})"
                " ORDER BY at DESC LIMIT 1",
                (change.slave_id, change.at, *kind),
            ).fetchone()
            if before is None or before[0] != change.event:
                self._put(_PUT_SLAVE_CHANGES, [row])
        self._put(_PUT_SLAVE_CHANGES, plain)

    def _write_samples(self, batch: Batch) -> None:
        since = self._bounds.thinned_until
        shares = [
            (
                one.at, one.framework_id, owner_of(FrameworkID(one.framework_id)), one.share, one.held_millicpus,
                one.held_mem_bytes, one.running,
            )
            for one in batch.shares if one.at >= since
        ]  # fmt: skip
        utilization = [
            (one.at, one.resource, one.total, one.held, one.offered, one.used)
            for one in batch.utilization
            if one.at >= since
        ]
        self._put(_PUT_SHARES, shares)
        self._put(_PUT_UTILIZATION, utilization)

    # -- How far we have heard ------------------------------------------------------------------------------------------

    def _read_heard(self) -> None:
        self._offsets.clear()
        row = self._database.execute("SELECT origin, master_id, ended_after, heard_at FROM cursor").fetchone()
        self._heard = None if row is None else _Heard(*row)

    def _offset(self, batch: Batch) -> float:
        """The master's clock offset as it was measured first, so that what is sent again has the same times."""
        master_id, measured_s = batch.master_id, batch.clock_offset_s
        known_s = self._offsets.get(master_id)
        if known_s is None:
            row = self._database.execute(
                "SELECT clock_offset_s FROM masters WHERE master_id = ?", (master_id,)
            ).fetchone()
            known_s = measured_s if row is None else float(row[0])
        if abs(known_s - measured_s) > CLOCK_STEP_S:
            known_s = measured_s
        self._offsets[master_id] = known_s
        return known_s

    def _move_heard(self, batch: Batch) -> None:
        before, ended_after, at = self._heard, batch.ended_after, batch.at
        if before is not None:
            is_same = before.origin == batch.origin
            missed = batch.ended_missed if is_same else None
            if before.at < at and missed != 0:
                self._database.execute(_PUT_GAP, (before.at, at, missed))
            if is_same:
                ended_after, at = max(ended_after, before.ended_after), max(at, before.at)
        if before is not None and before.master_id != batch.master_id:
            self._write_heard()
        self._heard = _Heard(batch.origin, batch.master_id, ended_after, at)

    def _write_heard(self) -> None:
        """Where the batches of this transaction have brought us."""
        heard = self._heard
        if heard is None:
            return
        if (offset_s := self._offsets.get(heard.master_id)) is not None:
            self._database.execute(
                "INSERT INTO masters VALUES (?, ?, ?) ON CONFLICT (master_id) DO UPDATE SET"
                " clock_offset_s = excluded.clock_offset_s, heard_at = max(heard_at, excluded.heard_at)",
                (heard.master_id, offset_s, heard.at),
            )
        self._database.execute(
            "INSERT OR REPLACE INTO cursor VALUES (1, ?, ?, ?, ?)",
            (heard.origin, heard.master_id, heard.ended_after, heard.at),
        )
        self._offsets = {heard.master_id: offset_s} if offset_s is not None else {}


def _held_alone(path: Path) -> int:
    """A lock that ends with the process. Raises `HistoryError` if another gateway has it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HistoryError(
            f"cannot write {path}: {error.strerror}; choose another place with --state-dir"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise HistoryError(
            f"{path} belongs to another gateway that runs; end it, or give this one its own --state-dir"
        ) from None
    return lock


def _framework_row(one: PastFramework, at: float) -> tuple[Any, ...]:
    return (
        one.framework_id, one.name, one.role, owner_of(FrameworkID(one.framework_id)), one.user, one.hostname, one.since,
        one.ended_at, one.state, _json(one.counts).decode(), at,
    )  # fmt: skip
