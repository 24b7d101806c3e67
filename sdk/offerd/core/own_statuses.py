"""Statuses of tasks that never came to a master: the driver itself says how they ended."""

from __future__ import annotations

from offerd.ids import TaskID
from offerd.messages import Reason, TaskState, TaskStatus

SOURCE = "driver"


def lost_without_master(task_id: TaskID) -> TaskStatus:
    """Its offer went with the master."""
    return TaskStatus(
        task_id,
        TaskState.LOST,
        reason=Reason.OFFER_INVALID,
        source=SOURCE,
        message="the master was gone before the task could be sent to it",
    )


def cannot_be_sent(task_id: TaskID, why: str) -> TaskStatus:
    """No message holds it."""
    return TaskStatus(task_id, TaskState.ERROR, reason=Reason.TASK_INVALID, source=SOURCE, message=why)
