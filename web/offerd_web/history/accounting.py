"""What ended tasks add to the accounts: resources times seconds, on each UTC day with the part of the task that lies in it."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

DAY_S = 86400
_LAST_DAY = 2932896
"""31 December 9999. Times of peers are bounded, but not to what a calendar knows."""
_EPOCH = date(1970, 1, 1).toordinal()

AccountKey = tuple[int, str, str, str, str]
"""Day since 1970, framework id, framework name, role, user."""


class Use(NamedTuple):
    """What one task used. Times are Unix times in seconds."""

    launched_at: float
    running_since: float | None
    ended_at: float
    millicpus: int
    mem_bytes: int
    cpu_s: float
    """CPU time used; 0 where it was not measured."""
    peak_mem_bytes: int
    is_wasted: bool
    """It was ended at its time limit, so what it held was held in vain."""


class Accounts:
    """Sums over tasks: `rows` by key, each `[tasks, cpu_s held, used, wasted, mem_byte_s held, used, wasted]`."""

    def __init__(self, first_day: int = 0) -> None:
        """What lies before `first_day` is not counted."""
        self._first_day = max(first_day, 0)
        self.rows: dict[AccountKey, list[float]] = {}

    def add(self, framework_id: str, name: str, role: str, user: str, use: Use) -> None:
        """The task itself counts on the day of its end, so that the days' tasks add up to all tasks."""
        launched_at, ended_at = use.launched_at, use.ended_at
        held_s = ended_at - launched_at
        last = _day(ended_at)
        began = launched_at if use.running_since is None else use.running_since
        ran_s = max(ended_at - began, 0.0)
        first = max(_day(launched_at), self._first_day)
        if first >= last:
            if last >= self._first_day:
                self._row((last, framework_id, name, role, user), use, max(held_s, 0.0), ran_s, 1.0, 1)
            return
        for day in range(first, last + 1):
            since, until = max(day * DAY_S, launched_at), min((day + 1) * DAY_S, ended_at)
            if day == last:
                until = ended_at
            ran_here_s = max(until - max(since, began), 0.0)
            part = ran_here_s / ran_s if ran_s > 0 else float(day == last)
            key = (day, framework_id, name, role, user)
            self._row(key, use, max(until - since, 0.0), ran_here_s, part, int(day == last))

    def _row(self, key: AccountKey, use: Use, held_s: float, ran_s: float, part: float, tasks: int) -> None:
        """`part`: that of the CPU time that falls on this day."""
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = [0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        cpu_s, mem_byte_s = use.millicpus * held_s / 1000, use.mem_bytes * held_s
        row[0] += tasks
        row[1] += cpu_s
        row[2] += use.cpu_s * part
        row[4] += mem_byte_s
        row[5] += use.peak_mem_bytes * ran_s
        if use.is_wasted:
            row[3] += cpu_s
            row[6] += mem_byte_s


def _day(moment: float) -> int:
    return min(max(int(moment // DAY_S), 0), _LAST_DAY)


def iso_day(day: int) -> str:
    """A day since 1970 as 2026-01-31."""
    return date.fromordinal(_EPOCH + day).isoformat()


def day_of(moment: float) -> int:
    """The UTC day of a Unix time, in days since 1970."""
    return _day(moment)
