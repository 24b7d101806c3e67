"""Which limit a task has hit: from the kernel's counters, never from an exit status.

A process that the kernel kills for memory is counted as `oom_kill` in its cgroup and in all above. The cgroup whose limit was
reached counts `oom` in its memory.events.local. So if a killed task's own cgroup counts no `oom`, the limit was one above
it: its container's, or the memory of the host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from offerd.ids import ContainerID, TaskID
from offerd.resources import format_scalar
from offerd_isolation.base import Limitation, Usage
from offerd_isolation.cgroups.controllers import FileMissing, Memory, Pids
from offerd_isolation.cgroups.limits import NEW_CGROUP, Limits


@dataclass(slots=True)
class Leaf:
    """A cgroup with processes, its limits as they were set (None: found after a restart), and the kills counted so far."""

    path: str
    limits: Limits | None = NEW_CGROUP
    kills_seen: int = 0
    kills_unreported: int = 0  # in the executor's leaf: not yet reported for a task


@dataclass(slots=True)
class Tally:
    """The same for the container's cgroup."""

    path: str
    limits: Limits | None = NEW_CGROUP
    kills_seen: int = 0
    usage: Usage = field(default_factory=Usage)


def new_kills(leaf: Leaf | Tally) -> int:
    """How many processes in it were killed for memory since the last call."""
    killed = Memory(leaf.path).kills()
    fresh = killed - leaf.kills_seen
    leaf.kills_seen = killed
    return fresh


def limitation(
    container_id: ContainerID, task_id: TaskID, leaf: Leaf, container: Tally, usage: Usage
) -> Limitation:
    """The limit for which processes in this leaf were killed."""
    own, above = Memory(leaf.path), Memory(container.path)
    reached = None
    if own.times_at_limit():
        reached = Reached(own.max, "it needed more than its {size} of memory")
    elif above.times_at_limit():
        reached = Reached(
            above.max, "the executor and its tasks needed more than the {size} that they have together"
        )
    return killed(
        container_id,
        task_id,
        reached,
        usage,
        whole=_dies_whole(own),
        peak_bytes=usage.peak_mem_bytes,
    )


def pids_limitation(
    container_id: ContainerID, task_id: TaskID, leaf: Leaf, usage: Usage
) -> Limitation | None:
    """The limit of processes, if a fork of the task was refused at least once."""
    pids = Pids(leaf.path)
    try:
        return refused(container_id, task_id, "it", pids.max, usage) if pids.refused() else None
    except FileMissing:
        return None


class Reached(NamedTuple):
    """A memory limit that was reached, and a text that says by whom, with `{size}` in place of the limit."""

    limit_bytes: int | None
    who: str


def killed(
    container_id: ContainerID,
    task_id: TaskID,
    reached: Reached | None,
    usage: Usage,
    *,
    whole: bool = True,
    peak_bytes: int = 0,
) -> Limitation:
    """A task, or the executor if `task_id` is empty, was killed for memory: for the limit `reached`, or if None because the
    host was short of memory. `whole`: all of it was killed, not only one process."""
    what = f"the kernel killed {'' if whole else 'a process of '}{'it' if task_id else 'the executor'}"
    limit, why = "memory of the host", "the host was short of memory"
    if reached is not None:
        limit = f"memory.max={'max' if reached.limit_bytes is None else reached.limit_bytes}"
        why = reached.who.format(size=_size(reached.limit_bytes or 0))
    peak = f" (peak {_size(peak_bytes)})" if peak_bytes else ""
    return Limitation(container_id, limit, f"{what}: {why}{peak}", task_id, usage, whole)


def refused(
    container_id: ContainerID, task_id: TaskID, who: str, most: int | None, usage: Usage
) -> Limitation:
    """A fork was refused at the limit of processes, which kills nothing."""
    text = f"{who} hit its limit of {most} processes and threads"
    return Limitation(container_id, f"pids.max={most}", text, task_id, usage, fatal=False)


def _dies_whole(memory: Memory) -> bool:
    try:
        return memory.oom_group
    except FileMissing:
        return False


def _size(amount: int) -> str:
    """Exact if that is short, else in mebibytes with one decimal."""
    exact = format_scalar("mem", amount)
    return exact if len(exact) <= 5 else f"{amount / (1 << 20):.1f}M"
