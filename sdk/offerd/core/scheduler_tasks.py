"""The tasks of one scheduler: which run and on which slave, which have ended, which statuses are new, and which are in doubt.

The user's code gets exactly one terminal status per task. Statuses arrive at least once, with rising sequence numbers. One with
a number already seen, and any status after the end, is acknowledged and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from offerd.core.called_lost import named_in, note_end
from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.messages import (
    Acknowledge,
    KillTask,
    Message,
    Reason,
    RegisterFramework,
    TaskInfo,
    TaskStatus,
    UpdateID,
)

Id = TypeVar("Id")

REMEMBER_ENDED = 250_000
"""At least so many ended tasks, and at most twice as many, are remembered: about 40 MB. A terminal status that is repeated is
then recognized, however long its slave was away.
"""
IDS_PER_MESSAGE = 4_000
"""So many ids, of at most 128 bytes each, fill half a message."""


class SchedulerTasks:
    """The tasks that one scheduler has launched."""

    def __init__(self) -> None:
        self.ended_count = 0
        self.kills: dict[TaskID, KillTask] = {}
        """Orders to kill tasks that have not ended; they are sent again after each registration."""
        # The last sequence number of each launched task that has not ended (0: no status yet), and its slave: statuses of it
        # from another slave are dropped.
        self._live: dict[TaskID, int] = {}
        self._placed: dict[TaskID, SlaveID] = {}
        # Ended tasks, oldest first, in two generations, so that forgetting costs nothing per task.
        self._ended: dict[TaskID, None] = {}
        self._ended_before: dict[TaskID, None] = {}
        # Ended tasks that a master reported lost while no slave has reported their end.
        self._called_lost: dict[TaskID, None] = {}
        # Live tasks without news since the registration was renewed, or for a long time.
        self._doubtful: set[TaskID] = set()
        self._silent: set[TaskID] = set()
        self._unacknowledged: dict[SlaveID, list[UpdateID]] = {}

    @property
    def in_flight(self) -> int:
        """How many tasks are launched and have not ended."""
        return len(self._live)

    def is_live(self, task_id: TaskID) -> bool:
        """Whether this task is launched and has not ended."""
        return task_id in self._live

    def launch(self, tasks: list[TaskInfo], slave_id: SlaveID) -> None:
        """These tasks are sent to the master. `slave_id` is empty if their offer is not open: the master will refuse them."""
        live = self._live
        for task in tasks:
            live[task.task_id] = 0
        if slave_id:
            placed = self._placed
            for task in tasks:
                # A second task with an id in use is refused; the first goes on.
                placed.setdefault(task.task_id, slave_id)
        if self._called_lost:
            for task in tasks:
                self._called_lost.pop(task.task_id, None)

    def end_unsent(self, task_id: TaskID) -> None:
        """This task ends without having been sent to a master."""
        self._ended[task_id] = None

    def is_news(self, status: TaskStatus) -> bool:
        """Handle a status; returns whether the user's code must see it. If not, it is acknowledged here."""
        task_id, sequence = status.task_id, status.sequence
        last = self._live.get(task_id)
        if not sequence and status.reason == Reason.TASK_ID_DUPLICATE:
            return True  # of a second task with this id, which was refused; the first goes on
        if status.slave_id and self._placed.get(task_id, status.slave_id) != status.slave_id:
            self.delivered(status)
            return False
        if self._doubtful:
            self._doubtful.discard(task_id)
        if last is None:
            if task_id in self._ended or task_id in self._ended_before:
                if self._called_lost and sequence and status.state.terminal:
                    self._called_lost.pop(task_id, None)
                self.delivered(status)
                return False
        elif sequence and sequence <= last:
            self.delivered(status)
            return False
        if status.state.terminal:
            if last is not None:
                del self._live[task_id]
                self._placed.pop(task_id, None)
            if self.kills:
                self.kills.pop(task_id, None)
            self._ended[task_id] = None
            self.ended_count += 1
            if not sequence:
                note_end(self._called_lost, status)
        else:
            self._live[task_id] = sequence or last or 0
        return True

    def forget_oldest(self) -> None:
        """Keep the number of remembered ended tasks within its bound."""
        if len(self._ended) > REMEMBER_ENDED:
            self._ended_before, self._ended = self._ended, {}

    # -- acknowledgements ---------------------------------------------------------------------------------------------

    def delivered(self, status: TaskStatus) -> None:
        """The user's code has seen this status, or need not see it: acknowledge it."""
        if status.sequence > 0:
            updates = self._unacknowledged.get(status.slave_id)
            if updates is None:
                self._unacknowledged[status.slave_id] = [(status.task_id, status.sequence)]
            else:
                updates.append((status.task_id, status.sequence))

    def acknowledgements(self, framework_id: FrameworkID) -> list[Message]:
        """Acknowledge what was delivered since the last call, with one or more messages for each slave."""
        if not self._unacknowledged:
            return []
        pending, self._unacknowledged = self._unacknowledged, {}
        return [
            Acknowledge(framework_id, slave_id, part)
            for slave_id, updates in pending.items()
            for part in in_parts(updates)
        ]

    # -- tasks in doubt -------------------------------------------------------------------------------------------------

    def doubt_all(self) -> None:
        """The master has changed, or has forgotten the framework: every live task is in doubt until it has a status."""
        self._doubtful = set(self._live)

    def doubt_silent(self) -> bool:
        """Doubt tasks that had no status at the last call and have none yet; returns whether there are any. Their launch, or
        their statuses, may have been lost on a connection that never broke.
        """
        silent = {task_id for task_id, sequence in self._live.items() if not sequence}
        overdue = silent & self._silent
        self._doubtful |= overdue
        self._silent = silent
        return bool(overdue)

    def doubtful(self) -> list[TaskID]:
        """The live tasks in doubt, sorted."""
        self._doubtful &= self._live.keys()
        return sorted(self._doubtful)

    def name_lost(self, registration: RegisterFramework) -> RegisterFramework:
        """The registration with the tasks that a master has reported lost: the next master may hear that they run."""
        return named_in(registration, self._called_lost) if self._called_lost else registration


def in_parts(ids: list[Id]) -> Iterator[list[Id]]:
    """Split these ids into lists that fit into one message each."""
    return (ids[start : start + IDS_PER_MESSAGE] for start in range(0, len(ids), IDS_PER_MESSAGE))
