"""What the core asks the daemon to do. Names are imperatives; their order is a contract.

The daemon performs the actions of one turn in order, with two exceptions: all `Append`s become one write, done before
anything is sent; and all messages of one turn are sent together. So what was appended before a message is written before it.
"""

from __future__ import annotations

import msgspec

from offerd.ids import ContainerID, SlaveID, TaskID
from offerd.messages import ExecutorInfo, FrameworkInfo, Message
from offerd.resources import Resources
from offerd_slave.records import JournalRecord


class Action(msgspec.Struct, frozen=True, gc=False):
    """Base of all actions."""


class SendToMaster(Action, frozen=True):
    message: Message


class SendToExecutor(Action, frozen=True):
    container_id: ContainerID
    message: Message


class Append(Action, frozen=True):
    """Write to the journal."""

    record: JournalRecord


class Sync(Action, frozen=True):
    """Sync the journal to the disk; answered by `Stored(number)`."""

    number: int


class SaveSlave(Action, frozen=True):
    """Checkpoint the slave's id, the epoch of its master, and the mode that operators have set."""

    slave_id: SlaveID
    epoch: int
    mode: str = "active"
    drain_end_at: float | None = None  # as in `State`
    drain_grace_s: float | None = None


class LaunchContainer(Action, frozen=True):
    """Make the sandbox, checkpoint, limits and processes of one executor run; answered by LaunchFailed if that fails."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    resources: Resources


class UpdateContainer(Action, frozen=True):
    """Set its limits to the sum of its tasks' and its own: raised before a task starts, lowered after one has ended."""

    container_id: ContainerID
    resources: Resources


class PrepareTask(Action, frozen=True):
    """Set the task's own limits before it is delivered; answered by TaskNotPrepared if that fails."""

    container_id: ContainerID
    task_id: TaskID
    resources: Resources
    labels: dict[str, str] = {}


class CleanupTask(Action, frozen=True):
    """Kill what is left of the task and remove its own limits; answered by TaskCleanedUp when nothing of it is left."""

    container_id: ContainerID
    task_id: TaskID


class KeepTasks(Action, frozen=True):
    """After a restart: the container has exactly these tasks. Remove the limits of all others."""

    container_id: ContainerID
    task_ids: list[TaskID]


class FindUnkillable(Action, frozen=True):
    """Find the processes of a killed task that do not die, as its end is not reported; answered by UnkillableFound."""

    container_id: ContainerID
    task_id: TaskID


class InspectFailure(Action, frozen=True):
    """Find the limit that a task has hit which failed with this exit status, or was killed; an empty task id stands for the
    executor. Comes before anything of it is cleaned up; answered by FailureInspected.
    """

    container_id: ContainerID
    task_id: TaskID
    exit_status: int | None


class KillTaskProcesses(Action, frozen=True):
    """Kill the task's processes, which the executor did not do in time; answered by TaskKillRefused if the module cannot."""

    container_id: ContainerID
    task_id: TaskID


class DestroyContainer(Action, frozen=True):
    """Kill everything in it and remove its limits; answered by ContainerDestroyed when nothing is left."""

    container_id: ContainerID


class ForgetContainer(Action, frozen=True):
    """Remove its checkpoint: a restarted slave need not know it. Its sandbox is kept for a while."""

    container_id: ContainerID


class RefuseOwners(Action, frozen=True):
    """Refuse the files tokens of these owners from now on; answered by FilesSecretRenewed if that changes anything."""

    numbers: dict[str, int]


class MeasureUsage(Action, frozen=True):
    """Measure what the containers use; answered by UsageMeasured."""


class LookAtDisk(Action, frozen=True):
    """Check the work directory's disk; answered by DiskMeasured."""


class HearExecutor(Action, frozen=True):
    """Read this executor's messages, or stop reading them: its framework is behind with acknowledging statuses."""

    container_id: ContainerID
    is_heard: bool


class Log(Action, frozen=True):
    """Write a line to the log; `level` is a name of Python's logging."""

    level: str
    text: str


class Exit(Action, frozen=True):
    """Stop the daemon, as nothing is left. `why`: the reason, if this is a failure."""

    why: str = ""


class Record(Action, frozen=True):
    """Record events for this many seconds; answered by `RecordingWritten`. 0 ends a recording of this ticket that goes on; then
    there is no answer.
    """

    ticket: int
    for_s: float
