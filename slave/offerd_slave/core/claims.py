"""Check an executor's messages. An executor runs a framework's code, so its claims are checked before they count. If a claim
is impossible, the executor is ended, and its tasks' statuses say why.
"""

from __future__ import annotations

from offerd.messages import ExecutorUpdate, FrameworkMessage, Message, RegisterExecutor, TaskStatus
from offerd.values.bounds import MAX_STATUS_BYTES
from offerd_slave.core.state import Container
from offerd_slave.records import MAX_SEQUENCE

MAX_WORD_LETTERS = 1024
"""Length of a status' `reason`, and of its `limit`."""


def fault_of(container: Container, message: Message) -> str:
    """What is wrong with the message, as words to follow "the executor"; empty if nothing is."""
    kind = type(message)
    if kind is ExecutorUpdate:
        update: ExecutorUpdate = message  # type: ignore[assignment]
        if not container.heard < update.number <= MAX_SEQUENCE:
            return f"numbered an update {update.number} after {container.heard}"
        return fault_of_status(update.status)
    if kind is RegisterExecutor:
        registration: RegisterExecutor = message  # type: ignore[assignment]
        faults = map(fault_of_status, registration.unacknowledged)
        return next(filter(None, faults), "")
    if kind is FrameworkMessage:
        data = message.data  # type: ignore[attr-defined]
        if len(data) > MAX_STATUS_BYTES:
            return f"sent its framework {len(data)} bytes at once; {MAX_STATUS_BYTES} are the most"
    return ""


def fault_of_status(status: TaskStatus) -> str:
    """The same for one status. A status of an unknown task is no fault: the task may just have ended."""
    if not 1 <= status.sequence <= MAX_SEQUENCE:
        return f"numbered a status {status.sequence}"
    size_bytes = len(status.data) + 4 * len(status.message)
    if size_bytes > MAX_STATUS_BYTES:
        return f"sent a status of {size_bytes} bytes; {MAX_STATUS_BYTES} are the most"
    if len(status.reason) > MAX_WORD_LETTERS or len(status.limit) > MAX_WORD_LETTERS:
        return "sent a status whose reason is a text"
    return ""
