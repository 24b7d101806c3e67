"""What a slave knows: its containers, their tasks, and how much of itself is taken."""

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
from offerd_slave.settings import SlaveSettings


class Killing(NamedTuple):
    """Why a task is being killed; its terminal status will say so."""

    reason: str
    message: str
    limit: str = ""
    usage: TaskUsage | None = None  # as its limits' counters have it

    @classmethod
    def by_limit(cls, hit: Limitation) -> Killing:
        """Of what has hit a limit, or is over one."""
        return cls(Reason.LIMIT_EXCEEDED, hit.message, hit.limit, used(hit))

    @property
    def state(self) -> TaskState:
        """Killed is what somebody has asked for; who is over a limit of memory has failed, and the kernel ended it."""
        return TaskState.FAILED if self.reason == Reason.LIMIT_EXCEEDED else TaskState.KILLED


@dataclass(slots=True)
class Task:
    """A task that has not ended: in its container's `queue` until the executor has registered, then in its `tasks`."""

    framework_id: FrameworkID
    container_id: ContainerID
    info: TaskInfo  # whole while queued; afterwards without what only the executor needs
    long: bool
    delivered_s: float = 0.0  # when it was handed to its executor: its time limit counts from here
    running_s: float | None = None  # when it first ran; after our restart: was handed over
    sequence: int = 0  # of its newest status
    state: TaskState = TaskState.STAGING
    killing: Killing | None = None
    hit: Limitation | None = None  # a limit that did not kill it
    ending: TaskStatus | None = None  # its last, sent when nothing of the task is left
    failed: TaskStatus | None = None  # the same as it came, while the module is asked which limit it was
    is_gone: bool = False  # killed, and none of its processes is left; its executor has not said so
    is_unkillable: bool = False
    listed_bytes: int = 0  # how much of a hello it takes at most
    queued_bytes: int = 0  # of memory, while it waits for its executor


class Phase(Enum):
    """Where a container is."""

    LAUNCHING = "launching"  # until its executor says hello; also after our restart
    REGISTERED = "registered"
    ENDING = "ending"  # asked to end, or ended: its processes are being killed


class End(NamedTuple):
    """How a container came to its end: what the last status of its tasks will say."""

    state: TaskState
    reason: str
    message: str
    exit_status: int | None = None
    limit: str = ""
    usage: TaskUsage | None = None

    @classmethod
    def by_limit(cls, hit: Limitation, exit_status: int | None = None) -> End:
        """Of one that has hit a limit, or is over one."""
        return cls(TaskState.FAILED, Reason.LIMIT_EXCEEDED, hit.message, exit_status, hit.limit, used(hit))


@dataclass(slots=True)
class Container:
    """One run of one executor."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    phase: Phase = Phase.LAUNCHING
    launched: bool = False  # the shell has been asked to make it
    queue: dict[TaskID, Task] = field(default_factory=dict)
    tasks: dict[TaskID, Task] = field(default_factory=dict)
    end: End | None = None
    killed: End | None = None  # of an executor that was killed, while the module is asked whether for a limit
    hit: Limitation | None = None  # a limit of the whole that did not end it
    places_tasks: bool = False  # its tasks are in cgroups of their own
    held: dict[TaskID, int] = field(default_factory=dict)  # numbers of updates whose tasks are still `ending`
    heard: int = 0  # number of its newest update since its last hello
    listed_bytes: int = 0  # how much of a hello it takes
    is_adopted: bool = False  # an earlier run of the slave has started it
    mem_bytes: int = 0  # what its tasks may have together
    most_mem_bytes: int | None = 0  # the most that this ever was; None: one of them may have any
    strangers: int = 0  # how many tasks it has named that are in no record of ours

    @property
    def framework_id(self) -> FrameworkID:
        return self.framework.framework_id

    @property
    def user(self) -> str:
        """Who runs it."""
        return self.framework.user

    def listed(self) -> RunningExecutor:
        """As a hello names it."""
        return RunningExecutor(
            self.framework, self.executor.executor_id, self.container_id, self.executor.resources
        )


HELLO_MAX_BYTES = 900 << 10
"""A hello is one message, which cannot hold a mebibyte: ..."""
LISTED_MAX_BYTES = 720 << 10
"""... containers and tasks are refused beyond this much of it. That is some 4,000 tasks with short names."""
QUEUED_MAX_BYTES = 48 << 20
"""Of one framework's tasks that wait for their executors to register: all of it is handed over at once, and an executor's
connection holds no more than 64 MiB ..."""
QUEUED_TOTAL_BYTES = 192 << 20
"""... and of all frameworks' together."""
_LISTED_TASK_BYTES = 90
"""Of a task, in a hello: a tag, lengths, state, time limit, grace and ages; without ids, name and resources."""

_QUEUED_TASK_BYTES = 1024
"""Of a task that waits, beside its data, command and labels."""

_encode = msgspec.msgpack.Encoder().encode

TimerKey = tuple[str, ...]
"""Names what is due: ("limit", framework, task), ("escalate", framework, task), ("register", container), ..."""


def used(hit: Limitation) -> TaskUsage | None:
    """What whoever hit a limit had used by then; None if the module cannot tell."""
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
        self.there_since: float | None = None  # registered, with whatever master
        self.mode = "active"  # active | deactivated | draining | drained
        self.drain_end_at: float | None = None  # monotonic: what runs on a draining slave is ended then ...
        self.drain_grace_s: float | None = None  # ... with so much time for its end
        self.leaving = False  # what runs is being ended, and so are we
        self.is_disk_full = False
        self.files: FilesSecret | None = None
        self.is_journal_damaged = False  # at our start: executors may have tasks that we do not know of
        self.containers: dict[ContainerID, Container] = {}
        self.by_executor: dict[tuple[FrameworkID, ExecutorID], Container] = {}
        self.tasks: dict[tuple[FrameworkID, TaskID], Task] = {}
        self.tasks_ended = 0
        self.listed_bytes = 0  # of a hello: all containers and tasks
        self.queued_bytes: dict[FrameworkID, int] = {}  # of tasks that wait for their executors
        self.total = info.resources.quantities()
        self.long_total = long_quantities(info.resources, settings.long_fraction)
        self.used: dict[str, int] = {}
        self.long_used: dict[str, int] = {}
        self.timers: KeyedTimers[TimerKey] = KeyedTimers()
        self.out: list[Action] = []
        self.lowered: set[ContainerID] = (
            set()
        )  # containers whose tasks hold less than their limits let through
        self.sent_to: set[ContainerID] = set()  # containers whose executor is sent something in this turn
        self._containers_made = 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing new is taken, for good. (What is on its way to a deactivated slave still runs there.)"""
        return self.leaving or self.mode in ("draining", "drained")

    @property
    def said_mode(self) -> str:
        """As the master hears it."""
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
        """Checkpoint who we are, once we are somebody; what operators want of us, before that, too."""
        if self.slave_id or self.mode != "active":
            self.do(SaveSlave(self.slave_id, self.epoch, self.mode, self.drain_end_at, self.drain_grace_s))

    def log(self, level: str, text: str) -> None:
        self.out.append(Log(level, text))

    # -- accounts -----------------------------------------------------------------------------------------------------

    def new_container_id(self) -> ContainerID:
        """Never used before: the incarnation is the shell's, one for each start of the slave."""
        self._containers_made += 1
        return ContainerID(f"{self.incarnation}.{self._containers_made}")

    def task_limits(self, resources: Resources) -> Resources:
        """What a task of these resources may use. Who declares no memory is limited like everybody else."""
        mem_bytes = self.settings.default_task_mem_bytes
        if resources.mem_bytes or not mem_bytes:
            return resources
        return resources + Resources({"mem": mem_bytes})

    def limits(self, container: Container) -> Resources:
        """What the limits of a container must let through: the executor's own and its tasks'."""
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
        """A grace as it is granted: also what an older slave wrote down may be longer than is allowed."""
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
        """Whether all of the slave would do for this."""
        return all(amount <= self.total.get(name, 0) for name, amount in resources.quantities().items())

    def long_fits(self, resources: Resources) -> bool:
        """Whether long tasks may take this much more."""
        return fits(self.long_used, self.long_total, resources.quantities())

    def can_list(self, framework: FrameworkInfo, task: TaskInfo) -> bool:
        """Whether a hello has room for one more task, and for its container if it has none yet."""
        more = _listed_task_bytes(framework.framework_id, task, ContainerID(""))
        if (framework.framework_id, task.executor_id) not in self.by_executor:
            more += len(_encode(framework))
        return self.listed_bytes + more <= LISTED_MAX_BYTES

    def can_queue(self, framework_id: FrameworkID, task: TaskInfo) -> bool:
        """Whether the task may wait here until its executor has registered. That may be long: with images, minutes."""
        container = self.by_executor.get((framework_id, task.executor_id))
        if container is not None and container.phase is Phase.REGISTERED:
            return True
        more = _queued_task_bytes(task)
        return (
            self.queued_bytes.get(framework_id, 0) + more <= QUEUED_MAX_BYTES
            and sum(self.queued_bytes.values()) + more <= QUEUED_TOTAL_BYTES
        )

    def enqueue(self, container: Container, task: Task) -> None:
        """It waits for its container's executor."""
        task.queued_bytes = _queued_task_bytes(task.info)
        waiting = self.queued_bytes.get(task.framework_id, 0)
        self.queued_bytes[task.framework_id] = waiting + task.queued_bytes
        container.queue[task.info.task_id] = task

    def dequeue(self, task: Task) -> None:
        """It waits no longer: it is delivered, or has ended."""
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
        """The task has ended: out of its container, its timers and the accounts."""
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
    """An upper bound. The name is a person's and may have characters of four bytes; ids have one each."""
    ids = len(framework_id) + len(info.executor_id) + len(info.task_id) + len(container_id)
    name_bytes = len(info.name) if info.name.isascii() else 4 * len(info.name)
    return _LISTED_TASK_BYTES + ids + name_bytes + len(_encode(info.resources))


def _queued_task_bytes(info: TaskInfo) -> int:
    """About how much memory it takes; exact where it would be long to add up."""
    if info.command is None and not info.labels:
        return _QUEUED_TASK_BYTES + len(info.data)
    return _QUEUED_TASK_BYTES + len(_encode(info))
