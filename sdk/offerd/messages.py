"""The whole protocol of offerd, on one page.

Every message is a frozen msgspec struct, travels as a MessagePack array `[name, field, field, ...]` inside a `Frame`
(see `offerd.codec`), and is handled by the method of the same name in snake case.

Compatibility: a reader ignores fields it does not know and fills in missing ones with their defaults. So a field is
only ever **added at the end, with a default**; none is renamed, moved or removed (a test holds the wire to that).
A message a reader does not know is a `BadMessage` of that one peer. Every hello carries `protocol`.

Who talks to whom::

    scheduler --DEALER--> master <--DEALER-- slave <--DEALER-- executor
"""

from __future__ import annotations

from enum import Enum, StrEnum

import msgspec

from offerd.files_access import NO_ACCESS, FilesAccess, FilesSecret
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.resources import NOTHING, Resources

PROTOCOL = 1
"""Version of this page. Readers accept any hello with `protocol >= OLDEST_PROTOCOL`."""
OLDEST_PROTOCOL = 1

# -- Values carried by messages -----------------------------------------------------------------------------------------


class TaskState(Enum):
    """Where a task is. Terminal states are final: one of them reaches the scheduler's code, once."""

    STAGING = "TASK_STAGING"  # accepted by the master, not yet reported running
    RUNNING = "TASK_RUNNING"
    FINISHED = "TASK_FINISHED"  # ended by itself, well
    FAILED = (
        "TASK_FAILED"  # ended by itself, badly; also by the kernel, at its limit of memory (LIMIT_EXCEEDED)
    )
    KILLED = "TASK_KILLED"  # ended by us: by request, time limit, drain
    ERROR = "TASK_ERROR"  # the description was bad: never launched, will not be better next time
    LOST = "TASK_LOST"  # it never ran, or nobody can say how it ended
    UNREACHABLE = (
        "TASK_UNREACHABLE"  # its slave is lost and may come back with it; only for frameworks that ask for it
    )

    terminal: bool
    """Set below; an attribute and not a property because the hot path asks for every update."""


for _state in TaskState:
    _state.terminal = _state not in (TaskState.STAGING, TaskState.RUNNING, TaskState.UNREACHABLE)


class Reason(StrEnum):
    """Why a task is in its state, or a framework or slave was refused. On the wire a plain string: newer peers know more."""

    # the command or call itself
    COMMAND_EXITED = "COMMAND_EXITED"  # exit status other than 0, or a signal of its own
    COMMAND_NOT_STARTED = "COMMAND_NOT_STARTED"  # no such program, no permission
    CALL_RAISED = "CALL_RAISED"  # a Python call ended with an exception
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"  # of memory, processes, ...: the status' `limit` says which
    # ended by us
    TASK_TIMEOUT = "TASK_TIMEOUT"  # its time limit was over
    KILLED_BY_FRAMEWORK = "KILLED_BY_FRAMEWORK"
    FRAMEWORK_REMOVED = "FRAMEWORK_REMOVED"
    SLAVE_DRAINING = "SLAVE_DRAINING"
    DISK_PRESSURE = "DISK_PRESSURE"  # the slave has no room to write down what it would run
    REVOKED = "REVOKED"  # another framework was under its guarantee, this one above its own
    USER_CHANGED = "USER_CHANGED"  # its framework runs as another user now
    LIMITS_NOT_SET = "LIMITS_NOT_SET"  # its isolation could not make them: it may not run without
    UNKILLABLE = "UNKILLABLE"  # killed, but the kernel does not let go of its processes: it runs on, and holds its resources
    # the accept was bad
    OFFER_INVALID = "OFFER_INVALID"  # unknown, answered already, rescinded, or offers of several slaves
    OFFER_EXCEEDED = "OFFER_EXCEEDED"  # asks for more than the offers hold
    LONG_TASK_CAP = "LONG_TASK_CAP"  # long tasks would hold more than their part of the slave
    TASK_ID_DUPLICATE = "TASK_ID_DUPLICATE"
    TASK_INVALID = "TASK_INVALID"  # nothing to run, no resources, negative time limit, unknown executor
    SLAVE_UNKNOWN = "SLAVE_UNKNOWN"
    # the executor, the slave, the network
    CONTAINER_PREPARING = "CONTAINER_PREPARING"  # its image is being pulled: so far
    EXECUTOR_NOT_LAUNCHED = "EXECUTOR_NOT_LAUNCHED"
    EXECUTOR_REGISTRATION_TIMEOUT = "EXECUTOR_REGISTRATION_TIMEOUT"
    EXECUTOR_EXITED = "EXECUTOR_EXITED"
    EXECUTOR_RAISED = "EXECUTOR_RAISED"  # its launch_task or kill_task did
    EXECUTOR_INVALID = "EXECUTOR_INVALID"  # it told the slave what no executor would, and was ended
    SHIM_DIED = "SHIM_DIED"
    WORKER_DIED = "WORKER_DIED"  # a worker process of the Python executor, by its own hand
    SLAVE_LOST = "SLAVE_LOST"
    SLAVE_RESTARTED = "SLAVE_RESTARTED"
    SLAVE_RETURNED = "SLAVE_RETURNED"  # what was unreachable is back
    HOST_REBOOTED = "HOST_REBOOTED"
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    # answers to reconciliation and registration
    RECONCILIATION = "RECONCILIATION"
    TASK_UNKNOWN = "TASK_UNKNOWN"
    FRAMEWORK_INVALID = "FRAMEWORK_INVALID"
    FRAMEWORK_FAILED_OVER = "FRAMEWORK_FAILED_OVER"  # another scheduler has taken over
    FRAMEWORK_TORN_DOWN = "FRAMEWORK_TORN_DOWN"  # it has ended itself
    FAILOVER_TIMEOUT = "FAILOVER_TIMEOUT"  # no scheduler of it came back in time
    SLAVE_INVALID = "SLAVE_INVALID"  # its hello cannot be used: no resources, ids that are none
    PROTOCOL_TOO_OLD = "PROTOCOL_TOO_OLD"
    NOT_AUTHORIZED = "NOT_AUTHORIZED"  # the owner of this key may not be or do this
    EPOCH_TOO_OLD = "EPOCH_TOO_OLD"
    MASTER_STANDS_BY = "MASTER_STANDS_BY"


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Root of what is carried inside messages."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Root of all messages; the tag on the wire is the class's name."""


class CommandInfo(Value, frozen=True):
    """A program: `argv`, or one line for `/bin/sh -c`; `environment` is added to the slave's small clean one.

    `series` are argument vectors of programs to run after it, one after another, in the same task: see `offerd/series.py`.
    """

    argv: list[str] = []
    shell: str = ""
    environment: dict[str, str] = {}
    series: list[list[str]] = []
    series_s: float = 0.0


class ExecutorInfo(Value, frozen=True):
    """What runs a framework's tasks on a slave: a Python `module` with a `main()` (forked, fast), or a `command`.

    `resources` are its own, held while it lives, on top of its tasks'. One executor of an id runs per framework and slave.
    """

    executor_id: ExecutorID
    module: str = ""
    command: CommandInfo | None = None
    resources: Resources = NOTHING
    name: str = ""
    data: bytes = b""
    shutdown_grace_s: float = 5.0
    image: str = ""  # of the container it runs in, where the slave runs images; "" = the slave's default
    pull: str = ""  # never, if-absent or always; "" = as the slave says


class FrameworkInfo(Value, frozen=True):
    """Who asks for resources. `user` runs the executors; "": the account that asks, where its key allows that, else the first
    that it allows, else whom the slave says. `role` is what shares are counted by. `account`: who started the scheduler.

    `unreachable_timeout_s`: how long tasks of a lost slave are `UNREACHABLE`, and go on if it comes back, before they are
    `LOST`; at zero they are so at once, and are ended should the slave come back.
    """

    name: str
    framework_id: FrameworkID = FrameworkID("")
    user: str = ""
    role: str = "*"
    executors: list[ExecutorInfo] = []
    failover_timeout_s: float = 0.0
    hostname: str = ""
    labels: dict[str, str] = {}
    unreachable_timeout_s: float = 0.0
    account: str = ""


class TaskInfo(Value, frozen=True):
    """One task. `time_limit_s=None` makes it long; a limit is counted from its delivery to the executor and enforced by
    killing. `kill_grace_s`: from TERM to KILL, as far as the slave allows it; it is part of the limit when long and short are
    told apart. `data` is the executor's business; the master never keeps it.
    """

    task_id: TaskID
    resources: Resources
    executor_id: ExecutorID
    command: CommandInfo | None = None
    data: bytes = b""
    time_limit_s: float | None = None
    kill_grace_s: float | None = None
    name: str = ""
    labels: dict[str, str] = {}


class Offer(Value, frozen=True):
    """Free resources of one slave. Tasks that are long there (no limit, or one above `short_limit_s`) may together take at
    most `long_quantities` of it (per name: millicpus, bytes, number of ports); short ones all of it.
    """

    offer_id: OfferID
    slave_id: SlaveID
    hostname: str
    resources: Resources
    long_quantities: dict[str, int] = {}
    short_limit_s: float = 0.0
    attributes: dict[str, str] = {}
    executor_ids: list[ExecutorID] = []
    files_address: str = ""
    files: FilesAccess = NO_ACCESS  # to what the framework's owner has on this slave


class TaskUsage(Value, frozen=True):
    """What a task used, as far as its isolation can tell."""

    cpu_s: float = 0.0
    peak_mem_bytes: int = 0


class TaskStatus(Value, frozen=True):
    """A task's state and why. Identified by `(task_id, sequence)`: sequences rise within a task, so that a status
    repeated or overtaken is known for what it is. `timestamp` (wall clock) is for display only.
    """

    task_id: TaskID
    state: TaskState
    sequence: int = 0
    reason: str = ""
    source: str = ""  # executor | slave | master | driver
    message: str = ""
    data: bytes = b""
    exit_status: int | None = None  # exit code, or minus the signal
    limit: str = ""  # the limit that was hit, as "time_limit_s=2"
    usage: TaskUsage | None = None
    timestamp: float = 0.0
    slave_id: SlaveID = SlaveID("")
    executor_id: ExecutorID = ExecutorID("")
    container_id: ContainerID = ContainerID("")


class SlaveInfo(Value, frozen=True):
    """A slave as it registers. `long_fraction` and `short_limit_s` split it between long and short tasks."""

    hostname: str
    resources: Resources
    slave_id: SlaveID = SlaveID("")
    attributes: dict[str, str] = {}
    files_address: str = ""  # host:port of its HTTP file server
    boot_id: str = ""
    isolation: str = "noop"
    long_fraction: float = 0.5
    short_limit_s: float = 60.0
    facts: dict[str, str] = {}  # fingerprint: kernel, cgroup mode, numa, python, version
    minimum_offer: Resources | None = None  # not offered while less is free; None: as the master says
    max_kill_grace_s: float = 30.0  # longer graces are cut to it
    default_user: str = ""  # who runs what names no user


class RunningTask(Value, frozen=True):
    """A task that a re-registering slave still has: what a master needs to count it again."""

    framework_id: FrameworkID
    executor_id: ExecutorID
    task_id: TaskID
    resources: Resources
    state: TaskState
    time_limit_s: float | None = None
    name: str = ""
    container_id: ContainerID = ContainerID("")
    kill_grace_s: float | None = None


class RunningExecutor(Value, frozen=True):
    """An executor that a re-registering slave still has. Its framework's `user` is who runs it, never empty."""

    framework: FrameworkInfo
    executor_id: ExecutorID
    container_id: ContainerID
    resources: Resources = NOTHING


class Filters(Value, frozen=True):
    """What a framework never wants to be offered; evaluated at the master (paper, section 3.5). Empty = no filter."""

    slave_ids: list[SlaveID] = []  # only these
    minimum: Resources = NOTHING  # only slaves with at least this free
    attributes: dict[str, str] = {}  # only slaves with exactly these
    attributes_exist: list[str] = []  # only slaves that have all of these, whatever their values
    attributes_match: dict[str, str] = {}  # only slaves whose values match these patterns: *, ?, [ab], [!ab]


UpdateID = tuple[TaskID, int]
"""Which status is acknowledged: task id and sequence."""

# -- Scheduler -> master ------------------------------------------------------------------------------------------------


class RegisterFramework(Message, frozen=True):
    """Hello. With a framework id: take over from the scheduler that had it, or with `stands_by`, take over when that is gone.
    `was_active`: the last master that answered us had us as the active one. `called_lost`: tasks that ended for us on the word
    of a master alone; where a slave has one of them all the same, it must not be taken for running.
    """

    framework: FrameworkInfo
    protocol: int = PROTOCOL
    epoch: int = 0  # of the newest leader that this scheduler has heard
    stands_by: bool = False
    was_active: bool = False
    scheduler_id: str = ""  # of this one process' scheduler, to know it again behind another connection
    called_lost: list[TaskID] = []


class AcceptOffers(Message, frozen=True):
    """Run these tasks on these offers (all of one slave). What they leave is free; it is not offered to this framework
    again for `refuse_seconds`. An empty list of tasks declines.
    """

    offer_ids: list[OfferID]
    tasks: list[TaskInfo]
    refuse_seconds: float = 0.0


class DeclineOffers(Message, frozen=True):
    offer_ids: list[OfferID]
    refuse_seconds: float = 5.0


class SetNeedsOffers(Message, frozen=True):
    needs_offers: bool


class SetFilters(Message, frozen=True):
    filters: Filters


class ReviveOffers(Message, frozen=True):
    """Forget all refusals of this framework."""


class KillTask(Message, frozen=True):
    """Also master -> slave -> executor. An empty slave id lets the master look for it."""

    framework_id: FrameworkID
    task_id: TaskID
    slave_id: SlaveID = SlaveID("")
    grace_s: float | None = None
    reason: str = ""  # of the status; empty: KILLED_BY_FRAMEWORK


class Acknowledge(Message, frozen=True):
    """The scheduler's code has seen these statuses. The master passes it on to the slave as it is."""

    framework_id: FrameworkID
    slave_id: SlaveID
    updates: list[UpdateID]


class ReconcileTasks(Message, frozen=True):
    """Send me the state of these tasks; of all that are not ended if the list is empty."""

    task_ids: list[TaskID]


class FrameworkMessage(Message, frozen=True):
    """Bytes between a scheduler and one of its executors, both ways, best effort."""

    framework_id: FrameworkID
    slave_id: SlaveID
    executor_id: ExecutorID
    data: bytes


class GetGuaranteedShare(Message, frozen=True):
    """Answered by `GuaranteedShare`."""


class TeardownFramework(Message, frozen=True):
    """Done: kill what still runs and forget me."""


class FailOver(Message, frozen=True):
    """This scheduler goes, the framework stays: the next one that stands by is active, or one has the framework's fail-over
    time-out to come.
    """


# -- Master -> scheduler ------------------------------------------------------------------------------------------------


class FrameworkRegistered(Message, frozen=True):
    framework_id: FrameworkID
    master_id: str
    reregistered: bool = False
    ping_interval_s: float = 5.0
    protocol: int = PROTOCOL
    promoted: bool = False  # it stood by until now
    max_failover_s: float = (
        0.0  # longer fail-over time-outs, and those of unreachable tasks, are cut to it; 0: it does not say
    )


class FrameworkStandsBy(Message, frozen=True):
    """Another scheduler of this framework is active; you are told by `FrameworkRegistered` when you are. `ahead`: how many
    others are before you.
    """

    framework_id: FrameworkID
    master_id: str
    ahead: int = 0
    ping_interval_s: float = 5.0
    protocol: int = PROTOCOL


class ResourceOffers(Message, frozen=True):
    offers: list[Offer]


class RescindOffer(Message, frozen=True):
    offer_id: OfferID


class StatusUpdate(Message, frozen=True):
    """Also slave -> master. To be acknowledged if its sequence is above 0."""

    framework_id: FrameworkID
    status: TaskStatus


class SlaveLost(Message, frozen=True):
    slave_id: SlaveID


class ExecutorLost(Message, frozen=True):
    slave_id: SlaveID
    executor_id: ExecutorID
    exit_status: int | None = None
    message: str = ""


class GuaranteedShare(Message, frozen=True):
    resources: Resources


class RevocationNotice(Message, frozen=True):
    """Others are under their guarantee, you are above yours: give up as much as these tasks hold, in any way you like. When
    the grace is over, what is missing is taken, by killing of these.
    """

    task_ids: list[TaskID]
    grace_s: float


class FrameworkRefused(Message, frozen=True):
    """The end: this framework or this scheduler is not, or no longer, registered; `reason` is one of `Reason`."""

    reason: str
    message: str


# -- Both ways between master and its peers -----------------------------------------------------------------------------


class Ping(Message, frozen=True):
    """Are you there? Answered by `Pong`; also tells a slave or scheduler that its master is."""


class Pong(Message, frozen=True):
    pass


class NotLeading(Message, frozen=True):
    """I am a master that stands by. `leader`: who leads, as `tcp://HOST:PORT`."""

    leader: str


class NotRegistered(Message, frozen=True):
    """I do not know you (I may be new): say your hello again."""


# -- Slave -> master ----------------------------------------------------------------------------------------------------


class RegisterSlave(Message, frozen=True):
    """Hello. With a slave id: I am back, with these executors and tasks, and nothing else of mine runs."""

    slave: SlaveInfo
    executors: list[RunningExecutor] = []
    tasks: list[RunningTask] = []
    protocol: int = PROTOCOL
    epoch: int = 0  # of the newest leader that this slave has obeyed
    mode: str = "active"  # see `SetSlaveMode`
    disk_full: bool = False  # see `SlaveUsage`
    files: FilesSecret | None = None  # never part of `SlaveInfo`, which is listed


class UnregisterSlave(Message, frozen=True):
    """Going away for good, after a drain; what still ran has been reported."""


class ExecutorExited(Message, frozen=True):
    framework_id: FrameworkID
    executor_id: ExecutorID
    container_id: ContainerID
    exit_status: int | None = None
    message: str = ""


class SlaveUsage(Message, frozen=True):
    """Every few seconds, for status and as a sign of life. Millicpus are used cpu time per wall time. `disk_full`: there is no
    room in its work directory, or it cannot be written; such a slave is offered to nobody, and its tasks run on.
    """

    millicpus: int
    mem_bytes: int
    tasks_running: int = 0
    draining: bool = False
    disk_full: bool = False


# -- Master -> slave ----------------------------------------------------------------------------------------------------


class SlaveRegistered(Message, frozen=True):
    slave_id: SlaveID
    master_id: str
    ping_interval_s: float = 5.0
    protocol: int = PROTOCOL


class SlaveRefused(Message, frozen=True):
    reason: str
    message: str


class RunTasks(Message, frozen=True):
    """Launch these on this executor; start it if it does not run."""

    framework: FrameworkInfo
    executor: ExecutorInfo
    tasks: list[TaskInfo]


class SetSlaveMode(Message, frozen=True):
    """An operator's wish, which the slave writes down and tells every master. `mode`: active | deactivated (is offered to
    nobody, its tasks run on) | draining (ends its tasks politely, and goes). `grace_s`: how long these have for their end.
    """

    mode: str
    grace_s: float | None = None


class ShutdownFramework(Message, frozen=True):
    """End every executor and task of this framework on this slave, or only those that run as `user`. `grace_s`: how long they
    have; None: as long as they say themselves. `reason` is that of the statuses; empty: FRAMEWORK_REMOVED.
    """

    framework_id: FrameworkID
    grace_s: float | None = None
    user: str | None = None
    reason: str = ""


# -- Executor <-> slave -------------------------------------------------------------------------------------------------


class RegisterExecutor(Message, frozen=True):
    """Hello; the token proves which container speaks. After a slave's restart: with what it may not have seen."""

    container_id: ContainerID
    token: str
    unacknowledged: list[TaskStatus] = []
    task_ids: list[TaskID] = []
    protocol: int = PROTOCOL
    places_tasks: bool = False  # it puts each task's processes into the task's cgroup (`offerd.task_cgroups`)


class ExecutorRegistered(Message, frozen=True):
    framework: FrameworkInfo
    executor: ExecutorInfo
    slave_id: SlaveID
    hostname: str
    sandbox: str
    protocol: int = PROTOCOL


class LaunchTask(Message, frozen=True):
    task: TaskInfo


class ExecutorUpdate(Message, frozen=True):
    """A status from an executor, numbered through within its container: 1, 2, 3, ..."""

    number: int
    status: TaskStatus


class UpdatesStored(Message, frozen=True):
    """All updates of this container up to this number are safe with the slave."""

    number: int


class Shutdown(Message, frozen=True):
    """End your tasks, then yourself."""

    grace_s: float = 5.0


# -- Operators (CLI, web) <-> master: `offerd.operator_messages` ---------------------------------------------------------
