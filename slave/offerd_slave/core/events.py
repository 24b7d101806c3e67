"""What can happen to a slave. Events are past facts."""

from __future__ import annotations

import msgspec

from offerd.files_access import FilesSecret
from offerd.ids import ContainerID, TaskID
from offerd.messages import Message, SetSlaveMode
from offerd_isolation.base import Limitation
from offerd_slave.records import ExitRecord, JournalRecord


class Event(msgspec.Struct, frozen=True, gc=False):
    """Root of all events."""


class FromMaster(Event, frozen=True):
    """The master said something; `epoch` is its leader's."""

    epoch: int
    message: Message


class MasterConnected(Event, frozen=True):
    """The connection to the master stands (again). Who listens there may be a new one, which knows nothing of us."""


class FromExecutor(Event, frozen=True):
    """An executor said something. The shell has checked its token: it speaks for this container and no other."""

    container_id: ContainerID
    message: Message


class ExecutorFaulty(Event, frozen=True):
    """It said what cannot be understood or handled: `fault` goes on after "the executor"."""

    container_id: ContainerID
    fault: str


class RecordRefused(Event, frozen=True):
    """This was to be written down and cannot be: it is in no form that the journal takes."""

    record: JournalRecord
    why: str


class ContainerPreparing(Event, frozen=True):
    """It is being made; `message` says what is done and how far it is, as `pulling debian:12: 3 of 5 layers, 8.1 MB`. None:
    that has begun, or waits for its turn; empty: it is made, and its processes are next."""

    container_id: ContainerID
    message: str | None


class LaunchFailed(Event, frozen=True):
    """No process of it was started."""

    container_id: ContainerID
    message: str


class ExecutorEnded(Event, frozen=True):
    """The executor's process is gone. `exit` is None if its shim died, too, and could not say how."""

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
    """What of a killed task does not die, in words; empty if the module finds nothing of it."""

    container_id: ContainerID
    task_id: TaskID
    unkillable: str


class FailureInspected(Event, frozen=True):
    """The limit that a task which has failed had hit, or its executor (an empty task id); None if the module knows of none."""

    container_id: ContainerID
    task_id: TaskID
    hit: Limitation | None


class Unkillable(Event, frozen=True):
    """What was killed long ago is still there: a container's processes (an empty task id), or those of one task."""

    container_id: ContainerID
    task_id: TaskID
    unkillable: str


class IsolationFailed(Event, frozen=True):
    """The isolation module could not do what nobody waits for (usage, a limit): people should know."""

    message: str


class LimitHit(Event, frozen=True):
    """The isolation module has heard from the kernel, or an engine, that a limit was hit."""

    limitation: Limitation


class OverMemory(Event, frozen=True):
    """A task, or a container as a whole, had too much memory where that is watched."""

    limitation: Limitation


class OverDisk(Event, frozen=True):
    """A task, or a container as a whole, has more on the disk than it may have. It still runs."""

    limitation: Limitation


class UsageMeasured(Event, frozen=True):
    """What the slave's containers use now."""

    millicpus: int
    mem_bytes: int


class DiskLooked(Event, frozen=True):
    """The work directory's disk: what is free for us, of how much; `fault` is why it cannot be written, if it cannot."""

    free_bytes: int
    size_bytes: int
    fault: str = ""


class FilesSecretRenewed(Event, frozen=True):
    """The master is to hand out access to our files by this one."""

    files: FilesSecret


class ModeWished(Event, frozen=True):
    """An operator on this very host wants us drained, or active again."""

    wish: SetSlaveMode


class LeaveRequested(Event, frozen=True):
    """End everything at once, and go, leaving the master's list."""


class RecordingWritten(Event, frozen=True):
    """What `Record` asked for is at `path`, and can be replayed if it `is_whole`; or `fault` says why it is not."""

    ticket: int
    path: str = ""
    is_whole: bool = False
    fault: str = ""
