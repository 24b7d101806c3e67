"""How much memory a process tree uses, where no cgroup counts it.

Counted is memory that the kernel cannot reclaim: anonymous and shared memory, resident or swapped out, without mapped files.
Pages that several processes share are divided among them (PSS), so that memory of forked processes is counted once.
Reading PSS makes the kernel walk the page tables. So it is read only if the sum of resident memory, which is never less
(except for swapped pages), is too large. Files on a tmpfs that no process maps are not seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd.ids import TaskID
from offerd_isolation.marks import TASK_MARK
from offerd_linux import memory, processes
from offerd_linux.processes import Process


class TaskMarks:
    """Which task a process belongs to: by the mark that executors put into its environment, or into that of an ancestor."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], TaskID] = {}

    def divide(self, tree: Iterable[Process]) -> dict[TaskID, list[Process]]:
        """The processes of each task, from a container's processes, which come parents first. A process of no task is left
        out."""
        owners: dict[int, TaskID] = {}
        known: dict[tuple[int, int], TaskID] = {}
        found: dict[TaskID, list[Process]] = {}
        for each in tree:
            key = each.pid, each.start_ticks
            # A process without a mark is not remembered: it may be about to execute a program that has one.
            owner = owners.get(each.ppid) or self._known.get(key) or _mark_of(each.pid)
            if owner:
                owners[each.pid] = known[key] = owner
                found.setdefault(owner, []).append(each)
        self._known = known
        return found


def _mark_of(pid: int) -> TaskID:
    return TaskID(processes.variable(processes.environment(pid), TASK_MARK) or "")


def over(tree: Iterable[Process], most_bytes: int) -> int:
    """How much memory these processes use together, in bytes, if that is more than `most_bytes`; else 0."""
    tree = list(tree)
    if sum(each.rss_bytes for each in tree) <= most_bytes:
        return 0
    held = sum(memory.held_bytes(each) for each in tree)
    return held if held > most_bytes else 0
