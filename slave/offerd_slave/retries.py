"""What has been killed and is not gone yet: when to look again, and when it is time to say that it hangs."""

from __future__ import annotations

from dataclasses import dataclass

from offerd.ids import ContainerID, TaskID
from offerd.timers import KeyedTimers

AGAIN_S = 0.01
"""Processes that were sent SIGKILL need a moment to be gone; nothing tells when those that are not our children are. Each
look that finds one still there doubles the time to the next, up to ..."""
AGAIN_MAX_S = 1.0

Key = tuple[ContainerID, TaskID]
"""A container, with an empty task id; or one task of it."""


@dataclass(slots=True)
class _Retry:
    since: float
    delay_s: float = AGAIN_S
    is_told: bool = False
    complaint: str = ""


class Retries:
    """All that is being waited for."""

    def __init__(self) -> None:
        self._all: dict[Key, _Retry] = {}
        self._looks: KeyedTimers[Key] = KeyedTimers()

    def begin(self, key: Key, now: float) -> None:
        """It is to go; asked for again, it is looked at often again."""
        retry = self._all.setdefault(key, _Retry(now))
        retry.delay_s = AGAIN_S
        self._looks.cancel(key)

    def later(self, key: Key, now: float) -> None:
        """It was still there."""
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

    def is_overdue(self, key: Key, now: float, after_s: float) -> bool:
        """Whether it has been waited for so long; true once."""
        retry = self._all.get(key)
        if retry is None or retry.is_told or now - retry.since < after_s:
            return False
        retry.is_told = True
        return True

    def is_news(self, key: Key, complaint: str) -> bool:
        """Whether this was not the complaint of the look before."""
        retry = self._all.get(key)
        if retry is None or retry.complaint == complaint:
            return retry is None
        retry.complaint = complaint
        return True
