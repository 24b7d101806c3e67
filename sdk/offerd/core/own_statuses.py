"""Statuses that the driver itself makes, of tasks that never reached a master."""

from __future__ import annotations

from offerd.ids import TaskID
from offerd.messages import Reason, TaskState, TaskStatus

SOURCE = "driver"


def lost_without_master(task_id: TaskID) -> TaskStatus:
    """The task's offer is void because the master is gone."""
    return TaskStatus(
        task_id,
        TaskState.LOST,
        reason=Reason.OFFER_INVALID,
        source=SOURCE,
        message="the master was gone before the task could be sent to it",
    )


def cannot_be_sent(task_id: TaskID, why: str) -> TaskStatus:
    """The task does not fit into a message."""
    return TaskStatus(task_id, TaskState.ERROR, reason=Reason.TASK_INVALID, source=SOURCE, message=why)
