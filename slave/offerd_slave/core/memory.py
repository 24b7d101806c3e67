"""How much memory containers and tasks may have where it is watched. Pure: what looks is `memory_watch`."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.ids import ContainerID, TaskID
from offerd_isolation.cgroups.limits import EXECUTOR_MEM_BYTES
from offerd_slave.core.state import Phase, State


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one container and its tasks, in bytes; None: any. Tasks without a limit are left out."""

    container_id: ContainerID
    whole_bytes: int | None = None
    tasks: dict[TaskID, int] = field(default_factory=dict)


def watched(state: State) -> list[Memory]:
    """All containers that run.

    A container as a whole may have the most that its tasks ever had together: an executor that keeps its processes for the next
    task is not to be ended when a task does. One that an earlier run started may have had more than we know.
    """
    found = []
    for container in state.containers.values():
        if container.phase is not Phase.REGISTERED:
            continue
        tasks = {
            task_id: limit
            for task_id, task in container.tasks.items()
            if task.killing is None and (limit := state.task_limits(task.info.resources).mem_bytes)
        }
        most = None if container.is_adopted else container.most_mem_bytes
        whole = None if most is None else most + container.executor.resources.mem_bytes + EXECUTOR_MEM_BYTES
        found.append(Memory(container.container_id, whole, tasks))
    return found
