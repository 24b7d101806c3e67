"""What a slave counts of its work since its process began. Each number only rises."""

from __future__ import annotations

from offerd.messages import TaskStatus

LIMITS = frozenset({"memory.max", "mem", "pids.max", "disk", "inodes", "directories"})
"""The limits that isolation modules and the slave's own watches name in a status. Executors may name others."""
OTHER = "other"


class Counts:
    """Read by the metrics that the slave serves."""

    __slots__ = (
        "launches", "launches_failed", "statuses_repeated", "statuses_stored", "tasks_delivered", "tasks_ended",
        "tasks_limited", "tasks_refused",
    )  # fmt: skip

    def __init__(self) -> None:
        self.launches = 0
        """Containers that were to be launched."""
        self.launches_failed = 0
        """Those of which no process was started."""
        self.tasks_delivered = 0
        """Tasks that were sent to their executors."""
        self.tasks_refused = 0
        """Tasks that the slave did not take."""
        self.tasks_ended: dict[str, int] = {}
        """State to the number of tasks that ended in it."""
        self.tasks_limited: dict[str, int] = {}
        """Limit to the number of tasks that ended after it was hit; one of `LIMITS`, or `OTHER`."""
        self.statuses_stored = 0
        """Statuses that went to the journal."""
        self.statuses_repeated = 0
        """Statuses that were sent to the master again."""

    def ended(self, status: TaskStatus) -> None:
        """A task has ended with this status."""
        state = status.state.value
        self.tasks_ended[state] = self.tasks_ended.get(state, 0) + 1
        if status.limit:
            name = status.limit.partition("=")[0]
            name = name if name in LIMITS else OTHER
            self.tasks_limited[name] = self.tasks_limited.get(name, 0) + 1
