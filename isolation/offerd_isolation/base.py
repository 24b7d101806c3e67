"""What an isolation module is: one lifecycle with do-nothing defaults.

    prepare -> (launch) -> isolate -> update* / usage* / watch -> destroy        and, after a slave's restart, recover

A *container* is one run of one executor. The launcher (in the slave) makes processes; a module makes their limits and
ends them. Modules are found by the entry-point group `offerd.isolation`; each passes `tests/helpers/isolation_contract.py`.

Contract: every method may be called again with the same arguments; `destroy` also for a container that was never
prepared, and only one that is gone completely makes it return. Methods may block; one whose module has `blocking = True`
is called in a thread of the module's own, never in the slave's loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import ExecutorInfo
from offerd.resources import NOTHING, Resources


class IsolationError(Exception):
    """A container could not be isolated or ended; the text says which file or call refused, and why."""


@dataclass(frozen=True, slots=True)
class ProcessID:
    """A process that cannot be mistaken for another: pids are reused, (boot, pid, start time) is not."""

    boot_id: str
    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat: clock ticks after boot


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What is to be isolated."""

    container_id: ContainerID
    framework_id: FrameworkID
    executor: ExecutorInfo
    sandbox: Path
    user: str = ""
    resources: Resources = NOTHING  # limits to begin with: the executor's own and its first tasks'


@dataclass(frozen=True, slots=True)
class Launch:
    """What the launcher must do for a module when it makes the container's processes.

    `environment` is added to the executor's; `cgroup` is the directory of the cgroup that the shim is to be born in.
    """

    environment: dict[str, str] = field(default_factory=dict)
    cgroup: Path | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used so far and holds now."""

    cpu_s: float = 0.0
    mem_bytes: int = 0
    peak_mem_bytes: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Limitation:
    """A limit was hit: what `watch` reports. `task_id` is empty if it was the container's own."""

    container_id: ContainerID
    limit: str
    message: str
    task_id: TaskID = TaskID("")
    usage: Usage = Usage()


class Isolation:
    """The module that does nothing: base class, and what `noop` begins from."""

    name = "none"
    blocking = False
    """Whether methods may take long (an engine to talk to): then they run outside of the slave's loop."""
    limits_containers = False
    """Whether `update` does anything: it is not called otherwise (it would be, for every batch of tasks)."""
    limits_tasks = False
    """Whether `task_started` and `task_ended` do anything."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir

    @classmethod
    def available(cls) -> str:
        """Empty if this host can do it; otherwise one sentence that says what is missing and what to do."""
        return ""

    def prepare(self, spec: ContainerSpec) -> Launch:
        """Make the container's limits before any process of it exists. Raises `IsolationError`."""
        return Launch()

    def isolate(self, container_id: ContainerID, shim: ProcessID) -> None:
        """The shim lives: note it, put it where it belongs."""

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        """The sum of the executor's and its tasks' resources is now this: called before a task starts and after it ended."""

    def task_started(self, container_id: ContainerID, task_id: TaskID, resources: Resources) -> None:
        """A task is about to be delivered to the executor (a module with limits per task makes them here)."""

    def task_ended(self, container_id: ContainerID, task_id: TaskID) -> None:
        """The executor has reported the task's end, or the slave has given it up."""

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill one task's processes with no help of its executor. False if the module cannot tell them from others."""
        return False

    def usage(self, container_id: ContainerID) -> Usage:
        """What the container used; zeros for one that is gone."""
        return Usage()

    def watch(self) -> Iterable[Limitation]:
        """Limits hit since the last call."""
        return ()

    def watch_fds(self) -> Iterable[int]:
        """File descriptors that become readable when `watch` has news."""
        return ()

    def destroy(self, container_id: ContainerID) -> bool:
        """Kill everything in the container and remove its traces. True when nothing of it is left; False if processes
        still have to die (asked again soon). Raises `IsolationError` if they cannot be killed."""
        return True

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        """The slave has restarted and its checkpoints know these containers (with the shim, if it was started). Returns
        ids of containers that this module finds on the host and nobody knows: orphans, for the slave to destroy."""
        return ()
