"""Sends tasks that reached their time limit again, with a longer one: with the same limit they would only be killed again."""

from __future__ import annotations

import re
from enum import Enum

import msgspec

from offerd.errors import BadInput
from offerd.ids import TaskID
from offerd.messages import Reason, TaskInfo, TaskStatus

_TRY = re.compile(r"(.+)@(\d+)\Z")
_MAX_ID_LETTERS = 128


class AfterTimeout(Enum):
    """How to launch a task again whose time limit was too short."""

    LONG = "long"
    """Without a limit: as a long task, which can use only the part of a slave that is for those."""
    DOUBLE = "double"
    """With twice the limit: it stays short while it can. In all, it costs at most four times its work."""


def resubmit(
    task: TaskInfo,
    status: TaskStatus,
    how: AfterTimeout = AfterTimeout.LONG,
    *,
    longest_s: float | None = None,
) -> TaskInfo | None:
    """The task to launch in place of `task`, which ended with `status`; None unless it was killed at its time limit.

        if again := offerd.resubmit(task, status, offerd.AfterTimeout.DOUBLE):
            self.waiting.append(again)

    The new task has another id: `job` becomes `job@2`, then `job@3`. With `DOUBLE`, a limit above `longest_s` seconds becomes
    none: the task is long then. Raises `BadInput` if the status is of another task.
    """
    if status.task_id != task.task_id:
        raise BadInput(f"the status is of task {status.task_id}, not of {task.task_id}")
    if status.reason != Reason.TASK_TIMEOUT or task.time_limit_s is None:
        return None
    limit_s: float | None = None
    if how is AfterTimeout.DOUBLE:
        limit_s = 2 * task.time_limit_s
        if longest_s is not None and limit_s > longest_s:
            limit_s = None
    return msgspec.structs.replace(task, task_id=_next_id(task.task_id), time_limit_s=limit_s)


def _next_id(task_id: TaskID) -> TaskID:
    found = _TRY.match(task_id)
    name, number = (found[1], int(found[2])) if found else (task_id, 1)
    suffix = f"@{number + 1}"
    return TaskID(name[: _MAX_ID_LETTERS - len(suffix)] + suffix)
