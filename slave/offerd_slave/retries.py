"""What has been killed and is not gone yet: when to look again, and when it is time to ask what hangs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from offerd.core.timers import KeyedTimers
from offerd.ids import ContainerID, TaskID

AGAIN_S = 0.01
"""Processes that were sent SIGKILL need a moment to be gone; nothing says when those that are not our children are. Each
look that finds one still there doubles the time to the next, up to ..."""
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
    """What is to be made of a look that found something still there."""

    is_news: bool
    """Whether the complaint is another than that of the look before: people should read it."""
    is_overdue: bool
    """Whether it has been waited for too long: time to ask what of it does not die. True of one look."""


class Retries:
    """All that is being waited for; for longer than `overdue_s`, it is overdue."""

    def __init__(self, overdue_s: float) -> None:
        self._overdue_s = overdue_s
        self._all: dict[Key, _Retry] = {}
        self._looks: KeyedTimers[Key] = KeyedTimers()

    def begin(self, key: Key, now: float) -> None:
        """It is to go; asked for again, it is looked at often again."""
        retry = self._all.setdefault(key, _Retry(now))
        retry.delay_s = AGAIN_S
        self._looks.cancel(key)

    def later(self, key: Key, now: float) -> None:
        """Look at it again after a while."""
        retry = self._all.setdefault(key, _Retry(now))
        self._looks.set(key, now + retry.delay_s)
        retry.delay_s = min(2 * retry.delay_s, AGAIN_MAX_S)

    def drop(self, key: Key) -> None:
        """It is gone, or nobody asks any more."""
        self._all.pop(key, None)
        self._looks.cancel(key)

    def drop_container(self, container_id: ContainerID) -> None:
        """The same for a container with all its tasks."""
        for key in [key for key in self._all if key[0] == container_id]:
            self.drop(key)

    def due(self, now: float) -> list[Key]:
        """What is to be looked at now."""
        return list(self._looks.due(now))

    def next(self) -> float | None:
        return self._looks.next_deadline()

    def still_there(self, key: Key, now: float, complaint: str = "") -> Look:
        """It was looked at, and is not gone; `complaint`: why it could not be killed, if the module has said so."""
        is_news = bool(complaint) and complaint != self._all.get(key, _Retry(now)).complaint
        self.later(key, now)
        retry = self._all[key]
        retry.complaint = complaint or retry.complaint
        is_overdue = not retry.was_overdue and now - retry.since >= self._overdue_s
        retry.was_overdue = retry.was_overdue or is_overdue
        return Look(is_news, is_overdue)
