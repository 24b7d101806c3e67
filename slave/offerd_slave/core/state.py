"""The slave's state: its containers, their tasks, and how much of its resources is taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import msgspec

from offerd.core.slots import clip_grace, fits, is_long, long_quantities
from offerd.core.timers import KeyedTimers
from offerd.files_access import FilesSecret
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import (
    ExecutorInfo,
    FrameworkInfo,
    Message,
    Reason,
    RunningExecutor,
    SlaveInfo,
    TaskInfo,
    TaskState,
    TaskStatus,
    TaskUsage,
)
from offerd.resources import NOTHING, Resources, total
from offerd_isolation.base import Limitation
from offerd_slave.core.actions import Action, Log, SaveSlave, SendToExecutor, SendToMaster
from offerd_slave.core.counts import Counts
from offerd_slave.settings import SlaveSettings


class Killing(NamedTuple):
    """Why a task is being killed, for its terminal status."""

    reason: str
    message: str
    limit: str = ""
    usage: TaskUsage | None = None  # from the counters of its limits

    @classmethod
    def by_limit(cls, hit: Limitation) -> Killing:
        """For a task that has hit a limit, or is over one."""
        return cls(Reason.LIMIT_EXCEEDED, hit.message, hit.limit, used(hit))

    @property
    def state(self) -> TaskState:
        """FAILED for a task over a limit; KILLED if somebody has asked for its end."""
        return TaskState.FAILED if self.reason == Reason.LIMIT_EXCEEDED else TaskState.KILLED


@dataclass(slots=True)
class Task:
    """A task that has not ended: in its container's `queue` until the executor has registered, then in its `tasks`."""

    framework_id: FrameworkID
    container_id: ContainerID
    info: TaskInfo  # whole while queued; afterwards without what only the executor needs
    long: bool
    delivered_s: float = 0.0  # when it was sent to its executor: its time limit counts from here
    running_s: float | None = None  # when it first ran; after a restart of the slave, when it was delivered
    sequence: int = 0  # of its newest status
    state: TaskState = TaskState.STAGING
    killing: Killing | None = None
    hit: Limitation | None = None  # a limit that did not kill it
    ending: TaskStatus | None = None  # its last status, sent when nothing of the task is left
    failed: TaskStatus | None = (
        None  # that status as the executor sent it, while the module is asked for the limit
    )
    is_gone: bool = False  # killed, and none of its processes is left; its executor has not reported its end
    is_unkillable: bool = False
    listed_bytes: int = 0  # how much of a registration it takes at most
    queued_bytes: int = 0  # how much memory it takes while it waits for its executor


class Phase(Enum):
    """The phase of a container's life."""

    LAUNCHING = "launching"  # until its executor registers; also after a restart of the slave
    REGISTERED = "registered"
    ENDING = "ending"  # asked to end, or ended: its processes are being killed


class End(NamedTuple):
    """How a container ended, for the last status of its tasks."""

    state: TaskState
    reason: str
    message: str
    exit_status: int | None = None
    limit: str = ""
    usage: TaskUsage | None = None

    @classmethod
    def by_limit(cls, hit: Limitation, exit_status: int | None = None) -> End:
        """For a container that has hit a limit, or is over one."""
        return cls(TaskState.FAILED, Reason.LIMIT_EXCEEDED, hit.message, exit_status, hit.limit, used(hit))


@dataclass(slots=True)
class Container:
    """One run of one executor."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    phase: Phase = Phase.LAUNCHING
    launched: bool = False  # the daemon has been asked to launch it
    queue: dict[TaskID, Task] = field(default_factory=dict)
    tasks: dict[TaskID, Task] = field(default_factory=dict)
    end: End | None = None
    killed: End | None = (
        None  # the end of a killed executor, while the module is asked whether it was for a limit
    )
    hit: Limitation | None = None  # a limit of the whole container that did not end it
    places_tasks: bool = False  # its tasks are in cgroups of their own
    held: dict[TaskID, int] = field(default_factory=dict)  # numbers of updates whose tasks are still `ending`
    heard: int = 0  # number of its newest update since its last registration
    listed_bytes: int = 0  # how much of the slave's registration it takes
    is_adopted: bool = False  # an earlier slave process has started it
    mem_bytes: int = 0  # what its tasks may use together
    most_mem_bytes: int | None = 0  # the most that this ever was; None: one of its tasks has no limit
    unknown_tasks: int = 0  # how many tasks it has named that the slave has no record of

    @property
    def framework_id(self) -> FrameworkID:
        return self.framework.framework_id

    @property
    def user(self) -> str:
        """The name of the user that it runs as."""
        return self.framework.user

    def listed(self) -> RunningExecutor:
        """Its entry in the slave's registration."""
        return RunningExecutor(
            self.framework, self.executor.executor_id, self.container_id, self.executor.resources
        )


REGISTRATION_MAX_BYTES = 900 << 10
"""The size of a registration, which is one message and cannot hold a mebibyte."""
LISTED_MAX_BYTES = 720 << 10
"""How much of a registration containers and tasks may take: about 4,000 tasks with short names. More are refused."""
QUEUED_MAX_BYTES = 48 << 20
"""How much one framework's tasks may take that wait for their executors to register. All of it is sent at once, and an
executor's connection holds no more than 64 MiB."""
QUEUED_TOTAL_BYTES = 192 << 20
"""The same for all frameworks together."""
_LISTED_TASK_BYTES = 90
"""Size of a task in a registration: a tag, lengths, state, time limit, grace and ages; without ids, name and resources."""

_QUEUED_TASK_BYTES = 1024
"""Memory for a waiting task, without its data, command and labels."""

_encode = msgspec.msgpack.Encoder().encode

TimerKey = tuple[str, ...]
"""Names of timers: ("limit", framework, task), ("escalate", framework, task), ("executor_registration", container), ..."""


def used(hit: Limitation) -> TaskUsage | None:
    """What had been used when the limit was hit; None if the module does not know."""
    usage = hit.usage
    return TaskUsage(usage.cpu_s, usage.peak_mem_bytes) if usage.cpu_s or usage.peak_mem_bytes else None


class State:
    """Everything that the parts of the core share. `out` collects the actions of the current turn."""

    def __init__(self, settings: SlaveSettings, info: SlaveInfo, incarnation: str) -> None:
        self.settings = settings
        self.info = info
        self.incarnation = incarnation
        self.slave_id: SlaveID = info.slave_id
        self.epoch = 0
        self.registered = False
        self.registered_since: float | None = (
            None  # first registration of this slave process, with any master
        )
        self.mode = "active"  # active | deactivated | draining | drained
        self.drain_end_at: float | None = None  # monotonic: when a drain ends the tasks that still run
        self.drain_grace_s: float | None = None  # the grace that they have then
        self.leaving = False  # all tasks are being ended, and then the slave
        self.is_disk_full = False
        self.files: FilesSecret | None = None
        self.is_journal_damaged = (
            False  # found at the start: executors may have tasks that the slave does not know
        )
        self.containers: dict[ContainerID, Container] = {}
        self.by_executor: dict[tuple[FrameworkID, ExecutorID], Container] = {}
        self.tasks: dict[tuple[FrameworkID, TaskID], Task] = {}
        self.tasks_ended = 0
        self.counts = Counts()
        self.listed_bytes = 0  # how much of a registration all containers and tasks take
        self.queued_bytes: dict[FrameworkID, int] = {}  # size of tasks that wait for their executors
        self.total = info.resources.quantities()
        self.long_total = long_quantities(info.resources, settings.long_fraction)
        self.used: dict[str, int] = {}
        self.long_used: dict[str, int] = {}
        self.timers: KeyedTimers[TimerKey] = KeyedTimers()
        self.out: list[Action] = []
        self.lowered: set[ContainerID] = set()  # containers whose limits can be lowered, as tasks have ended
        self.sent_to: set[ContainerID] = set()  # containers to whose executors this turn sends something
        self._containers_made = 0

    @property
    def is_closed(self) -> bool:
        """Whether new tasks are refused. (A deactivated slave still accepts tasks that are on their way to it.)"""
        return self.leaving or self.mode in ("draining", "drained")

    @property
    def reported_mode(self) -> str:
        """The mode that is reported to the master."""
        return "leaving" if self.leaving else self.mode

    # -- actions ------------------------------------------------------------------------------------------------------

    def do(self, action: Action) -> None:
        self.out.append(action)

    def to_master(self, message: Message) -> None:
        self.out.append(SendToMaster(message))

    def to_executor(self, container_id: ContainerID, message: Message) -> None:
        self.sent_to.add(container_id)
        self.out.append(SendToExecutor(container_id, message))

    def save(self) -> None:
        """Checkpoint the slave's id and mode, unless it has no id yet and operators have set no mode."""
        if self.slave_id or self.mode != "active":
            self.do(SaveSlave(self.slave_id, self.epoch, self.mode, self.drain_end_at, self.drain_grace_s))

    def log(self, level: str, text: str) -> None:
        self.out.append(Log(level, text))

    # -- accounts -----------------------------------------------------------------------------------------------------

    def new_container_id(self) -> ContainerID:
        """A container id that was never used before: each start of the slave has its own incarnation."""
        self._containers_made += 1
        return ContainerID(f"{self.incarnation}.{self._containers_made}")

    def task_limits(self, resources: Resources) -> Resources:
        """What a task with these resources may use: a task that declares no memory has the default limit."""
        mem_bytes = self.settings.default_task_mem_bytes
        if resources.mem_bytes or not mem_bytes:
            return resources
        return resources + Resources({"mem": mem_bytes})

    def limits(self, container: Container) -> Resources:
        """What a container may use: its executor's own resources and its tasks'."""
        held = [
            self.task_limits(task.info.resources)
            for task in (*container.queue.values(), *container.tasks.values())
        ]
        found = total([container.executor.resources, *held])
        return found if held else self.task_limits(found)

    def is_long(self, task: TaskInfo) -> bool:
        settings = self.settings
        return is_long(
            task.time_limit_s, settings.short_limit_s, task.kill_grace_s, settings.max_kill_grace_s
        )

    def grace_s(self, asked_s: float | None, otherwise_s: float) -> float:
        """The grace that is granted, at most the slave's maximum, which a grace from an older slave's records may exceed."""
        return clip_grace(otherwise_s if asked_s is None else asked_s, self.settings.max_kill_grace_s)

    def hold(self, resources: Resources, *, long: bool) -> None:
        """Count as taken."""
        used, long_used = self.used, self.long_used
        for name, amount in resources.quantities().items():
            used[name] = used.get(name, 0) + amount
            if long:
                long_used[name] = long_used.get(name, 0) + amount

    def release(self, resources: Resources, *, long: bool) -> None:
        """Count as free again."""
        used, long_used = self.used, self.long_used
        for name, amount in resources.quantities().items():
            used[name] -= amount
            if long:
                long_used[name] -= amount

    def fits(self, resources: Resources) -> bool:
        """Whether this much is free."""
        used, all_of_it = self.used, self.total
        return all(
            used.get(name, 0) + amount <= all_of_it.get(name, 0)
            for name, amount in resources.quantities().items()
        )

    def has(self, resources: Resources) -> bool:
        """Whether the slave, when empty, has this much."""
        return all(amount <= self.total.get(name, 0) for name, amount in resources.quantities().items())

    def long_fits(self, resources: Resources) -> bool:
        """Whether long tasks may take this much more."""
        return fits(self.long_used, self.long_total, resources.quantities())

    def can_list(self, framework: FrameworkInfo, task: TaskInfo) -> bool:
        """Whether a registration has room for one more task, and for its container if it has none yet."""
        more = _listed_task_bytes(framework.framework_id, task, ContainerID(""))
        if (framework.framework_id, task.executor_id) not in self.by_executor:
            more += len(_encode(framework))
        return self.listed_bytes + more <= LISTED_MAX_BYTES

    def can_queue(self, framework_id: FrameworkID, task: TaskInfo) -> bool:
        """Whether there is room for the task to wait until its executor has registered, which may take minutes with images."""
        container = self.by_executor.get((framework_id, task.executor_id))
        if container is not None and container.phase is Phase.REGISTERED:
            return True
        more = _queued_task_bytes(task)
        return (
            self.queued_bytes.get(framework_id, 0) + more <= QUEUED_MAX_BYTES
            and sum(self.queued_bytes.values()) + more <= QUEUED_TOTAL_BYTES
        )

    def enqueue(self, container: Container, task: Task) -> None:
        """Let a task wait for its container's executor."""
        task.queued_bytes = _queued_task_bytes(task.info)
        waiting = self.queued_bytes.get(task.framework_id, 0)
        self.queued_bytes[task.framework_id] = waiting + task.queued_bytes
        container.queue[task.info.task_id] = task

    def dequeue(self, task: Task) -> None:
        """The task does not wait any more: it is delivered, or has ended."""
        left = self.queued_bytes[task.framework_id] - task.queued_bytes
        if left:
            self.queued_bytes[task.framework_id] = left
        else:
            del self.queued_bytes[task.framework_id]

    def add_container(self, container: Container) -> None:
        self.containers[container.container_id] = container
        self.by_executor[container.framework_id, container.executor.executor_id] = container
        container.listed_bytes = len(_encode(container.listed()))
        self.listed_bytes += container.listed_bytes
        self.hold(container.executor.resources or NOTHING, long=False)

    def remove_container(self, container: Container) -> None:
        del self.containers[container.container_id]
        self.listed_bytes -= container.listed_bytes
        key = (container.framework_id, container.executor.executor_id)
        if self.by_executor.get(key) is container:
            del self.by_executor[key]
        self.release(container.executor.resources or NOTHING, long=False)

    def add_task(self, task: Task) -> None:
        info = task.info
        self.tasks[task.framework_id, info.task_id] = task
        container = self.containers[task.container_id]
        mem_bytes = self.task_limits(info.resources).mem_bytes
        container.mem_bytes += mem_bytes
        if not mem_bytes:
            container.most_mem_bytes = None
        elif container.most_mem_bytes is not None:
            container.most_mem_bytes = max(container.most_mem_bytes, container.mem_bytes)
        task.listed_bytes = _listed_task_bytes(task.framework_id, info, task.container_id)
        self.listed_bytes += task.listed_bytes
        self.hold(task.info.resources, long=task.long)

    def remove_task(self, task: Task) -> None:
        """The task has ended: remove it from its container, and cancel its timers."""
        info = task.info
        self.tasks_ended += 1
        self.listed_bytes -= task.listed_bytes
        del self.tasks[task.framework_id, info.task_id]
        container = self.containers[task.container_id]
        if (
            container.tasks.pop(info.task_id, None) is None
            and container.queue.pop(info.task_id, None) is not None
        ):
            self.dequeue(task)
        container.mem_bytes -= self.task_limits(info.resources).mem_bytes
        self.release(info.resources, long=task.long)
        if info.time_limit_s is not None:
            self.timers.cancel(("limit", task.framework_id, info.task_id))
        if task.killing is not None:
            self.timers.cancel(("escalate", task.framework_id, info.task_id))
            self.timers.cancel(("find_unkillable", task.framework_id, info.task_id))


def _listed_task_bytes(framework_id: FrameworkID, info: TaskInfo, container_id: ContainerID) -> int:
    """An upper bound. A name may have characters of four bytes; those of ids have one byte."""
    ids = len(framework_id) + len(info.executor_id) + len(info.task_id) + len(container_id)
    name_bytes = len(info.name) if info.name.isascii() else 4 * len(info.name)
    return _LISTED_TASK_BYTES + ids + name_bytes + len(_encode(info.resources))


def _queued_task_bytes(info: TaskInfo) -> int:
    """About how much memory it takes; its command and labels are counted exactly."""
    if info.command is None and not info.labels:
        return _QUEUED_TASK_BYTES + len(info.data)
    return _QUEUED_TASK_BYTES + len(_encode(info))
