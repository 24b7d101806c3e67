"""The interface of an isolation module: one lifecycle, whose methods do nothing by default.

    prepare -> (launch) -> isolate -> update* / usage* / watch -> cleanup        and, after a slave's restart, recover
    prepare_task -> (the task runs) -> cleanup_task                                in modules that also limit tasks

A *container* is one run of one executor. The slave launches its processes; a module sets their limits and
ends them. `choose.py` finds modules by name; each passes `tests/helpers/isolation_contract.py`.

Contract: every method may be called again with the same arguments. `cleanup` may also be called for a container that was
never prepared; it returns True only when the container is gone completely. Methods may block. If a module has
`blocking = True`, its methods are called in a thread of its own, never in the slave's loop; `prepare`, which may take
longest, in several threads. Only `update`, `cancel`, `limitation`, `why_failed` and `watch` are called in the slave's loop
for every module, and must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import ExecutorInfo
from offerd.resources import NOTHING, Resources
from offerd_linux.process_ids import ProcessID

Report = Callable[[str], None]
"""Takes a short text for people about the progress of a long operation; may be called from any thread."""
NO_LABELS: Mapping[str, str] = MappingProxyType({})


def report_to_nobody(_: str) -> None:
    """The default: progress is not reported."""


class IsolationError(Exception):
    """A container could not be isolated or ended; the text says which file or call refused, and why."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to isolate."""

    container_id: ContainerID
    framework_id: FrameworkID
    executor: ExecutorInfo
    sandbox: Path
    user: str = ""
    resources: Resources = NOTHING  # limits to begin with: the executor's own and its first tasks'
    data_dir: Path | None = None  # holds the files that frameworks have placed on this host


@dataclass(frozen=True, slots=True)
class Enter:
    """The namespaces to enter, which are those of `process`, and the directories of the cgroups to join."""

    process: ProcessID
    cgroups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """What the slave must do for a module when it makes the container's processes.

    `environment` is added to the executor's; `cgroup` is the directory of the cgroup that the shim is to be born in;
    `enter` is where the executor goes before it drops its rights, while its shim stays outside.
    """

    environment: dict[str, str] = field(default_factory=dict)
    cgroup: Path | None = None
    enter: Enter | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used so far and holds now."""

    cpu_s: float = 0.0
    mem_bytes: int = (
        0  # memory that the kernel cannot reclaim; without the page cache if the module can exclude it
    )
    peak_mem_bytes: int = 0
    processes: int = 0
    throttled_s: float = 0.0  # how long its processes were stopped because its cpu quota was used up
    cpu_pressure: float = (
        0.0  # percent of the last ten seconds in which some of its processes waited for a cpu
    )
    mem_pressure: float = 0.0  # ... for memory
    io_pressure: float = 0.0  # ... for disks


@dataclass(frozen=True, slots=True)
class Limitation:
    """A limit was hit. `task_id` is empty if it was the container's own limit. `fatal`: the task or executor was killed for
    it. Otherwise it goes on; if it fails later, this may be the reason."""

    container_id: ContainerID
    limit: str  # as "memory.max=67108864"
    message: str
    task_id: TaskID = TaskID("")
    usage: Usage = Usage()
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class IsolationOptions:
    """What a slave's command line says about limits. A module applies the options that it supports."""

    cpu_quota: bool = False  # cpus are also a cap, not only a share
    pids_max: int | None = 1024  # processes and threads of one task; None = any number
    io_weight: bool = False  # disks are shared as cpus are
    io_max: tuple[
        tuple[str, tuple[tuple[str, int], ...]], ...
    ] = ()  # ("8:0", (("rbps", 1 << 20),)): of each task
    cpuset: frozenset[int] = frozenset()  # the only processors that tasks run on; empty = all
    image: str = ""  # for containers whose framework names none
    images: tuple[str, ...] = ()  # patterns of other images that may be run
    pull: str = "if-absent"  # or never, or always; used where the framework does not say
    network: str = "none"  # of containers: a value of `docker run --network`
    engine_timeout_s: float = 30.0  # for a call to the engine that makes containers; a pull may take longer


DEFAULT_OPTIONS = IsolationOptions()


class Isolation:
    """The base class of all modules. It does nothing."""

    name = "none"
    blocking = False
    """Whether methods may take long, as calls to an engine do: then they run outside of the slave's loop."""
    limits_containers = False
    """Whether `update` does anything. If not, it is not called, which saves a call for every batch of tasks."""
    runs_images = False
    """Whether executors can run in an image."""
    limits_tasks = False
    """Whether `prepare_task` and `cleanup_task` do anything. Never together with `blocking`: a task must not wait for a
    thread."""
    memory_note = ""
    """A message for tasks that declare memory, where memory is not limited but `over_memory` finds tasks that use too much."""

    def __init__(self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> None:
        """Changes nothing on the host: that begins with `recover` or the first `prepare`."""
        self.work_dir = work_dir
        self.options = options

    @classmethod
    def available(cls) -> str:
        """Empty if this host can do it; otherwise one sentence that says what is missing and what to do."""
        return ""

    @classmethod
    def can_resume(cls, work_dir: Path) -> bool:
        """Whether an earlier slave used this module on this work directory. Then the slave starts and keeps its containers,
        though the module is not available now; new containers fail with a reason."""
        return False

    def prepare(self, spec: ContainerSpec, report: Report = report_to_nobody) -> Launch:
        """Set the container's limits before any process of it exists; if that takes long, `report` the progress now and then.
        Raises `IsolationError`."""
        return Launch()

    def cancel(self, container_id: ContainerID) -> None:
        """The container is not wanted any more: a long `prepare` of it ends soon, with `IsolationError`.
        Called in the slave's loop; does not block. `cleanup` follows, unless the slave ends."""

    def isolate(self, container_id: ContainerID, shim: ProcessID) -> None:
        """The shim runs: note it, and place it in its cgroup if needed. If the slave dies before this, `recover` does it."""

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        """Set the container's limits to the sum of the executor's and its tasks' resources: before a task starts, and after
        one has ended.

        Called in the slave's loop; does not block. A raised limit has taken effect on return, as the task starts then.
        """

    def prepare_task(
        self,
        container_id: ContainerID,
        task_id: TaskID,
        resources: Resources,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """Set the limits of a task that is about to be delivered to the executor, or was found running after a restart of the
        slave. Only called for executors that place their tasks in the task's own cgroup."""

    def cleanup_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """The executor has reported the task's end, or the slave has given it up: kill what is left of it and remove its
        limits. False if processes have not died yet; then it is called again soon."""
        return True

    def tasks(self, container_id: ContainerID) -> Iterable[TaskID]:
        """Tasks that have limits of their own on this host."""
        return ()

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill one task's processes without its executor. False if the module cannot find them among the others."""
        return False

    def usage(self, container_id: ContainerID) -> Usage:
        """What the container uses; zeros for one that is gone."""
        return Usage()

    def task_usage(self, container_id: ContainerID, task_id: TaskID) -> Usage | None:
        """The same for one task; None if the module does not know, or the task is gone. Called from any thread."""
        return None

    def disk_places(self, container_id: ContainerID) -> Iterable[str]:
        """Directories of the host that hold what a container writes outside of its sandbox. Called from any thread."""
        return ()

    def over_memory(
        self, container_id: ContainerID, whole_bytes: int | None, tasks: Mapping[TaskID, int]
    ) -> Iterable[Limitation]:
        """Which of these tasks use more memory than given here, or else whether the container as a whole does. Called from any
        thread."""
        return ()

    def limitation(self, container_id: ContainerID, task_id: TaskID) -> Limitation | None:
        """The limit that a task had hit, if any. Called when the task has failed, before its end is reported."""
        return None

    def why_failed(
        self, container_id: ContainerID, task_id: TaskID, exit_status: int | None
    ) -> Limitation | None:
        """The same, given how the task ended: for modules that limit whole containers, and must find out which of the tasks
        was killed."""
        return self.limitation(container_id, task_id)

    def unkillable(self, container_id: ContainerID, task_id: TaskID = TaskID("")) -> str:
        """The processes of a container, or of one task, that were killed and do not die, in words; empty if none is known."""
        return ""

    def verify(self) -> Iterable[str]:
        """Check that the limits are as they were set, and set again those that are not; returns a sentence for each of these.
        Called every few seconds; may check only a part each time."""
        return ()

    def watch(self) -> Iterable[Limitation]:
        """Limits hit since the last call."""
        return ()

    def watch_fds(self) -> Iterable[int]:
        """File descriptors that become readable when `watch` has news."""
        return ()

    def cleanup(self, container_id: ContainerID) -> bool:
        """Kill everything in the container and remove its traces. True when nothing of it is left; False if processes
        have not died yet (then it is called again soon). Raises `IsolationError` if they cannot be killed."""
        return True

    def adopt(self, spec: ContainerSpec) -> None:
        """Take over a container of an earlier slave process, with the spec that `prepare` had, except for its resources:
        `update` gives those when its executor is back. Called after `recover`, for each that runs. Raises `IsolationError`."""

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        """The slave has restarted and its checkpoints name these containers (with the shim, if it was started). Returns
        the ids of containers that this module finds on the host without a checkpoint: orphans, which the slave ends."""
        return ()

    def remarks(self) -> Iterable[str]:
        """Limits that cannot be enforced on this host, a sentence for each: for the slave's log, after its recovery."""
        return ()

    def close(self) -> None:
        """The slave ends; its containers go on."""
