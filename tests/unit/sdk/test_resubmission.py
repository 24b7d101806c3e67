"""Tasks killed at their time limit are sent again as long ones or with twice the limit."""

from __future__ import annotations

import pytest

from offerd import AfterTimeout, BadInput, resubmit
from offerd.ids import ExecutorID, TaskID, is_valid_id
from offerd.messages import Reason, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources

DOUBLE = AfterTimeout.DOUBLE


def task(task_id: str = "job", limit_s: float | None = 2.0) -> TaskInfo:
    return TaskInfo(TaskID(task_id), Resources.of(cpus=1), ExecutorID("e"), data=b"x", time_limit_s=limit_s)


def timed_out(task: TaskInfo) -> TaskStatus:
    return TaskStatus(task.task_id, TaskState.KILLED, 2, Reason.TASK_TIMEOUT)


def test_twice_the_limit_under_a_new_id() -> None:
    again = resubmit(task(), timed_out(task()), DOUBLE)
    assert again is not None
    assert (again.task_id, again.time_limit_s, again.data) == ("job@2", 4.0, b"x")
    third = resubmit(again, timed_out(again), DOUBLE)
    assert third is not None
    assert (third.task_id, third.time_limit_s) == ("job@3", 8.0)


def test_as_a_long_one() -> None:
    again = resubmit(task(), timed_out(task()))
    assert again is not None
    assert again.time_limit_s is None


def test_doubling_ends_where_short_ends() -> None:
    again = resubmit(task(limit_s=40.0), timed_out(task()), DOUBLE, longest_s=60.0)
    assert again is not None
    assert again.time_limit_s is None


@pytest.mark.parametrize("reason", [Reason.COMMAND_EXITED, Reason.REVOKED, ""])
def test_only_a_task_killed_at_its_time_limit_is_sent_again(reason: str) -> None:
    assert resubmit(task(), TaskStatus(TaskID("job"), TaskState.KILLED, 2, reason)) is None


def test_the_longest_id_has_room_for_the_number() -> None:
    long = task("x" * 128)
    again = resubmit(long, timed_out(long))
    assert again is not None
    assert is_valid_id(again.task_id)
    assert again.task_id.endswith("@2")


def test_the_status_of_another_task_is_a_mistake() -> None:
    with pytest.raises(BadInput, match="of task other, not of job"):
        resubmit(task(), timed_out(task("other")))
