"""Exceptions that travel between processes."""

from __future__ import annotations

import pickle

from offerd.ids import TaskID
from offerd.messages import Reason, TaskState, TaskStatus
from offerd.task_errors import TaskError


def test_a_task_error_survives_pickling_with_its_status() -> None:
    status = TaskStatus(TaskID("t"), TaskState.LOST, reason=Reason.SLAVE_LOST, message="its slave is gone")
    copy = pickle.loads(pickle.dumps(TaskError(status)))
    assert copy.status == status
    assert str(copy) == "task t ended TASK_LOST: its slave is gone"
