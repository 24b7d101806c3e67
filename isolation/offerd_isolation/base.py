"""What an isolation module is: one lifecycle with do-nothing defaults.

    prepare -> (launch) -> isolate -> update* / usage* / watch -> cleanup        and, after a slave's restart, recover
    prepare_task -> (the task runs) -> cleanup_task                                where a module limits tasks, too

A *container* is one run of one executor. The slave launches its processes; a module makes their limits and
ends them. `choose.py` finds them by name; each passes `tests/helpers/isolation_contract.py`.

Contract: every method may be called again with the same arguments; `cleanup` also for a container that was never
prepared, and only one that is gone completely makes it return. Methods may block; one whose module has `blocking = True`
is called in a thread of the module's own, never in the slave's loop; `prepare`, which may take longest, in several. Only
`update`, `cancel`, `limitation`, `why_failed` and `watch` are called in the loop of every module, and do not block.
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

Tell = Callable[[str], None]
"""Takes a few words for people on what takes so long; may be called from any thread."""
NO_LABELS: Mapping[str, str] = MappingProxyType({})


def tell_nobody(_: str) -> None:
    """Where nobody listens."""


class IsolationError(Exception):
    """A container could not be isolated or ended; the text says which file or call refused, and why."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What is to be isolated."""

    container_id: ContainerID
    framework_id: FrameworkID
    executor: ExecutorInfo
    sandbox: Path
    user: str = ""
    resources: Resources = NOTHING  # limits to begin with: the executor's own and its first tasks'
    data_dir: Path | None = None  # what tasks find files in that frameworks have placed on this host


@dataclass(frozen=True, slots=True)
class Enter:
    """Namespaces to enter: those of `process`; and cgroups to join, by their directories."""

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
        0  # what nobody can take away from its processes: not the page cache, where a module can tell
    )
    peak_mem_bytes: int = 0
    processes: int = 0
    throttled_s: float = 0.0  # how long it had to stop because its cpu quota was used up
    cpu_pressure: float = (
        0.0  # percent of the last ten seconds in which some of its processes waited for a cpu
    )
    mem_pressure: float = 0.0  # ... for memory
    io_pressure: float = 0.0  # ... for disks


@dataclass(frozen=True, slots=True)
class Limitation:
    """A limit was hit. `task_id` is empty if it was the container's own. `fatal`: what hit it has been killed for it;
    otherwise it goes on, and should it fail, this may be why."""

    container_id: ContainerID
    limit: str  # as "memory.max=67108864"
    message: str
    task_id: TaskID = TaskID("")
    usage: Usage = Usage()
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class IsolationOptions:
    """What a slave's command line says about limits; a module does what it can of it."""

    cpu_quota: bool = False  # cpus are also a cap, not only a share
    pids_max: int | None = 1024  # processes and threads of one task; None = any number
    io_weight: bool = False  # disks are shared as cpus are
    io_max: tuple[
        tuple[str, tuple[tuple[str, int], ...]], ...
    ] = ()  # ("8:0", (("rbps", 1 << 20),)): of each task
    cpuset: frozenset[int] = frozenset()  # the only processors that tasks run on; empty = all
    image: str = ""  # of containers whose framework names none
    images: tuple[str, ...] = ()  # patterns of what else may be run
    pull: str = "if-absent"  # or never, or always, where the framework does not say
    network: str = "none"  # of containers: what `docker run --network` takes
    engine_timeout_s: float = 30.0  # of a call to the engine that makes containers; a pull may take longer


DEFAULT_OPTIONS = IsolationOptions()


class Isolation:
    """The module that does nothing: base class, and what `noop` begins from."""

    name = "none"
    blocking = False
    """Whether methods may take long (an engine to talk to): then they run outside of the slave's loop."""
    limits_containers = False
    """Whether `update` does anything: it is not called otherwise (it would be, for every batch of tasks)."""
    runs_images = False
    """Whether executors can run in an image."""
    limits_tasks = False
    """Whether `prepare_task` and `cleanup_task` do anything. Not beside `blocking`: no task waits for a thread to start."""

    memory_note = ""
    """Where memory cannot be limited, but `over_memory` finds who has too much: what tasks that ask for some are told."""

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
        """Whether a slave of before used this module on this work directory: then it starts, and keeps its containers, though
        the module is not available now; new ones fail with a reason."""
        return False

    def prepare(self, spec: ContainerSpec, tell: Tell = tell_nobody) -> Launch:
        """Make the container's limits before any process of it exists; if that takes long, `tell` now and then how far it is.
        Raises `IsolationError`."""
        return Launch()

    def cancel(self, container_id: ContainerID) -> None:
        """Nobody waits for this container any more: a `prepare` of it that takes long ends soon, with `IsolationError`.
        Called in the slave's loop; does not block. `cleanup` follows, unless the slave ends."""

    def isolate(self, container_id: ContainerID, shim: ProcessID) -> None:
        """The shim lives: note it, put it where it belongs. Not called if the slave died before; then `recover` does it."""

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        """The sum of the executor's and its tasks' resources is now this: called before a task starts and after it ended.

        Called in the slave's loop; does not block. What is more than before has taken effect when it returns: the task starts
        then.
        """

    def prepare_task(
        self,
        container_id: ContainerID,
        task_id: TaskID,
        resources: Resources,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """A task is about to be delivered to the executor, or is found running after a restart of the slave (a module with
        limits per task makes them here). Only called for executors that put their tasks where these limits are."""

    def cleanup_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """The executor has reported the task's end, or the slave has given it up: kill what is left of it and remove its
        limits. False if processes still have to die (asked again soon)."""
        return True

    def tasks(self, container_id: ContainerID) -> Iterable[TaskID]:
        """Tasks that have limits of their own on this host."""
        return ()

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill one task's processes with no help of its executor. False if the module cannot tell them from others."""
        return False

    def usage(self, container_id: ContainerID) -> Usage:
        """What the container used; zeros for one that is gone."""
        return Usage()

    def task_usage(self, container_id: ContainerID, task_id: TaskID) -> Usage | None:
        """The same of one task; None if the module cannot tell, or the task is gone. Called from any thread."""
        return None

    def disk_places(self, container_id: ContainerID) -> Iterable[str]:
        """Directories of the host into which what a container writes beside its sandbox goes. Called from any thread."""
        return ()

    def over_memory(
        self, container_id: ContainerID, whole_bytes: int | None, tasks: Mapping[TaskID, int]
    ) -> Iterable[Limitation]:
        """Which of these tasks, or else the container as a whole, have more memory than this now. Called from any thread."""
        return ()

    def limitation(self, container_id: ContainerID, task_id: TaskID) -> Limitation | None:
        """The limit that a task had hit which has just failed, if any: asked before its end is made known."""
        return None

    def why_failed(
        self, container_id: ContainerID, task_id: TaskID, exit_status: int | None
    ) -> Limitation | None:
        """The same, with how it ended: for modules whose limits are of whole containers, so that they have to tell who of its
        tasks it was that was killed."""
        return self.limitation(container_id, task_id)

    def unkillable(self, container_id: ContainerID, task_id: TaskID = TaskID("")) -> str:
        """What of a container, or of one task, has been killed and does not die, in words; empty if nothing is known."""
        return ""

    def verify(self) -> Iterable[str]:
        """Look whether the limits are still as they were set, and set them again; a sentence for each that was not.
        Called every few seconds: may look at a part each time."""
        return ()

    def watch(self) -> Iterable[Limitation]:
        """Limits hit since the last call."""
        return ()

    def watch_fds(self) -> Iterable[int]:
        """File descriptors that become readable when `watch` has news."""
        return ()

    def cleanup(self, container_id: ContainerID) -> bool:
        """Kill everything in the container and remove its traces. True when nothing of it is left; False if processes
        still have to die (asked again soon). Raises `IsolationError` if they cannot be killed."""
        return True

    def adopt(self, spec: ContainerSpec) -> None:
        """This container of before goes on: what `prepare` was told of it then, but for its resources, which `update` tells
        when its executor is back. Called after `recover`, for each that lives. Raises `IsolationError`."""

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        """The slave has restarted and its checkpoints know these containers (with the shim, if it was started). Returns
        ids of containers that this module finds on the host and nobody knows: orphans, for the slave to end."""
        return ()

    def remarks(self) -> Iterable[str]:
        """What of the limits cannot be kept on this host, a sentence for each: for the slave's log, once it has recovered."""
        return ()

    def close(self) -> None:
        """The slave ends; containers go on."""
