"""What the core wants its shell to do. Imperatives; their order is a contract.

The shell performs the actions of one turn in order, with two liberties: all `Append`s become one write, done before
anything is sent; and sends of one turn leave together. So whatever was appended before a send is written before it.
"""

from __future__ import annotations

import msgspec

from offerd.ids import ContainerID, SlaveID, TaskID
from offerd.messages import ExecutorInfo, FrameworkInfo, Message
from offerd.resources import Resources
from offerd_slave.records import JournalRecord


class Action(msgspec.Struct, frozen=True, gc=False):
    """Root of all actions."""


class SendToMaster(Action, frozen=True):
    message: Message


class SendToExecutor(Action, frozen=True):
    container_id: ContainerID
    message: Message


class Append(Action, frozen=True):
    """Write to the journal."""

    record: JournalRecord


class Sync(Action, frozen=True):
    """Bring the journal to the disk, then say `Stored(number)`."""

    number: int


class SaveSlave(Action, frozen=True):
    """Checkpoint who we are, whom we obey and what operators want of us."""

    slave_id: SlaveID
    epoch: int
    mode: str = "active"
    drain_end_at: float | None = None  # as in `State`
    drain_grace_s: float | None = None


class LaunchContainer(Action, frozen=True):
    """Make sandbox, checkpoint, limits and processes of one executor run; LaunchFailed if that cannot be."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    resources: Resources


class UpdateContainer(Action, frozen=True):
    """Its limits are the sum of its tasks' and its own: raised before a task starts, lowered after it ended."""

    container_id: ContainerID
    resources: Resources


class PrepareTask(Action, frozen=True):
    """Make the task's own limits, before it is delivered; TaskNotPrepared if that cannot be."""

    container_id: ContainerID
    task_id: TaskID
    resources: Resources
    labels: dict[str, str] = {}


class CleanupTask(Action, frozen=True):
    """Kill what is left of the task and remove its own limits; answered by TaskCleanedUp when nothing of it is left."""

    container_id: ContainerID
    task_id: TaskID


class KeepTasks(Action, frozen=True):
    """After a restart: these are all the tasks that the container has; limits of others are left over."""

    container_id: ContainerID
    task_ids: list[TaskID]


class FindUnkillable(Action, frozen=True):
    """A task's processes were killed, and its end is not reported: which of them do not die? Answered by UnkillableFound."""

    container_id: ContainerID
    task_id: TaskID


class InspectFailure(Action, frozen=True):
    """A task has failed with this exit status, or was killed; with an empty task id, the executor was. Which limit has it hit?
    Asked before anything of it is cleaned up; answered by FailureInspected.
    """

    container_id: ContainerID
    task_id: TaskID
    exit_status: int | None


class KillTaskProcesses(Action, frozen=True):
    """The executor did not do it in time; answered by TaskKillRefused if the module cannot."""

    container_id: ContainerID
    task_id: TaskID


class DestroyContainer(Action, frozen=True):
    """Kill what is in it and remove its limits; answered by ContainerDestroyed when nothing is left."""

    container_id: ContainerID


class ForgetContainer(Action, frozen=True):
    """No restart needs to know it any more; its sandbox is kept for a while."""

    container_id: ContainerID


class RefuseOwners(Action, frozen=True):
    """Take no files token of these any more; answered by FilesSecretRenewed if that was news."""

    numbers: dict[str, int]


class MeasureUsage(Action, frozen=True):
    """Answered by UsageMeasured."""


class LookAtDisk(Action, frozen=True):
    """Answered by DiskLooked."""


class HearExecutor(Action, frozen=True):
    """Read what it says; or do not, until it is to be heard again: its framework is behind with hearing what it has said."""

    container_id: ContainerID
    is_heard: bool


class Log(Action, frozen=True):
    """A line for people: `level` is one of logging's names."""

    level: str
    text: str


class Exit(Action, frozen=True):
    """Nothing is left: stop the daemon. `why`, if it is a failure."""

    why: str = ""


class Record(Action, frozen=True):
    """Record what happens for so many seconds, and answer with `RecordingWritten`."""

    ticket: int
    for_s: float
