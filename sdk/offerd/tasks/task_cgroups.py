"""Where an executor finds its tasks' cgroups: a convention between the slave's isolation and executors.

If the slave limits each task separately, an executor's environment names a directory (`TASK_CGROUPS`). Before a task is
delivered, a cgroup with the task's limits is made there, with the name that `leaf_name` returns. The executor puts the task's
processes into it, preferably by creating them there (clone3 with CLONE_INTO_CGROUP). It announces this with `places_tasks` in
its class; otherwise no task cgroups are made for it. The slave removes them.
"""

from __future__ import annotations

from offerd.ids import TaskID

TASK_CGROUPS = "OFFERD_TASK_CGROUPS"
"""Variable in an executor's environment: the directory; not set where tasks have no cgroups of their own."""

_PREFIX = "task-"
"""Keeps a task called `memory.max` apart from the control file: no control file's name begins like this."""


def leaf_name(task_id: TaskID) -> str:
    """The name of a task's cgroup. Any task id can be part of a file name."""
    return _PREFIX + task_id


def task_of_leaf(name: str) -> TaskID | None:
    """The task of a cgroup with this name; None if it is not a task's cgroup."""
    return TaskID(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
