"""How much memory a tree of processes has, where no kernel counts it for us.

What counts is what nobody can take away from the processes: anonymous and shared memory, without files that are mapped, and
what of it is swapped out. Pages that several processes share are divided among them (PSS), so that what is forked from
one process is not counted again with each. To read that costs the kernel a walk through the page tables, so it is read only
where the sum of what is resident, which is never less (but for what is swapped out), is too much. Not seen are files
on a tmpfs that nobody maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from offerd.ids import TaskID
from offerd_isolation import process_table
from offerd_isolation.process_table import TASK_MARK, Process

_COUNTED = (b"Pss_Anon", b"Pss_Shmem", b"SwapPss")
"""Of smaps_rollup, in KiB; kernels before 5.10 tell the sum alone, as `Pss`."""


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
    return TaskID(process_table.variable(process_table.environment(pid), TASK_MARK) or "")


def over(processes: Iterable[Process], most_bytes: int) -> int:
    """How much memory these have together, if that is more than `most_bytes`; else 0."""
    processes = list(processes)
    if sum(each.rss_bytes for each in processes) <= most_bytes:
        return 0
    held = sum(held_bytes(each) for each in processes)
    return held if held > most_bytes else 0


def held_bytes(process: Process) -> int:
    """Of one process. What is resident, where it may not be asked; 0 if it is gone."""
    try:
        with open(f"{process_table.PROC}/{process.pid}/smaps_rollup", "rb", buffering=0) as file:
            text = file.read(8192)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return process.rss_bytes
    sizes = _sizes(text)
    if _COUNTED[0] in sizes:
        return sum(sizes.get(name, 0) for name in _COUNTED)
    return sizes.get(b"Pss", 0) + sizes.get(b"SwapPss", 0)


def _sizes(text: bytes) -> Mapping[bytes, int]:
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        number, _, unit = value.strip().partition(b" ")
        if unit == b"kB":
            sizes[name] = int(number) << 10
    return sizes
