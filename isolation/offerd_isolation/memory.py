"""How much memory a tree of processes has, where no kernel counts it for us.

What counts is what nobody can take away from the processes: anonymous and shared memory, without files that are mapped, and
what of it is swapped out. Pages that several processes share are divided among them (PSS), so that what is forked from
one process is not counted again with each. To read that costs the kernel a walk through the page tables, so it is read only
where the sum of what is resident, which is never less (but for what is swapped out), is too much. Not seen are files
on a tmpfs that nobody maps.
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd.ids import TaskID
from offerd_isolation.marks import TASK_MARK
from offerd_linux import memory, processes
from offerd_linux.processes import Process


class TaskMarks:
    """Which task a process belongs to, by the mark that executors put into its environment, or one above it in the tree."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], TaskID] = {}

    def divide(self, tree: Iterable[Process]) -> dict[TaskID, list[Process]]:
        """The processes of each task, out of a container's, which come parents first. What belongs to none is left out."""
        owners: dict[int, TaskID] = {}
        known: dict[tuple[int, int], TaskID] = {}
        found: dict[TaskID, list[Process]] = {}
        for each in tree:
            key = each.pid, each.start_ticks
            # Not remembered is that one has none: it may be about to become a program with one.
            owner = owners.get(each.ppid) or self._known.get(key) or _mark_of(each.pid)
            if owner:
                owners[each.pid] = known[key] = owner
                found.setdefault(owner, []).append(each)
        self._known = known
        return found


def _mark_of(pid: int) -> TaskID:
    return TaskID(processes.variable(processes.environment(pid), TASK_MARK) or "")


def over(tree: Iterable[Process], most_bytes: int) -> int:
    """How much memory these have together, if that is more than `most_bytes`; else 0."""
    tree = list(tree)
    if sum(each.rss_bytes for each in tree) <= most_bytes:
        return 0
    held = sum(memory.held_bytes(each) for each in tree)
    return held if held > most_bytes else 0
