"""The statistics that the slave serves over HTTP: `GET /statistics`, one JSON document, measured for each request.
An owner of frameworks sees its own executors and tasks, an operator all.

    {"slave_id", "hostname", "isolation", "monotonic_s",
     "refused_requests",
     "executors": [{"container_id", "framework_id", "executor_id", "tasks", "cpus", "usage"}],
     "tasks": [{"task_id", "framework_id", "container_id", "name", "state", "cpus", "mem_bytes", "usage"}]}

`cpus` and `mem_bytes` are the task's resources; `usage` has the fields of `offerd_isolation.base.Usage`. It is null for a task
that its isolation does not measure apart from others: then there is only its executor's, which is some seconds old. A reader
gets rates from two documents: cpu seconds over `monotonic_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from offerd.ids import ContainerID, owner_of
from offerd_isolation.base import Isolation, IsolationError, Usage
from offerd_slave.core.state import Container, State, Task

_encode = msgspec.json.Encoder().encode


class Statistics:
    """Reads the core's state and the isolation in the file server's threads. It changes nothing; a task that ends meanwhile may
    be included or not."""

    def __init__(
        self, state: State, isolation: Isolation, measured: Mapping[ContainerID, tuple[float, Usage]]
    ) -> None:
        """`measured`: for each container the cpus used lately, and its usage; the containerizer keeps it up to date."""
        self._state = state
        self._isolation = isolation
        self._measured = measured

    def document(self, now: float, owner: str | None = None, refused: int = 0) -> bytes:
        """The JSON text, with one owner's executors and tasks, or (None) all."""
        state = self._state
        # list() of a dictionary's values runs no Python code, so the slave's loop cannot change the dictionary meanwhile.
        containers = [
            container
            for container in list(state.containers.values())
            if owner is None or owner_of(container.framework_id) == owner
        ]
        return _encode(
            {
                "slave_id": state.slave_id,
                "hostname": state.info.hostname,
                "isolation": self._isolation.name,
                "monotonic_s": now,
                "refused_requests": refused,
                "executors": [self._executor(container) for container in containers],
                "tasks": [
                    self._task(task) for container in containers for task in list(container.tasks.values())
                ],
            }
        )

    def _executor(self, container: Container) -> dict[str, Any]:
        cpus, usage = self._measured.get(container.container_id, (0.0, None))
        return {
            "container_id": container.container_id,
            "framework_id": container.framework_id,
            "executor_id": container.executor.executor_id,
            "tasks": len(container.tasks),
            "cpus": round(cpus, 3),
            "usage": asdict(usage) if usage is not None else None,
        }

    def _task(self, task: Task) -> dict[str, Any]:
        try:
            usage = self._isolation.task_usage(task.container_id, task.info.task_id)
        except IsolationError:
            usage = None
        return {
            "task_id": task.info.task_id,
            "framework_id": task.framework_id,
            "container_id": task.container_id,
            "name": task.info.name,
            "state": task.state.value,
            "cpus": task.info.resources.millicpus / 1000,
            "mem_bytes": task.info.resources.mem_bytes,
            "usage": asdict(usage) if usage is not None else None,
        }
