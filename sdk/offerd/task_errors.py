"""What the future of a call raises when its task did not finish. Not in `offerd.errors`, which `offerd.messages` imports."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from offerd.errors import OfferdError
from offerd.messages import TaskStatus


class TaskError(OfferdError):
    """The task of a call did not finish: it was killed, failed, or was lost more often than it may be tried again."""

    def __init__(self, status: TaskStatus) -> None:
        why = status.message or status.reason or "no reason given"
        super().__init__(f"task {status.task_id} ended {status.state.value}: {why}")
        self.status = status
        """The task's last status."""

    def __reduce__(self) -> tuple[type[TaskError], tuple[TaskStatus]]:
        """Pickle it by its status: `args` holds the text."""
        return type(self), (self.status,)


class TaskTimeoutError(TaskError, TimeoutError):
    """A task was killed at its time limit: a call took longer than its `timeout`."""


class BrokenClusterExecutor(OfferdError, BrokenExecutor):
    """The `initializer` raised on a slave, so no call can be made any more. `__cause__` is what it raised."""

    def __init__(self) -> None:
        super().__init__("the initializer raised on a slave, so no call can be made")
