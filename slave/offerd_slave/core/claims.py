"""What an executor may say. It is code that a framework has chosen, so what it claims is checked before it counts; one that
claims what no executor would is ended, and its tasks' statuses say why.
"""

from __future__ import annotations

from offerd.messages import ExecutorUpdate, FrameworkMessage, Message, RegisterExecutor, TaskStatus
from offerd_slave.core.state import Container
from offerd_slave.records import MAX_SEQUENCE

MAX_STATUS_BYTES = 512 << 10
"""A status' `data` and `message` together, a letter counted as four bytes: as `offerd.executor` has it. Whoever passes it on
adds fields, and it must still fit into a frame."""
MAX_WORD_LETTERS = 1024
"""Of its `reason` and its `limit`."""
MAX_DATA_BYTES = MAX_STATUS_BYTES
"""Of bytes for its framework's scheduler."""


def fault_of(container: Container, message: Message) -> str:
    """What is wrong with it, in words that go on after "the executor"; empty if nothing is."""
    kind = type(message)
    if kind is ExecutorUpdate:
        update: ExecutorUpdate = message  # type: ignore[assignment]
        if not container.heard < update.number <= MAX_SEQUENCE:
            return f"numbered an update {update.number} after {container.heard}"
        return fault_of_status(update.status)
    if kind is RegisterExecutor:
        hello: RegisterExecutor = message  # type: ignore[assignment]
        return next((fault for status in hello.unacknowledged if (fault := fault_of_status(status))), "")
    if kind is FrameworkMessage:
        data = message.data  # type: ignore[attr-defined]
        if len(data) > MAX_DATA_BYTES:
            return f"sent its framework {len(data)} bytes at once; {MAX_DATA_BYTES} are the most"
    return ""


def fault_of_status(status: TaskStatus) -> str:
    """The same for one status. That of a task which it does not have is no fault: it may just have ended."""
    if not 1 <= status.sequence <= MAX_SEQUENCE:
        return f"numbered a status {status.sequence}"
    size_bytes = len(status.data) + 4 * len(status.message)
    if size_bytes > MAX_STATUS_BYTES:
        return f"sent a status of {size_bytes} bytes; {MAX_STATUS_BYTES} are the most"
    if len(status.reason) > MAX_WORD_LETTERS or len(status.limit) > MAX_WORD_LETTERS:
        return "sent a status whose reason is a text"
    return ""
