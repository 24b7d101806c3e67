"""How much waits to be acknowledged, by framework. One whose scheduler does not hear has its executors wait: they are not read
until it has caught up, so that neither memory nor journal grows with what they go on saying.
"""

from __future__ import annotations

from offerd.ids import FrameworkID
from offerd.messages import TaskStatus
from offerd_slave.core.actions import HearExecutor
from offerd_slave.core.state import State

MOST_BYTES = 16 << 20
"""Of one framework ..."""
TOTAL_BYTES = 64 << 20
"""... and of all together, divided among those of whom something waits; but each has ..."""
LEAST_BYTES = 1 << 20
STATUS_BYTES = 256
"""Of a status without its data and message."""


def weight(status: TaskStatus) -> int:
    """About how much memory a status takes, and bytes of the journal."""
    return STATUS_BYTES + len(status.data) + len(status.message)


class Backlog:
    """Counts; and says once per turn whose executors are to wait, or need not any more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[FrameworkID, int] = {}
        self._over: set[FrameworkID] = set()
        self._unheard: set[FrameworkID] = set()  # whose executors wait

    def add(self, framework_id: FrameworkID, status: TaskStatus) -> None:
        """It waits for its acknowledgement."""
        size = self._waiting.get(framework_id, 0) + weight(status)
        self._waiting[framework_id] = size
        if size > LEAST_BYTES and size > self._share():
            self._over.add(framework_id)

    def remove(self, framework_id: FrameworkID, statuses: list[TaskStatus]) -> None:
        """They wait no longer."""
        size = self._waiting.get(framework_id, 0) - sum(map(weight, statuses))
        if size > 0:
            self._waiting[framework_id] = size
        else:
            self._waiting.pop(framework_id, None)
        if framework_id in self._over and 2 * size <= self._share():
            self._over.discard(framework_id)

    def is_over(self, framework_id: FrameworkID) -> bool:
        """Whether its executors are to wait."""
        return framework_id in self._over

    def end_turn(self) -> None:
        """Say what has changed."""
        if self._over == self._unheard:
            return
        changed = self._over ^ self._unheard
        for container in self._state.containers.values():
            if container.framework_id in changed:
                is_heard = container.framework_id not in self._over
                self._state.do(HearExecutor(container.container_id, is_heard))
        for framework_id in sorted(self._over - self._unheard):
            self._state.log(
                "WARNING",
                f"framework {framework_id} leaves {self._waiting[framework_id] >> 20} MiB of its tasks' statuses "
                "unacknowledged; its executors wait until it hears them",
            )
        self._unheard = set(self._over)

    def _share(self) -> int:
        return max(LEAST_BYTES, min(MOST_BYTES, TOTAL_BYTES // max(1, len(self._waiting))))
