"""Whom a container's limits have hit: the kernel counts for the whole container, and each count is told of one task only.

How far the counts have been told is kept in a file of the container's directory, so that what happens while no slave runs is
told by the next one, and nothing twice.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from offerd_isolation.docker.group import Group

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a task ends that the kernel kills; or whose shell says so of the program that was killed."""
FRESH_S = 15.0
"""A kill of which no task has died for so long has hit a part of one that goes on."""
FILE = "docker.counts"


@dataclass(frozen=True, slots=True)
class Counts:
    """As the kernel has them."""

    kills: int = 0
    at_limit: int = 0  # how often memory was at the container's own limit
    refused: int = 0  # processes and threads


class Kills:
    """Of one container. Asked in the slave's loop and in the module's thread."""

    def __init__(self, group: Group, directory: Path) -> None:
        self._group = group
        self._file = directory / FILE
        self._lock = threading.Lock()
        self._kept = self._seen = self._read()
        self._fresh_since: float | None = None  # of kills that are not told yet
        self._at_limit = False

    def take(self, exit_status: int | None) -> str | None:
        """Of a task that has failed so: whether it was killed for its container's `limit`, or because the `host` was short of
        memory. All kills until now are told with that."""
        with self._lock:
            self._look()
            if self._fresh_since is None or exit_status not in KILLED:
                return None
            self._fresh_since = None
            return "limit" if self._at_limit else "host"

    def take_refused(self) -> bool:
        """Whether a process or thread was refused since this was asked last."""
        with self._lock:
            refused = self._group.pids.refused()
            is_news = refused > self._seen.refused
            self._seen = Counts(self._seen.kills, self._seen.at_limit, max(refused, self._seen.refused))
            return is_news

    def keep(self) -> None:
        """Write down how far they are told; now and then, as a kill is rare and a status is soon stored."""
        with self._lock:
            self._look()
            now = time.monotonic()
            if self._fresh_since is not None and now - self._fresh_since > FRESH_S:
                self._fresh_since = None
            if self._fresh_since is None and self._seen != self._kept:
                # Gone with the container, or the disk is full: then something may be told twice.
                with suppress(OSError):
                    draft = self._file.with_name(f".{FILE}")
                    draft.write_text(json.dumps(astuple(self._seen)))
                    os.replace(draft, self._file)
                    self._kept = self._seen

    def _look(self) -> None:
        kills, at_limit = self._group.memory.kills(), self._group.memory.times_at_limit()
        if kills > self._seen.kills:
            is_told = self._fresh_since is None
            self._at_limit = at_limit > self._seen.at_limit or (self._at_limit and not is_told)
            self._fresh_since = time.monotonic()
            self._seen = Counts(kills, at_limit, self._seen.refused)

    def _read(self) -> Counts:
        try:
            kills, at_limit, refused = json.loads(self._file.read_text())
            return Counts(int(kills), int(at_limit), int(refused))
        except (OSError, ValueError, TypeError):
            return Counts()
