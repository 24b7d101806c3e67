"""Where an executor finds its tasks' cgroups: what the slave's isolation and executors have to agree about.

Where the slave limits each task by itself, the environment of an executor names a directory (`TASK_CGROUPS`). Before a
task is delivered, a cgroup with the task's limits has been made there, under the name that `leaf_name` gives; the executor
puts the task's processes into it, best by having them born there (clone3 with CLONE_INTO_CGROUP). It says so by
`places_tasks` of its class; no task cgroups are made for one that does not. The slave removes them.
"""

from __future__ import annotations

from offerd.ids import TaskID

TASK_CGROUPS = "OFFERD_TASK_CGROUPS"
"""Variable in an executor's environment: the directory; not set where tasks have no cgroups of their own."""

_PREFIX = "task-"
"""A task may be called `memory.max`, but no control file's name begins so."""


def leaf_name(task_id: TaskID) -> str:
    """The name of a task's cgroup. Task ids have no character that may not stand in a file's name."""
    return _PREFIX + task_id


def task_of_leaf(name: str) -> TaskID | None:
    """The other way round; None for a cgroup that is no task's."""
    return TaskID(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
