"""Which limit it was: out of the kernel's counters, never out of an exit status.

A process that the kernel kills for memory is counted as `oom_kill` in its cgroup and in all above; the cgroup whose limit was
reached counts `oom` in its memory.events.local. So a killed task whose own cgroup counts no `oom` was the victim of a limit
above it: its executor's, or the whole host's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.ids import ContainerID, TaskID
from offerd.resources import format_scalar
from offerd_isolation.base import Limitation, Usage
from offerd_isolation.cgroups.controllers import FileMissing, Memory, Pids
from offerd_isolation.cgroups.limits import NEW_CGROUP, Limits


@dataclass(slots=True)
class Leaf:
    """A cgroup with processes, its limits as they were set (None: found after a restart), and what is known of it."""

    path: str
    limits: Limits | None = NEW_CGROUP
    kills_seen: int = 0
    kills_untold: int = 0  # of the executor's leaf: not yet told of a task


@dataclass(slots=True)
class Tally:
    """The same of the container above."""

    path: str
    limits: Limits | None = NEW_CGROUP
    kills_seen: int = 0
    usage: Usage = field(default_factory=Usage)


def new_kills(leaf: Leaf | Tally) -> int:
    """How many more processes in it were killed for memory since the last look."""
    try:
        killed = Memory(leaf.path).events.get("oom_kill", 0)
    except FileMissing:
        return 0
    fresh = killed - leaf.kills_seen
    leaf.kills_seen = killed
    return fresh


def limitation(
    container_id: ContainerID, task_id: TaskID, leaf: Leaf, container: Tally, usage: Usage
) -> Limitation:
    """Of a leaf in which processes were killed: by which limit."""
    whole = _dies_whole(leaf.path)
    what = f"the kernel killed {'' if whole else 'a process of '}{'it' if task_id else 'the executor'}"
    peak = f" (peak {_size(usage.peak_mem_bytes)})" if usage.peak_mem_bytes else ""
    if _was_reached(leaf.path):
        limit = Memory(leaf.path).max
        text = f"{what}: it needed more than its {_size(limit or 0)} of memory{peak}"
    elif _was_reached(container.path):
        limit = Memory(container.path).max
        text = f"{what}: the executor and its tasks needed more than the {_size(limit or 0)} that they have together{peak}"
    else:
        return Limitation(
            container_id,
            "memory of the host",
            f"{what}: the host was short of memory{peak}",
            task_id,
            usage,
            whole,
        )
    limit_text = f"memory.max={'max' if limit is None else limit}"
    return Limitation(container_id, limit_text, text, task_id, usage, whole)


def pids_limitation(
    container_id: ContainerID, task_id: TaskID, leaf: Leaf, usage: Usage
) -> Limitation | None:
    """A task that could not fork at least once. That kills nobody."""
    try:
        pids = Pids(leaf.path)
        if not pids.events.get("max", 0):
            return None
        limit = pids.max
    except FileMissing:
        return None
    text = f"it hit its limit of {limit} processes and threads"
    return Limitation(container_id, f"pids.max={limit}", text, task_id, usage, fatal=False)


def _dies_whole(path: str) -> bool:
    try:
        return Memory(path).oom_group
    except FileMissing:
        return False


def _was_reached(path: str) -> bool:
    """Before 5.2 only what was counted in it and below is known."""
    memory = Memory(path)
    try:
        return memory.events_local["oom"] > 0
    except FileMissing:
        pass
    try:
        return memory.max is not None and memory.events["oom"] > 0
    except FileMissing:
        return False


def _size(amount: int) -> str:
    """Exact if it is short, else in whole mebibytes: nobody counts bytes of a peak."""
    exact = format_scalar("mem", amount)
    return exact if len(exact) <= 5 else f"{amount / (1 << 20):.1f}M"
