"""The tables of the history, and how a file is opened and brought up to date.

The file may be read with the `sqlite3` command while the gateway runs. Times are Unix times in seconds, amounts of cpus are in
thousandths and those of memory in bytes; durations end in `_s`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offerd.errors import OfferdError

BUSY_S = 5.0
"""How long we wait for another program that writes to the file, such as `sqlite3` by hand."""
CACHE_KIB = 32 << 10
WAL_BYTES = 16 << 20
"""What the write-ahead log is cut to when it has grown further."""

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY,
        framework_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        slave_id TEXT NOT NULL,
        executor_id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        framework_name TEXT NOT NULL,
        role TEXT NOT NULL,
        owner TEXT NOT NULL,          -- of the framework; empty where peers have no keys
        hostname TEXT NOT NULL,
        user TEXT NOT NULL,
        launched_at REAL NOT NULL,
        running_since REAL,
        ended_at REAL NOT NULL,
        millicpus INTEGER NOT NULL,
        mem_bytes INTEGER NOT NULL,
        more_resources TEXT,          -- all of them as JSON, where there are others than cpus and mem
        time_limit_s REAL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        exit_status INTEGER,
        container_id TEXT NOT NULL,
        is_command INTEGER NOT NULL,
        stdout_bytes INTEGER,
        stderr_bytes INTEGER,
        cpu_s REAL,
        peak_mem_bytes INTEGER,
        master_id TEXT NOT NULL,      -- the three by which an end that is sent again is known
        master_launched_us INTEGER NOT NULL,
        lifetime_us INTEGER NOT NULL
    );
    CREATE INDEX tasks_by_id ON tasks (framework_id, task_id);
    CREATE INDEX tasks_by_launch ON tasks (launched_at, ended_at);
    CREATE INDEX tasks_by_end ON tasks (ended_at);
    CREATE INDEX tasks_by_owner ON tasks (owner, launched_at) WHERE owner != '';

    CREATE TABLE frameworks (
        framework_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        owner TEXT NOT NULL,
        user TEXT NOT NULL,
        hostname TEXT NOT NULL,
        since REAL NOT NULL,
        ended_at REAL,
        state TEXT NOT NULL,
        counts TEXT NOT NULL,         -- JSON: state to the number of tasks that ended in it
        seen_at REAL NOT NULL
    );
    CREATE INDEX frameworks_by_seen ON frameworks (seen_at);

    CREATE TABLE slave_changes (
        at REAL NOT NULL,
        slave_id TEXT NOT NULL,
        event TEXT NOT NULL,          -- columns of the key first: else SQLite 3.40 finds NULLs that are not there
        hostname TEXT NOT NULL,
        PRIMARY KEY (at, slave_id, event)
    ) WITHOUT ROWID;
    CREATE INDEX slave_changes_by_slave ON slave_changes (slave_id, at);

    CREATE TABLE shares (
        at REAL NOT NULL,
        framework_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        share REAL NOT NULL,
        held_millicpus REAL NOT NULL,
        held_mem_bytes REAL NOT NULL,
        running REAL NOT NULL,
        PRIMARY KEY (at, framework_id)
    ) WITHOUT ROWID;

    CREATE TABLE utilization (
        at REAL NOT NULL,
        resource TEXT NOT NULL,       -- in thousandths or bytes; a port is a thousand
        total REAL NOT NULL,
        held REAL NOT NULL,
        offered REAL NOT NULL,
        used REAL,
        PRIMARY KEY (at, resource)
    ) WITHOUT ROWID;

    CREATE TABLE accounts (
        id INTEGER PRIMARY KEY,
        day TEXT NOT NULL,            -- UTC, as 2026-01-31
        framework_id TEXT NOT NULL,
        framework_name TEXT NOT NULL,
        role TEXT NOT NULL,
        user TEXT NOT NULL,
        owner TEXT NOT NULL,
        tasks INTEGER NOT NULL,
        cpu_s_held REAL NOT NULL,
        cpu_s_used REAL NOT NULL,
        cpu_s_wasted REAL NOT NULL,
        mem_byte_s_held REAL NOT NULL,
        mem_byte_s_used REAL NOT NULL,
        mem_byte_s_wasted REAL NOT NULL
    );
    CREATE UNIQUE INDEX accounts_by_day ON accounts (day, framework_id, framework_name, role, user);

    CREATE TABLE gaps (
        since REAL NOT NULL,
        until REAL NOT NULL,
        missed INTEGER,               -- ends of tasks; NULL: not known, perhaps none
        PRIMARY KEY (since, until)
    ) WITHOUT ROWID;

    CREATE TABLE masters (
        master_id TEXT PRIMARY KEY,
        clock_offset_s REAL NOT NULL, -- the wall clock minus its clock
        heard_at REAL NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE cursor (             -- one row: how far the ends of which master are here
        id INTEGER PRIMARY KEY CHECK (id = 1),
        origin TEXT NOT NULL,
        master_id TEXT NOT NULL,
        ended_after INTEGER NOT NULL,
        heard_at REAL NOT NULL
    );

    CREATE TABLE marks (              -- up to where something was done; see bounds.py
        name TEXT PRIMARY KEY,
        value REAL NOT NULL
    ) WITHOUT ROWID;
    """,
)
"""What brings a file from version N to N + 1, for N from 0: `PRAGMA user_version` says which it has. Never change one that was
released; add another.
"""

_NO_ROOM = {sqlite3.SQLITE_FULL}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class HistoryError(OfferdError):
    """The history cannot be read or written now. The text is one line that says what to do."""


class TooSlow(HistoryError):
    """Reading would have taken too long, and was given up."""


def open_to_write(path: Path, steps: Sequence[str] = STEPS) -> sqlite3.Connection:
    """The file, made if it is not there, and brought up to date. Raises `HistoryError`."""
    with plain_errors(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would make it readable for all; its other files get this one's mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise HistoryError(
                f"cannot write {path}: {error.strerror}; choose another place with --state-dir"
            ) from None
        found = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            found.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has an effect on a new file alone
            found.execute("PRAGMA journal_mode=WAL")
            found.execute("PRAGMA synchronous=NORMAL")
            found.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            found.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
            migrate(found, path, steps)
        except BaseException:
            found.close()
            raise
        return found


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for use by one thread at a time."""
    with plain_errors(path):
        found = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        found.row_factory = sqlite3.Row
        return found


def migrate(database: sqlite3.Connection, path: Path, steps: Sequence[str]) -> None:
    """Bring an older file up to date, in one transaction. Raises `HistoryError` for a newer one."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == len(steps):
        return
    if version > len(steps):
        raise HistoryError(
            f"{path} is of a newer offerd (its format is {version}, ours {len(steps)}); run that, or move the file away"
        )
    database.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            for statement in statements(step):
                database.execute(statement)
        database.execute(f"PRAGMA user_version={len(steps)}")
        database.execute("COMMIT")
    except BaseException:
        roll_back(database)
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit before the first."""
    begun = ""
    for piece in script.split(";")[:-1]:
        begun += piece + ";"
        if sqlite3.complete_statement(begun):
            yield begun
            begun = ""
    rest = (begun + script.rpartition(";")[2]).strip()
    if rest:
        raise ValueError(f"a step ends within a statement: {rest[:80]}")


def put_many(into: str, columns: int, or_else: str = "") -> str:
    """A statement that puts rows of so many columns into a table, given as one JSON text: a list of lists. One step of SQLite
    does it all, without Python's lock (see `task_rows`). `or_else`: what follows it, for rows that are there.
    """
    fields = ", ".join(f"json_extract(value, '$[{number}]')" for number in range(columns))
    return f"{into.strip()} SELECT {fields} FROM json_each(?) WHERE 1 {or_else}"


def roll_back(database: sqlite3.Connection) -> None:
    """End a transaction without a trace. Some errors have done so already."""
    if database.in_transaction:
        database.execute("ROLLBACK")


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """What SQLite raises becomes a `HistoryError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryError(_words(path, error)) from error


def _words(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _NO_ROOM:
        return f"{path}: the disk is full; make room there, and the history goes on"
    if primary in _LOCKED:
        return f"{path} is locked by another program; end the `sqlite3` or backup that holds it"
    if primary in _DAMAGED:
        return (
            f"{path} is damaged ({error}); stop the gateway and move the file away, and a new one is begun; "
            f"`sqlite3 {path.name} .recover` may read what is left of it"
        )
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return f"{path} cannot be opened ({error}); it and its directory must belong to the account of the gateway"
    if primary == sqlite3.SQLITE_INTERRUPT:
        return f"{path}: reading was given up; ask for less at once"
    return f"{path}: {error}; if this stays, look at the disk in the kernel's log (dmesg)"
