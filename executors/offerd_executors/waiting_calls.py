"""The calls that wait for a worker, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from offerd.ids import TaskID


class WaitingCall(NamedTuple):
    """A task and its call; `since`: when it came, on the monotonic clock."""

    task_id: TaskID
    call: bytes | None
    """None: it came in pieces and is in its file in the sandbox."""
    since: float


class WaitingCalls:
    """A queue. Calls that were killed count until their turn comes, and are then skipped."""

    def __init__(self, forget_file: Callable[[TaskID], None]) -> None:
        """`forget_file` is called for a killed call that is in a file."""
        self._forget_file = forget_file
        self._queue: deque[WaitingCall] = deque()
        self._ids: set[TaskID] = set()
        self._killed: set[TaskID] = set()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def head_since(self) -> float:
        """Since when the first one has waited. There must be one."""
        return self._queue[0].since

    def put(self, waiting: WaitingCall) -> None:
        """Append a call."""
        self._queue.append(waiting)
        self._ids.add(waiting.task_id)

    def put_back(self, waiting: WaitingCall) -> None:
        """Put a call back at the head."""
        self._queue.appendleft(waiting)
        self._ids.add(waiting.task_id)

    def next(self) -> WaitingCall | None:
        """Take out the first call that has not been killed; None if there is none."""
        while self._queue:
            waiting = self._queue.popleft()
            self._ids.discard(waiting.task_id)
            if waiting.task_id not in self._killed:
                return waiting
            self._killed.discard(waiting.task_id)
            if waiting.call is None:
                self._forget_file(waiting.task_id)
        return None

    def kill(self, task_id: TaskID) -> bool:
        """Have this call skipped. False if it does not wait, or was killed before."""
        if task_id not in self._ids or task_id in self._killed:
            return False
        self._killed.add(task_id)
        return True

    def take_all(self) -> list[TaskID]:
        """Take out all; returns those that have not been killed."""
        task_ids = [waiting.task_id for waiting in self._queue if waiting.task_id not in self._killed]
        self._queue.clear()
        return task_ids
