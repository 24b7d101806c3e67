"""What a task's end means to a shell."""

from __future__ import annotations

import pytest

from offerd.ids import TaskID
from offerd.messages import Reason, TaskState, TaskStatus
from offerd_cli.outcome import advice, exit_status, sentence, speaks_for_itself


def status(
    state: TaskState, reason: str = "", exit_status: int | None = None, message: str = ""
) -> TaskStatus:
    return TaskStatus(TaskID("t"), state, reason=reason, exit_status=exit_status, message=message)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (status(TaskState.FINISHED, exit_status=0), 0),
        (status(TaskState.FAILED, Reason.COMMAND_EXITED, 3), 3),
        (status(TaskState.FAILED, Reason.COMMAND_EXITED, -11), 139),
        (status(TaskState.FAILED, Reason.COMMAND_NOT_STARTED), 127),
        (status(TaskState.FAILED, Reason.EXECUTOR_EXITED, 7), 1),
        (status(TaskState.KILLED, Reason.TASK_TIMEOUT, -15), 124),
        (status(TaskState.KILLED, Reason.KILLED_BY_FRAMEWORK, -15), 137),
        (status(TaskState.LOST, Reason.SLAVE_LOST), 1),
        (status(TaskState.ERROR, Reason.TASK_INVALID), 1),
    ],
)
def test_the_exit_status_is_a_shells(ended: TaskStatus, expected: int) -> None:
    assert exit_status(ended) == expected


def test_only_a_command_that_chose_its_status_needs_no_sentence() -> None:
    assert speaks_for_itself(status(TaskState.FAILED, Reason.COMMAND_EXITED, 3))
    assert not speaks_for_itself(status(TaskState.FAILED, Reason.COMMAND_EXITED, -11))
    assert not speaks_for_itself(status(TaskState.KILLED, Reason.TASK_TIMEOUT))


def test_the_sentence_names_the_reason_for_programs_and_the_message_for_people() -> None:
    text = sentence(status(TaskState.KILLED, Reason.TASK_TIMEOUT, message="its time limit of 2 s is over"))
    assert text == "killed, TASK_TIMEOUT: its time limit of 2 s is over"


@pytest.mark.parametrize(
    ("words", "directory", "meant"),
    [
        (["echo hi"], "", "sh -c 'LINE'"),
        (["./tool", "x"], "", "-C . it starts in this one"),
        (["bin/tool"], "", "-C . it starts in this one"),
        (["./tool"], "/here", ""),
        (["/bin/tool"], "", ""),
        (["tool"], "", ""),
        ([""], "", ""),
    ],
)
def test_a_command_that_does_not_exist_gets_a_hint(words: list[str], directory: str, meant: str) -> None:
    ended = status(TaskState.FAILED, Reason.COMMAND_NOT_STARTED)
    said = advice(ended, words, directory)
    assert said.startswith("; ") == bool(meant)
    assert meant in said
    assert advice(status(TaskState.FAILED, Reason.COMMAND_EXITED, 3), words, directory) == ""
