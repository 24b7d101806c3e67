"""Events of a slave: facts that have happened."""

from __future__ import annotations

import msgspec

from offerd.files_access import FilesSecret
from offerd.ids import ContainerID, TaskID
from offerd.messages import Message, SetSlaveMode
from offerd_isolation.base import Limitation
from offerd_slave.records import ExitRecord, JournalRecord


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


class FromMaster(Event, frozen=True):
    """A message of a master, whose epoch as leader is `epoch`."""

    epoch: int
    message: Message


class MasterConnected(Event, frozen=True):
    """The connection to the master is established (again). It may be a new master, which does not know this slave."""


class FromExecutor(Event, frozen=True):
    """A message of an executor. The daemon has checked its token: the message is this container's and no other's."""

    container_id: ContainerID
    message: Message


class ExecutorFaulty(Event, frozen=True):
    """An executor has sent what cannot be decoded or handled; `fault` are words to follow "the executor"."""

    container_id: ContainerID
    fault: str


class RecordRefused(Event, frozen=True):
    """A record cannot be written, as the journal's format cannot express it."""

    record: JournalRecord
    why: str


class ContainerPreparing(Event, frozen=True):
    """The container is being made; `message` describes the progress, as `pulling debian:12: 3 of 5 layers, 8.1 MB`. None: it
    has begun, or waits for its turn. Empty: it is made, and its processes are started next."""

    container_id: ContainerID
    message: str | None


class LaunchFailed(Event, frozen=True):
    """The container could not be launched: no process of it runs."""

    container_id: ContainerID
    message: str


class ExecutorEnded(Event, frozen=True):
    """The executor's process is gone. `exit` is None if its shim was killed too, and left no exit record."""

    container_id: ContainerID
    exit: ExitRecord | None


class ContainerDestroyed(Event, frozen=True):
    """Nothing of it is left on the host."""

    container_id: ContainerID


class Stored(Event, frozen=True):
    """Everything appended before the action `Sync(number)` is on the disk."""

    number: int


class TaskKillRefused(Event, frozen=True):
    """The isolation module cannot kill one task alone."""

    container_id: ContainerID
    task_id: TaskID


class TaskNotPrepared(Event, frozen=True):
    """The task's own limits could not be made."""

    container_id: ContainerID
    task_id: TaskID
    message: str


class TaskCleanedUp(Event, frozen=True):
    """Nothing is left of the task's processes and limits."""

    container_id: ContainerID
    task_id: TaskID


class UnkillableFound(Event, frozen=True):
    """The processes of a killed task that do not die, in words; empty if the module finds none."""

    container_id: ContainerID
    task_id: TaskID
    unkillable: str


class FailureInspected(Event, frozen=True):
    """The limit that a failed task had hit, or its executor (an empty task id); None if the module knows of none."""

    container_id: ContainerID
    task_id: TaskID
    hit: Limitation | None


class Unkillable(Event, frozen=True):
    """Processes that were killed long ago still exist: a container's (an empty task id), or those of one task."""

    container_id: ContainerID
    task_id: TaskID
    unkillable: str


class IsolationFailed(Event, frozen=True):
    """The isolation module has failed at something that no task waits for (usage, a limit), which goes to the log."""

    message: str


class LimitHit(Event, frozen=True):
    """The isolation module has learned from the kernel, or an engine, that a limit was hit."""

    limitation: Limitation


class OverMemory(Event, frozen=True):
    """A task, or a container as a whole, used too much memory, where memory is watched instead of limited."""

    limitation: Limitation


class OverDisk(Event, frozen=True):
    """A task, or a container as a whole, is over its share of the disk. It still runs."""

    limitation: Limitation


class UsageMeasured(Event, frozen=True):
    """What the slave's containers use now."""

    millicpus: int
    mem_bytes: int


class DiskMeasured(Event, frozen=True):
    """The work directory's disk: how much is free, and its size; `fault` says why it cannot be written, if it cannot."""

    free_bytes: int
    size_bytes: int
    fault: str = ""


class FilesSecretRenewed(Event, frozen=True):
    """The slave has a new secret, from which the master derives access to its files."""

    files: FilesSecret


class ModeWished(Event, frozen=True):
    """An operator on this host wants the slave drained, or active again."""

    wish: SetSlaveMode


class LeaveRequested(Event, frozen=True):
    """The slave is to end everything at once, unregister and exit."""


class RecordingWritten(Event, frozen=True):
    """The recording that `Record` asked for is at `path`, and can be replayed if it `is_whole`; or `fault` says why not."""

    ticket: int
    path: str = ""
    is_whole: bool = False
    fault: str = ""
