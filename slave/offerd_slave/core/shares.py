"""How much of the disk a task may use, and a container as a whole. Pure: `disk_watch` does the counting."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.ids import ContainerID, TaskID
from offerd.resources import format_scalar
from offerd_isolation.base import Limitation
from offerd_slave.core.state import Phase, State

MOST_BYTES, PART = 10 << 30, 10
"""A task's default share: `MOST_BYTES`, or a `PART`th of the disk if that is less."""
MOST_INODES = 1_000_000
"""The most files and directories of a task, or a `PART`th of the disk's if that is less."""
FOR_THE_REST = 5
"""A container has this many shares beyond its tasks': for its executor's files, and those of its ended tasks."""
MOST_DEEP = 100
"""The deepest nesting of directories. What lies deeper is not counted."""


@dataclass(frozen=True, slots=True)
class Share:
    """The most that a task or a container may have."""

    size_bytes: int
    inodes: int

    def times(self, number: int) -> Share:
        return Share(number * self.size_bytes, number * self.inodes)


@dataclass(slots=True)
class Held:
    """What a task or a container has."""

    size_bytes: int = 0
    inodes: int = 0
    is_too_deep: bool = False

    def add(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.inodes += 1


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of one container as a whole and of its tasks."""

    container_id: ContainerID
    whole: Share
    tasks: dict[TaskID, Share] = field(default_factory=dict)


def usual_share(chosen_bytes: int | None, disk_bytes: int, disk_inodes: int) -> Share | None:
    """The share of a task that declares no disk; None if shares are switched off (`chosen_bytes` is 0). `disk_inodes` is 0 for
    a file system that does not count inodes."""
    if chosen_bytes == 0:
        return None
    inodes = min(MOST_INODES, disk_inodes // PART) if disk_inodes else MOST_INODES
    return Share(chosen_bytes or min(MOST_BYTES, disk_bytes // PART), max(inodes, 1000))


def shares(state: State, usual: Share) -> list[Shares]:
    """The shares of all running containers. A task that asks for `disk` has that as its share."""
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
    """The limit that it is over, if any."""
    whose = "its files" if task_id else "the files of its executor and tasks"
    if held.size_bytes > share.size_bytes:
        has, may = format_scalar("disk", held.size_bytes), format_scalar("disk", share.size_bytes)
        text = f"{whose} take more of the disk than the {may} that they may: {has}"
        return Limitation(container_id, f"disk={share.size_bytes}", text, task_id)
    if held.inodes > share.inodes:
        text = f"{whose} are more than the {share.inodes} that there may be"
        return Limitation(container_id, f"inodes={share.inodes}", text, task_id)
    if held.is_too_deep:
        text = f"{whose} lie more than {MOST_DEEP} directories deep, where they cannot be counted"
        return Limitation(container_id, f"directories={MOST_DEEP}", text, task_id)
    return None
