"""Killed containers and tasks that still exist: when to look again, and when to look for unkillable processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from offerd.core.timers import KeyedTimers
from offerd.ids import ContainerID, TaskID

AGAIN_S = 0.01
"""The first pause. Processes need a moment to end after SIGKILL, and there is no signal for those that are not children. Each
look that finds one doubles the pause, up to `AGAIN_MAX_S`."""
AGAIN_MAX_S = 1.0

Key = tuple[ContainerID, TaskID]
"""A container, with an empty task id; or one task of it."""


@dataclass(slots=True)
class _Retry:
    since: float
    delay_s: float = AGAIN_S
    was_overdue: bool = False
    complaint: str = ""


class Look(NamedTuple):
    """The result of a look that still found something."""

    is_news: bool
    """Whether the complaint is a new one, to be logged."""
    is_overdue: bool
    """Whether it has taken too long: look for unkillable processes. True for one look only."""


class Retries:
    """All containers and tasks whose end is waited for. After `overdue_s` one is overdue."""

    def __init__(self, overdue_s: float) -> None:
        self._overdue_s = overdue_s
        self._all: dict[Key, _Retry] = {}
        self._looks: KeyedTimers[Key] = KeyedTimers()

    def begin(self, key: Key, now: float) -> None:
        """Begin to wait for its end. Called again, the pauses are short again."""
        retry = self._all.setdefault(key, _Retry(now))
        retry.delay_s = AGAIN_S
        self._looks.cancel(key)

    def later(self, key: Key, now: float) -> None:
        """Look at it again after a while."""
        retry = self._all.setdefault(key, _Retry(now))
        self._looks.set(key, now + retry.delay_s)
        retry.delay_s = min(2 * retry.delay_s, AGAIN_MAX_S)

    def drop(self, key: Key) -> None:
        """Stop waiting for it: it is gone."""
        self._all.pop(key, None)
        self._looks.cancel(key)

    def drop_container(self, container_id: ContainerID) -> None:
        """The same for a container with all its tasks."""
        for key in [key for key in self._all if key[0] == container_id]:
            self.drop(key)

    def due(self, now: float) -> list[Key]:
        """The keys to look at now."""
        return list(self._looks.due(now))

    def next(self) -> float | None:
        return self._looks.next_deadline()

    def still_there(self, key: Key, now: float, complaint: str = "") -> Look:
        """A look found it still there; `complaint`: why it could not be killed, if the module has said that."""
        is_news = bool(complaint) and complaint != self._all.get(key, _Retry(now)).complaint
        self.later(key, now)
        retry = self._all[key]
        retry.complaint = complaint or retry.complaint
        is_overdue = not retry.was_overdue and now - retry.since >= self._overdue_s
        retry.was_overdue = retry.was_overdue or is_overdue
        return Look(is_news, is_overdue)
