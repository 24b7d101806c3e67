"""How many bytes of statuses wait for an acknowledgement, by framework. If a scheduler does not acknowledge, the slave stops
reading the framework's executors until it has caught up, so that neither memory nor journal grows without a bound.
"""

from __future__ import annotations

from offerd.ids import FrameworkID
from offerd.messages import TaskStatus
from offerd_slave.core.actions import HearExecutor
from offerd_slave.core.state import State

MOST_BYTES = 16 << 20
"""The most that may wait for one framework."""
TOTAL_BYTES = 64 << 20
"""The most for all frameworks, divided among those that have waiting statuses; but each may have `LEAST_BYTES`."""
LEAST_BYTES = 1 << 20
STATUS_BYTES = 256
"""Size of a status without its data and message."""


def weight(status: TaskStatus) -> int:
    """About how many bytes a status takes, in memory and in the journal."""
    return STATUS_BYTES + len(status.data) + len(status.message)


class Backlog:
    """Counts waiting statuses, and decides once per turn which frameworks' executors are read."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[FrameworkID, int] = {}
        self._over: set[FrameworkID] = set()
        self._unread: set[FrameworkID] = set()  # frameworks whose executors are not read

    def add(self, framework_id: FrameworkID, status: TaskStatus) -> None:
        """Count a status that waits for its acknowledgement."""
        size = self._waiting.get(framework_id, 0) + weight(status)
        self._waiting[framework_id] = size
        if size > LEAST_BYTES and size > self._share():
            self._over.add(framework_id)

    def remove(self, framework_id: FrameworkID, statuses: list[TaskStatus]) -> None:
        """These statuses do not wait any more."""
        size = self._waiting.get(framework_id, 0) - sum(map(weight, statuses))
        if size > 0:
            self._waiting[framework_id] = size
        else:
            self._waiting.pop(framework_id, None)
        if framework_id in self._over and 2 * size <= self._share():
            self._over.discard(framework_id)

    def is_over(self, framework_id: FrameworkID) -> bool:
        """Whether too much waits for this framework, so that its executors are not read."""
        return framework_id in self._over

    def end_turn(self) -> None:
        """Stop or resume reading the executors of frameworks for which that has changed."""
        if self._over == self._unread:
            return
        changed = self._over ^ self._unread
        for container in self._state.containers.values():
            if container.framework_id in changed:
                is_heard = container.framework_id not in self._over
                self._state.do(HearExecutor(container.container_id, is_heard))
        for framework_id in sorted(self._over - self._unread):
            self._state.log(
                "WARNING",
                f"framework {framework_id} leaves {self._waiting[framework_id] >> 20} MiB of its tasks' statuses "
                "unacknowledged; its executors wait until it acknowledges them",
            )
        self._unread = set(self._over)

    def _share(self) -> int:
        return max(LEAST_BYTES, min(MOST_BYTES, TOTAL_BYTES // max(1, len(self._waiting))))
