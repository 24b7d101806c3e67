"""Which tasks somebody wants to see."""

from __future__ import annotations

from typing import NamedTuple

from offerd.states import TaskState


class TaskFilter(NamedTuple):
    """All of these must be true of a task. Empty texts and None do not matter."""

    states: frozenset[TaskState] = frozenset(TaskState)
    framework: str = ""
    """The framework's id or name."""
    slave: str = ""
    """The slave's id or host name."""
    name: str = ""
    """A part of the task's id or name."""
    user: str = ""
    since: float | None = None
    """It had not ended before this time."""
    until: float | None = None
    """It was launched before this time."""
