"""How much of the disk a task may have, and a container as a whole. Pure: the walk that counts it is `disk_watch`."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.ids import ContainerID, TaskID
from offerd.resources import format_scalar
from offerd_isolation.base import Limitation
from offerd_slave.core.state import Phase, State

MOST_BYTES, PART = 10 << 30, 10
"""Of a task, unless it or the slave's operator says otherwise: so much, or this part of the disk where that is less."""
MOST_INODES = 1_000_000
"""The same of files and directories."""
FOR_THE_REST = 5
"""A container has as many shares for what is nobody's: its executor's files, and what its ended tasks have left."""
MOST_DEEP = 100
"""Directories in one another. What lies deeper cannot be counted."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one may have at most."""

    size_bytes: int
    inodes: int

    def times(self, number: int) -> Share:
        return Share(number * self.size_bytes, number * self.inodes)


@dataclass(slots=True)
class Held:
    """What there is."""

    size_bytes: int = 0
    inodes: int = 0
    is_too_deep: bool = False

    def add(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.inodes += 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Of one container and its tasks."""

    container_id: ContainerID
    whole: Share
    tasks: dict[TaskID, Share] = field(default_factory=dict)


def usual_share(chosen_bytes: int | None, disk_bytes: int, disk_inodes: int) -> Share | None:
    """Of a task that declares none. None: disks are not shared out. Some file systems count no inodes: they say 0."""
    if chosen_bytes == 0:
        return None
    inodes = min(MOST_INODES, disk_inodes // PART) if disk_inodes else MOST_INODES
    return Share(chosen_bytes or min(MOST_BYTES, disk_bytes // PART), max(inodes, 1000))


def shares(state: State, usual: Share) -> list[Shares]:
    """Of all containers that run. What a task has asked for as `disk` is its share."""
    found = []
    for container in state.containers.values():
        if container.phase is Phase.ENDING:
            continue
        tasks = {
            task_id: Share(task.info.resources.scalars.get("disk", 0) or usual.size_bytes, usual.inodes)
            for task_id, task in container.tasks.items()
        }
        rest = usual.times(FOR_THE_REST)
        size_bytes = rest.size_bytes + container.executor.resources.scalars.get("disk", 0)
        whole = Share(
            size_bytes + sum(share.size_bytes for share in tasks.values()),
            rest.inodes + len(tasks) * usual.inodes,
        )
        found.append(Shares(container.container_id, whole, tasks))
    return found


def over(container_id: ContainerID, task_id: TaskID, held: Held, share: Share) -> Limitation | None:
    """What it is over, if anything."""
    whose = "its files" if task_id else "the files of its executor and tasks"
    if held.size_bytes > share.size_bytes:
        has, may = format_scalar("disk", held.size_bytes), format_scalar("disk", share.size_bytes)
        text = f"{whose} take more of the disk than the {may} that they may: {has}"
        return Limitation(container_id, f"disk={share.size_bytes}", text, task_id)
    if held.inodes > share.inodes:
        text = f"{whose} are more than the {share.inodes} that they may be"
        return Limitation(container_id, f"inodes={share.inodes}", text, task_id)
    if held.is_too_deep:
        text = f"{whose} lie more than {MOST_DEEP} directories deep, where they cannot be counted"
        return Limitation(container_id, f"directories={MOST_DEEP}", text, task_id)
    return None
