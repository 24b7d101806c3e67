"""The protocol between schedulers, master, slaves and executors.

    scheduler --DEALER--> master <--DEALER-- slave <--path socket-- executor

Who may send which message to whom is a table in `docs/reference/protocol.md`: a message may go more ways than the
section here says in which it stands. Every message is a frozen msgspec struct and travels as a MessagePack array
`[name, field, field, ...]`; a frame is `[epoch, [message, ...]]` (`offerd.wire.codec`). A function of the same name in
snake case handles it. What messages carry is in `offerd.descriptions`. The rest of the protocol is in
`operator_messages` and in the folder `protocol/`.

Between versions a field may be **added at the end, with a default**: readers skip fields that they do not know and take
the default for missing ones. No field is ever renamed, moved or removed; a test compares with a record. A frame with an
unknown message, or with a value beyond its bound (`offerd.values.bounds`), raises `BadMessage`: a master ends the
connection, other readers skip the whole frame. So a new message is never sent to a peer that may be older.
"""

from __future__ import annotations

from typing import Annotated

from offerd.descriptions import CommandInfo as CommandInfo
from offerd.descriptions import ExecutorInfo as ExecutorInfo
from offerd.descriptions import Filters as Filters
from offerd.descriptions import FrameworkInfo as FrameworkInfo
from offerd.descriptions import Offer as Offer
from offerd.descriptions import RunningExecutor as RunningExecutor
from offerd.descriptions import RunningTask as RunningTask
from offerd.descriptions import SlaveInfo as SlaveInfo
from offerd.descriptions import TaskInfo as TaskInfo
from offerd.descriptions import TaskOutput as TaskOutput
from offerd.descriptions import TaskStatus as TaskStatus
from offerd.descriptions import TaskUsage as TaskUsage
from offerd.fields.structs import Message as Message
from offerd.fields.structs import Value as Value
from offerd.files_access import FilesSecret
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.resources import Resources
from offerd.states import Reason as Reason
from offerd.states import TaskState as TaskState
from offerd.values.bounds import (
    A_QUESTION,
    MANY,
    Amount,
    Argument,
    Count,
    Data,
    Epoch,
    ExitStatus,
    Interval,
    Name,
    Protocol,
    Seconds,
    Text,
    WishedSeconds,
)

PROTOCOL = OLDEST_PROTOCOL = 1
"""Version of the protocol. A registration with a `protocol` below `OLDEST_PROTOCOL` is refused."""

UpdateID = tuple[TaskID, Count]
"""A status, as it is acknowledged: task id and sequence."""

# -- Scheduler -> master ------------------------------------------------------------------------------------------------


class RegisterFramework(Message, frozen=True):
    """A scheduler registers its framework: a new one, one that it returns to, or one that it takes over.

    Answered by `FrameworkRegistered`, `FrameworkStandsBy` or `FrameworkRefused`. Sent again to each new master.
    """

    framework: FrameworkInfo
    """With an id, this scheduler takes over from the one that is active."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""
    epoch: Epoch = 0
    """Epoch of the newest leader that this scheduler has heard of."""
    stands_by: bool = False
    """Do not take over from an active scheduler: wait in line until it is gone."""
    was_active: bool = False
    """The last master that answered had this scheduler as the active one."""
    scheduler_id: Name = ""
    """Names this scheduler process, so that it is known again when it connects anew."""
    called_lost: Annotated[list[TaskID], MANY] = []
    """Tasks that a master alone reported as lost. A slave that still has one must end it."""
    needs_offers: bool = True
    """As in `SetNeedsOffers`, for the first offers."""
    filters: Filters = Filters()
    """As in `SetFilters`, for the first offers."""
    since_s: Seconds = 0.0
    """How long ago the framework was first registered, with whichever master."""


class AcceptOffers(Message, frozen=True):
    """Run these tasks on these offers. What the tasks leave is free again."""

    offer_ids: Annotated[list[OfferID], MANY]
    """Offers of one slave."""
    tasks: Annotated[list[TaskInfo], MANY]
    """In the order in which they are to be launched. An empty list declines the offers."""
    refuse_seconds: WishedSeconds = 0.0
    """How long what is left is not offered to this framework again."""


class DeclineOffers(Message, frozen=True):
    """Give these offers back unused."""

    offer_ids: Annotated[list[OfferID], MANY]
    """Offers of any slaves."""
    refuse_seconds: WishedSeconds = 5.0
    """How long the same is not offered to this framework again."""


class SetNeedsOffers(Message, frozen=True):
    """Make offers to this framework, or make none until it says otherwise."""

    needs_offers: bool
    """Whether it has work that waits for resources."""


class SetFilters(Message, frozen=True):
    """Replace this framework's filters."""

    filters: Filters
    """All of them; `Filters()` lifts them."""


class ReviveOffers(Message, frozen=True):
    """Forget all refusals of this framework, and a `SetNeedsOffers` of False."""


class KillTask(Message, frozen=True):
    """End a task. From scheduler to master, from there to the slave, and from there to the executor."""

    framework_id: FrameworkID
    """The task's framework."""
    task_id: TaskID
    """The task."""
    slave_id: SlaveID = SlaveID("")
    """Where it runs. Empty: the master finds it."""
    grace_s: WishedSeconds | None = None
    """Seconds between TERM and KILL. None: the task's own."""
    reason: Name = ""
    """The reason for its last status; empty: `KILLED_BY_FRAMEWORK`."""


class Acknowledge(Message, frozen=True):
    """The scheduler's code has handled these statuses. The master passes it on to the slave, which stops repeating them."""

    framework_id: FrameworkID
    """The scheduler's framework."""
    slave_id: SlaveID
    """The slave that keeps the statuses."""
    updates: Annotated[list[UpdateID], MANY]
    """The statuses."""


class ReconcileTasks(Message, frozen=True):
    """Send the state of these tasks, each as a `StatusUpdate` with reason `RECONCILIATION`."""

    task_ids: Annotated[list[TaskID], A_QUESTION]
    """4,096 at most. Empty: all that have not ended."""


class FrameworkMessage(Message, frozen=True):
    """Bytes between a scheduler and one of its executors, in either direction. Best effort."""

    framework_id: FrameworkID
    """The framework of both."""
    slave_id: SlaveID
    """The executor's slave."""
    executor_id: ExecutorID
    """The executor."""
    data: Data
    """The bytes; nothing in offerd reads them."""


class GetGuaranteedShare(Message, frozen=True):
    """Send what is guaranteed to this framework. Answered by `GuaranteedShare`."""


class TeardownFramework(Message, frozen=True):
    """The framework is done: end what still runs of it, and forget it."""


class FailOver(Message, frozen=True):
    """This scheduler ends, and the framework stays. The next one in line becomes active; without one, the framework's
    `failover_timeout_s` begins.
    """


# -- Master -> scheduler ------------------------------------------------------------------------------------------------


class FrameworkRegistered(Message, frozen=True):
    """The scheduler is the framework's active one from now on."""

    framework_id: FrameworkID
    """The framework's id, which the master made unless it came with the registration."""
    master_id: Name
    """Names this master process."""
    reregistered: bool = False
    """The registration came with an id."""
    ping_interval_s: Interval = 5.0
    """How often the master sends a `Ping`."""
    protocol: Protocol = PROTOCOL
    """The master's version of the protocol."""
    promoted: bool = False
    """The scheduler stood by until now."""
    max_failover_s: Seconds = 0.0
    """The framework's own time-outs are cut to this. 0: the master does not say."""
    heeds_wishes: bool = False
    """The master has read `needs_offers` and `filters` of the registration; an older one has to be sent them."""
    since_s: Seconds = 0.0
    """How long ago the framework was first registered."""


class FrameworkStandsBy(Message, frozen=True):
    """Another scheduler of the framework is active. `FrameworkRegistered` follows when it is this one's turn."""

    framework_id: FrameworkID
    """The framework."""
    master_id: Name
    """Names this master process."""
    ahead: Count = 0
    """How many others in line come before this one."""
    ping_interval_s: Interval = 5.0
    """As in `FrameworkRegistered`."""
    protocol: Protocol = PROTOCOL
    """The master's version of the protocol."""
    since_s: Seconds = 0.0
    """As in `FrameworkRegistered`."""


class ResourceOffers(Message, frozen=True):
    """Offers to this framework, for its scheduler to accept or decline."""

    offers: Annotated[list[Offer], MANY]
    """Each of one slave."""


class RescindOffer(Message, frozen=True):
    """The master has taken back an offer."""

    offer_id: OfferID
    """The offer: an answer to it from now on comes too late."""


class StatusUpdate(Message, frozen=True):
    """A task's status, from slave to master and from there to the scheduler."""

    framework_id: FrameworkID
    """The task's framework."""
    status: TaskStatus
    """The slave repeats it until it is acknowledged, if its sequence is above 0."""


class SlaveLost(Message, frozen=True):
    """A slave is gone: it has been silent for too long, or has left. Statuses report its tasks."""

    slave_id: SlaveID
    """The slave."""


class ExecutorLost(Message, frozen=True):
    """An executor of the framework has ended. Statuses report its tasks."""

    slave_id: SlaveID
    """Where it ran."""
    executor_id: ExecutorID
    """The executor."""
    exit_status: ExitStatus | None = None
    """Its exit code, or the signal that ended it as a negative number. None if that is not known."""
    message: Text = ""
    """How it ended, for people."""


class GuaranteedShare(Message, frozen=True):
    """What the framework may hold without losing a task: the answer to `GetGuaranteedShare`."""

    resources: Resources
    """Nothing if nothing is guaranteed to it."""


class RevocationNotice(Message, frozen=True):
    """Another framework is below its guarantee, and this one is above its own: it has to give up resources.

    It may end any of its tasks that hold as much. After the grace the master kills named tasks until enough is free.
    """

    task_ids: Annotated[list[TaskID], MANY]
    """The tasks that are killed otherwise; together they hold what is to be given up."""
    grace_s: Seconds
    """How long the framework has."""


class FrameworkRefused(Message, frozen=True):
    """The framework or this scheduler is not registered, or is no longer. The driver ends."""

    reason: Name
    """One of `Reason`."""
    message: Text
    """What is wrong and what to do, in a line for people."""


# -- Signs of life and refusals between a master and its peers ----------------------------------------------------------


class Ping(Message, frozen=True):
    """Asks a slave or scheduler for a sign of life, and is one of the master's. Answered by `Pong`."""


class Pong(Message, frozen=True):
    """The answer to `Ping`."""


class NotLeading(Message, frozen=True):
    """This master stands by."""

    leader: Name
    """The address of the one that leads, as `tcp://HOST:PORT`. Empty if there is none."""


class Dropped(Message, frozen=True):
    """This peer sent something that no peer may send: the master reads no more from it, and soon ends the connection."""

    why: Text
    """What it sent, for people."""


class NotRegistered(Message, frozen=True):
    """The sender does not know this peer, as after its own restart: register again."""


# -- Slave -> master ----------------------------------------------------------------------------------------------------


class RegisterSlave(Message, frozen=True):
    """A slave registers: a new one, or one that returns and names all that still runs on it.

    Answered by `SlaveRegistered` or `SlaveRefused`. Sent again to each new master.
    """

    slave: SlaveInfo
    """With an id, the slave is one that returns."""
    executors: Annotated[list[RunningExecutor], MANY] = []
    """All executors that run there."""
    tasks: Annotated[list[RunningTask], MANY] = []
    """All tasks that run there, and those whose end is not reported yet."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""
    epoch: Epoch = 0
    """Epoch of the newest leader that this slave has obeyed."""
    mode: Name = "active"
    """As in `SetSlaveMode`, and `drained` or `leaving`."""
    disk_full: bool = False
    """As in `SlaveUsage`."""
    files: FilesSecret | None = None
    """What the master derives access to the slave's files from. Not in `SlaveInfo`, which everybody may list."""
    since_s: Seconds = 0.0
    """How long ago this slave process first registered, with whichever master."""
    memory_note: Name = ""
    """Why memory is not limited there. Empty: it is. The message of running tasks that ask for memory."""


class UnregisterSlave(Message, frozen=True):
    """The slave leaves for good. It has ended and reported all that ran there."""


class ExecutorExited(Message, frozen=True):
    """An executor has ended. The slave reports its tasks by statuses."""

    framework_id: FrameworkID
    """Its framework."""
    executor_id: ExecutorID
    """The executor."""
    container_id: ContainerID
    """The container that it was in."""
    exit_status: ExitStatus | None = None
    """As in `ExecutorLost`."""
    message: Text = ""
    """As in `ExecutorLost`."""


class SlaveUsage(Message, frozen=True):
    """What a slave measures of itself, every few seconds. Also a sign of life."""

    millicpus: Amount
    """CPU time used per wall time since the last report, in thousandths of a cpu."""
    mem_bytes: Amount
    """Memory that containers use now."""
    tasks_running: Count = 0
    """Tasks that it has."""
    draining: bool = False
    """It takes no tasks. For masters that do not know `mode`."""
    disk_full: bool = False
    """Its work directory has no room or cannot be written: the master makes no offers of it."""
    mode: Name = ""
    """As in `RegisterSlave`. Empty from a slave that does not know it."""


# -- Master -> slave ----------------------------------------------------------------------------------------------------


class SlaveRegistered(Message, frozen=True):
    """The slave is part of the cluster from now on."""

    slave_id: SlaveID
    """The slave's id, which the master made unless it came with the registration."""
    master_id: Name
    """Names this master process."""
    ping_interval_s: Interval = 5.0
    """How often the master sends a `Ping`."""
    protocol: Protocol = PROTOCOL
    """The master's version of the protocol."""


class SlaveRefused(Message, frozen=True):
    """The slave is not registered, or is no longer."""

    reason: Name
    """One of `Reason`."""
    message: Text
    """What is wrong and what to do, in a line for people."""
    grace_s: Seconds | None = None
    """Seconds between TERM and KILL for its tasks, which it ends when its key was revoked. None: the slave's own."""


class RunTasks(Message, frozen=True):
    """Launch these tasks on this executor, and start the executor if it does not run."""

    framework: FrameworkInfo
    """Their framework, without its list of executors."""
    executor: ExecutorInfo
    """The executor that runs them."""
    tasks: Annotated[list[TaskInfo], MANY]
    """The tasks, in order."""


class SetSlaveMode(Message, frozen=True):
    """What an operator wants of the slave. The slave writes it down and reports it to every master."""

    mode: Name
    """`active`; `deactivated`: it is not offered; or `draining`: it takes no tasks, and is `drained` once none runs."""
    grace_s: WishedSeconds | None = None
    """Seconds between TERM and KILL for tasks that are ended at the deadline."""
    deadline_s: WishedSeconds | None = None
    """How long from now tasks of a draining slave may still run. None: as was set before, or without end."""


class ShutdownFramework(Message, frozen=True):
    """End the executors and tasks of this framework on this slave."""

    framework_id: FrameworkID
    """The framework."""
    grace_s: WishedSeconds | None = None
    """Seconds between TERM and KILL. None: each executor's own."""
    user: Name | None = None
    """Only those that run as this account. None: all."""
    reason: Name = ""
    """The reason for their last statuses; empty: `FRAMEWORK_REMOVED`."""


# -- Executor <-> slave -------------------------------------------------------------------------------------------------


class RegisterExecutor(Message, frozen=True):
    """An executor registers with its slave: when it starts, and with each new slave process."""

    container_id: ContainerID
    """Its container."""
    token: Name
    """Proves that it is that container's executor."""
    unacknowledged: Annotated[list[TaskStatus], MANY] = []
    """Statuses that the slave has not confirmed, oldest first, as many as fit."""
    task_ids: Annotated[list[TaskID], MANY] = []
    """All tasks that it has, and those whose end is not confirmed."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""
    places_tasks: bool = False
    """It moves each task into the task's own cgroup (`offerd.tasks.task_cgroups`)."""


class ExecutorRegistered(Message, frozen=True):
    """The slave knows the executor, and will send it tasks."""

    framework: FrameworkInfo
    """Its framework."""
    executor: ExecutorInfo
    """Its own description, with its `data`."""
    slave_id: SlaveID
    """The slave."""
    hostname: Name
    """The slave's host."""
    sandbox: Argument
    """The directory of its container. Empty: the one that its environment names."""
    protocol: Protocol = PROTOCOL
    """The slave's version of the protocol."""


class LaunchTask(Message, frozen=True):
    """Run this task."""

    task: TaskInfo
    """Its time limit counts from now on; the slave keeps the time."""


class ExecutorUpdate(Message, frozen=True):
    """A status from an executor."""

    number: Count
    """Counts the container's statuses: 1, 2, 3, ..."""
    status: TaskStatus
    """The status."""


class UpdatesStored(Message, frozen=True):
    """The slave has stored this container's statuses: the executor need not keep them."""

    number: Count
    """Up to this one."""


class Shutdown(Message, frozen=True):
    """End all tasks, then yourself."""

    grace_s: Seconds = 5.0
    """Seconds between TERM and KILL for the tasks."""
