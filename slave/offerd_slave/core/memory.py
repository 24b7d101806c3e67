"""How much memory containers and tasks may use, where it is watched. Pure: `memory_watch` does the watching."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.ids import ContainerID, TaskID
from offerd_isolation.cgroups.limits import with_executor
from offerd_slave.core.state import Phase, State


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory that one container and its tasks may use, in bytes. None: any amount. Tasks without a limit are left out."""

    container_id: ContainerID
    whole_bytes: int | None = None
    tasks: dict[TaskID, int] = field(default_factory=dict)


def watched(state: State) -> list[Memory]:
    """The limits of all registered containers.

    A container as a whole may use the most that its tasks ever had together, so that an executor which keeps its processes for
    the next task is not ended when a task ends. For an adopted container this is not known, so it is not limited as a whole.
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
        whole = None if most is None else with_executor(most + container.executor.resources.mem_bytes)
        found.append(Memory(container.container_id, whole, tasks))
    return found
