"""Which task a container's limits have hit. The kernel counts for the whole container; each kill is reported for one task.

The counts reported so far are kept in a file of the container's directory. So what happens while no slave runs is reported
by the next one, and nothing is reported twice.
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
"""Exit statuses of a task that the kernel has killed, or whose shell reports that its program was killed."""
FRESH_S = 15.0
"""If no task dies for so long after a kill, the kill has hit a part of a task that goes on."""
FILE = "docker.counts"


@dataclass(frozen=True, slots=True)
class Counts:
    """The kernel's counts."""

    kills: int = 0
    at_limit: int = 0  # how often memory was at the container's own limit
    refused: int = 0  # forks of processes and threads


class Kills:
    """The kills in one container. Called in the slave's loop and in the module's thread."""

    def __init__(self, group: Group, directory: Path) -> None:
        self._group = group
        self._file = directory / FILE
        self._lock = threading.Lock()
        self._kept = self._seen = self._read()
        self._fresh_since: float | None = None  # time of kills that are not reported yet
        self._at_limit = False

    def take(self, exit_status: int | None) -> str | None:
        """Why a task with this exit status was killed: for its container's `limit`, or because the `host` was short of memory;
        None if it was not killed for memory. Counts all kills until now as reported."""
        with self._lock:
            self._look()
            if self._fresh_since is None or exit_status not in KILLED:
                return None
            self._fresh_since = None
            return "limit" if self._at_limit else "host"

    def take_refused(self) -> bool:
        """Whether a process or thread was refused since the last call."""
        with self._lock:
            refused = self._group.pids.refused()
            is_news = refused > self._seen.refused
            self._seen = Counts(self._seen.kills, self._seen.at_limit, max(refused, self._seen.refused))
            return is_news

    def keep(self) -> None:
        """Write down which counts are reported. Called now and then: kills are rare, and statuses are soon stored."""
        with self._lock:
            self._look()
            now = time.monotonic()
            if self._fresh_since is not None and now - self._fresh_since > FRESH_S:
                self._fresh_since = None
            if self._fresh_since is None and self._seen != self._kept:
                # The directory is gone with its container, or the disk is full: then a kill may be reported twice.
                with suppress(OSError):
                    draft = self._file.with_name(f".{FILE}")
                    draft.write_text(json.dumps(astuple(self._seen)))
                    os.replace(draft, self._file)
                    self._kept = self._seen

    def _look(self) -> None:
        kills, at_limit = self._group.memory.kills(), self._group.memory.times_at_limit()
        if kills > self._seen.kills:
            is_reported = self._fresh_since is None
            self._at_limit = at_limit > self._seen.at_limit or (self._at_limit and not is_reported)
            self._fresh_since = time.monotonic()
            self._seen = Counts(kills, at_limit, self._seen.refused)

    def _read(self) -> Counts:
        try:
            kills, at_limit, refused = json.loads(self._file.read_text())
            return Counts(int(kills), int(at_limit), int(refused))
        except (OSError, ValueError, TypeError):
            return Counts()
