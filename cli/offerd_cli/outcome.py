"""What the end of a task means to a shell: the exit status, and one line for people."""

from __future__ import annotations

from collections.abc import Sequence

from offerd.messages import Reason, TaskState, TaskStatus
from offerd_cli.exit_statuses import EXIT_KILLED, EXIT_NOT_STARTED, EXIT_TIMEOUT


def exit_status(status: TaskStatus) -> int:
    """The status as in a shell: the command's own, 128 + signal, 124 for the time limit, 127 if it could not be started."""
    if status.state is TaskState.FINISHED:
        return 0
    if status.reason == Reason.TASK_TIMEOUT:
        return EXIT_TIMEOUT
    if status.reason == Reason.COMMAND_NOT_STARTED:
        return EXIT_NOT_STARTED
    if status.reason == Reason.COMMAND_EXITED and status.exit_status:
        return status.exit_status if status.exit_status > 0 else 128 - status.exit_status
    return EXIT_KILLED if status.state is TaskState.KILLED else 1


def speaks_for_itself(status: TaskStatus) -> bool:
    """Whether the command exited by itself with a status of its own, so that its own error message is enough."""
    by_itself = status.reason == Reason.COMMAND_EXITED and (status.exit_status or 0) > 0
    return status.state is TaskState.FINISHED or (status.state is TaskState.FAILED and by_itself)


def sentence(status: TaskStatus) -> str:
    """`killed, TASK_TIMEOUT: its time limit of 2s is over`."""
    word = status.state.value.removeprefix("TASK_").lower()
    if status.state is TaskState.ERROR:
        word = "refused"
    reason = f", {status.reason}" if status.reason else ""
    if status.message:
        return f"{word}{reason}: {status.message}"
    if status.exit_status is not None and status.reason == Reason.COMMAND_EXITED:
        return f"{word}{reason}: exit status {status.exit_status}"
    return f"{word}{reason}"


def advice(status: TaskStatus, words: Sequence[str], directory: str) -> str:
    """A hint if a program could not be started: what these words, or the lack of a directory, may have meant; or empty."""
    if status.reason != Reason.COMMAND_NOT_STARTED or not words or not words[0]:
        return ""
    program = words[0]
    if len(words) == 1 and len(program.split()) > 1:
        return "; to run a shell command line, write sh -c 'LINE'"
    if not directory and "/" in program and not program.startswith("/"):
        return "; a task starts in an empty directory; with -C . it starts in this one"
    return ""
