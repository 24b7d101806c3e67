"""Ended tasks, remembered for people: small records, bounded in all and for each framework."""

from __future__ import annotations

from collections import deque

from offerd.ids import TaskID
from offerd.protocol.change_messages import EndedTask

MAX_TEXT = 512
"""Longest name or message that is kept, in characters."""


class FrameworkHistory:
    """The ended tasks of one framework, oldest first, and the latest of each id.

    `gone` counts those that have left this list, but still stand in the common order (see `History`).
    """

    __slots__ = ("by_id", "gone", "records")

    def __init__(self) -> None:
        self.records: deque[EndedTask] = deque()
        self.by_id: dict[TaskID, EndedTask] = {}
        self.gone = 0

    def pop_oldest(self) -> None:
        oldest = self.records.popleft()
        if self.by_id[oldest.task_id] is oldest:  # else the id was used again
            del self.by_id[oldest.task_id]


class History:
    """Keeps the bounds. Invariant: each framework stands in the common order once for each record, and once for each `gone`."""

    __slots__ = ("_order", "max_per_framework", "max_tasks")

    def __init__(self, max_tasks: int, max_per_framework: int) -> None:
        self.max_tasks = max_tasks
        self.max_per_framework = max_per_framework
        self._order: deque[FrameworkHistory] = deque()

    def add(self, history: FrameworkHistory, task: EndedTask) -> None:
        """Remember a task; the oldest of its framework, or of all, makes room."""
        records = history.records
        records.append(task)
        history.by_id[task.task_id] = task
        self._order.append(history)
        if len(records) > self.max_per_framework:
            history.pop_oldest()
            history.gone += 1
        if len(self._order) > self.max_tasks:
            oldest = self._order.popleft()
            if oldest.gone:
                oldest.gone -= 1
            else:
                oldest.pop_oldest()

    def forget(self, history: FrameworkHistory) -> None:
        """Forget a framework's tasks, since the framework itself is forgotten."""
        history.gone += len(history.records)
        history.records.clear()
        history.by_id.clear()
