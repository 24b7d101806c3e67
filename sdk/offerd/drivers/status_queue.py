"""The statuses of an executor's tasks, from their report until the slave has stored them.

A status waits until the end of the loop's turn, or for as long as statuses are collected. Then it gets its number and stays
until the slave says that it is stored. A RUNNING may be held longer: one that is overtaken by its task's terminal status is
never sent, as only the order of a task's sequence numbers matters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from offerd.ids import TaskID
from offerd.messages import ExecutorUpdate, TaskState, TaskStatus

HELD_UPDATES = 64
"""So many statuses are sent at once, even before `hold_updates_s` are over."""
WITH_OTHERS = 0.25
"""Where other statuses are sent anyway, RUNNING is held for this fraction of `hold_running_s` only."""


class StatusQueue:
    """`now` is the monotonic clock in seconds; `hold_updates_s` and `hold_running_s` are as in `ExecutorDriver`."""

    def __init__(self) -> None:
        self.unacknowledged: deque[ExecutorUpdate] = deque()
        """What was numbered and is not stored yet, by number."""
        self._held_running: dict[TaskID, tuple[float, TaskStatus]] = {}
        self._pending: list[TaskStatus] = []
        self._pending_since = 0.0
        self._number = 0

    @property
    def is_empty(self) -> bool:
        """Whether the slave has stored all statuses."""
        return not (self.unacknowledged or self._pending or self._held_running)

    def put(self, status: TaskStatus, now: float) -> None:
        """Behind all others; RUNNING is held."""
        if status.state is TaskState.RUNNING:
            self._held_running[status.task_id] = (now, status)
            return
        if status.state.terminal:
            self._held_running.pop(status.task_id, None)
        self._pending.append(status)

    def max_wait_s(self, now: float, hold_running_s: float, hold_updates_s: float) -> float | None:
        """How long until a status has waited long enough; None if none waits."""
        if not self._pending and not self._held_running:
            return None
        due: list[float] = []
        if self._pending:
            due.append(self._pending_since + hold_updates_s)
        for held_at, _ in self._held_running.values():
            due.append(held_at + hold_running_s)
            break
        return max(0.0, min(due) - now)

    def take_due(self, now: float, hold_running_s: float, hold_updates_s: float) -> list[ExecutorUpdate]:
        """What is to be sent now: numbered, and unacknowledged from now on."""
        if self._held_running:
            self._release_running(now, hold_running_s, hold_updates_s)
        if not self._pending or not self._is_time_to_send(now, hold_updates_s):
            return []
        pending, self._pending = self._pending, []
        self._pending_since = 0.0
        updates = [ExecutorUpdate(number, status) for number, status in enumerate(pending, self._number + 1)]
        self._number += len(updates)
        self.unacknowledged.extend(updates)
        return updates

    def _is_time_to_send(self, now: float, hold_updates_s: float) -> bool:
        if not hold_updates_s or len(self._pending) >= HELD_UPDATES:
            return True
        if not self._pending_since:
            self._pending_since = now
        return now - self._pending_since >= hold_updates_s

    def _release_running(self, now: float, hold_s: float, hold_updates_s: float) -> None:
        """Move every RUNNING that has waited long enough to the front of what is sent next."""
        if self._pending and self._is_time_to_send(now, hold_updates_s):
            hold_s *= WITH_OTHERS  # a frame is sent anyway
        ripe: list[TaskStatus] = []
        for held_at, status in self._held_running.values():
            if held_at > now - hold_s:
                break
            ripe.append(status)
        for status in ripe:
            del self._held_running[status.task_id]
        self._pending = ripe + self._pending

    def stored(self, number: int) -> None:
        """The slave has stored all statuses up to this number."""
        waiting = self.unacknowledged
        while waiting and waiting[0].number <= number:
            waiting.popleft()

    def task_ids(self) -> Iterable[TaskID]:
        """The tasks whose last status the slave may not have stored."""
        yield from (update.status.task_id for update in self.unacknowledged)
        yield from (status.task_id for status in self._pending)
