"""The protocol between schedulers, master, slaves and executors. Who may send what to whom: the unions in `offerd.wire.codec`.

    scheduler --DEALER--> master <--DEALER-- slave <--path socket-- executor

Every message is a frozen msgspec struct, travels as a MessagePack array `[name, field, field, ...]` in a frame, and is handled
by the method of the same name in snake case. Beside these: `operator_messages`, `files_messages`, `recording_messages`.

Between versions a field may be **added at the end, with a default**: readers ignore those that they do not know and
fill in missing ones. None is renamed, moved or removed (a test holds the wire to that). A frame with an unknown message
is a `BadMessage`, as is one beyond the bounds that every number, text and list has (`offerd.wire.bounds`, another
test): masters hang up on who sends one, others pass the frame over. So a new message goes to nobody who may be older
and would miss the rest of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from offerd.files_access import NO_ACCESS, FilesAccess, FilesSecret
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.resources import NOTHING, Resources
from offerd.states import Reason as Reason
from offerd.states import TaskState as TaskState
from offerd.wire.bounds import (
    A_QUESTION,
    FEW,
    MANY,
    Amount,
    Argument,
    ArgumentLists,
    Arguments,
    Count,
    Data,
    Environment,
    Epoch,
    ExitStatus,
    Interval,
    Labels,
    Name,
    Permissions,
    Protocol,
    Quantities,
    Seconds,
    Text,
    WallClock,
    WishedFraction,
    WishedSeconds,
)  # fmt: skip
from offerd.wire.structs import Description
from offerd.wire.structs import Message as Message
from offerd.wire.structs import Value as Value

PROTOCOL = OLDEST_PROTOCOL = 1
"""Version of this page. Readers accept any hello with `protocol >= OLDEST_PROTOCOL`."""

# -- Values carried by messages -----------------------------------------------------------------------------------------


class CommandInfo(Description, frozen=True):
    """A program: `argv`, or one line for `/bin/sh -c`; `environment` is added to the slave's small clean one. It begins in
    `directory` (default, and where a relative one begins: its task's own), with this `umask` (None: 0o022). `series`:
    argument vectors of programs to run after it, in the same task (`offerd/tasks/series.py`). Words: `wire/posix_text.py`.
    """

    argv: Arguments = []
    shell: Argument = ""
    environment: Environment = {}
    series: ArgumentLists = []
    series_s: Seconds = 0.0
    directory: Argument = ""
    umask: Permissions | None = None


class ExecutorInfo(Description, frozen=True):
    """What runs a framework's tasks on a slave: a Python `module` with a `main()` (forked, fast), or a `command`.

    `resources` are its own, held while it lives, on top of its tasks'. One executor of an id runs per framework and slave.
    """

    executor_id: ExecutorID
    module: Name = ""
    command: CommandInfo | None = None
    resources: Resources = NOTHING
    name: Name = ""
    data: Data = b""
    shutdown_grace_s: WishedSeconds = 5.0
    image: Name = ""  # of the container it runs in, where the slave runs images; "" = the slave's default
    pull: Name = ""  # never, if-absent or always; "" = as the slave says

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, executor_id: str, module: str = "", command: CommandInfo | None = None, resources: Resources = NOTHING,
            name: str = "", data: bytes = b"", shutdown_grace_s: float = 5.0, image: str = "", pull: str = "",
        ) -> None: ...  # fmt: skip


class FrameworkInfo(Description, frozen=True):
    """Who asks for resources. `user` runs the executors; "": the account that asks, where its key allows that, else the first
    that it allows, else whom the slave says. `role` is what shares are counted by. `account`: who started the scheduler.

    `unreachable_timeout_s`: how long tasks of a lost slave are `UNREACHABLE`, and go on if it comes back, before they are
    `LOST`; at zero they are so at once, and are ended should the slave come back.
    """

    name: Name
    framework_id: FrameworkID = FrameworkID("")
    user: Name = ""
    role: Name = "*"
    executors: Annotated[list[ExecutorInfo], FEW] = []
    failover_timeout_s: WishedSeconds = 0.0
    hostname: Name = ""
    labels: Labels = {}
    unreachable_timeout_s: WishedSeconds = 0.0
    account: Name = ""

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, name: str, framework_id: str = "", user: str = "", role: str = "*", executors: list[ExecutorInfo] = [],  # noqa: B006
            failover_timeout_s: float = 0.0, hostname: str = "", labels: dict[str, str] = {},  # noqa: B006
            unreachable_timeout_s: float = 0.0, account: str = "",
        ) -> None: ...  # fmt: skip


class TaskInfo(Description, frozen=True):
    """One task. `time_limit_s=None` makes it long; a limit is counted from its delivery to the executor and enforced by
    killing. `kill_grace_s`: from TERM to KILL, as far as the slave allows it; it is part of the limit when long and short are
    told apart. `data` is the executor's business; the master never keeps it.
    """

    task_id: TaskID
    resources: Resources
    executor_id: ExecutorID
    command: CommandInfo | None = None
    data: Data = b""
    time_limit_s: WishedSeconds | None = None
    kill_grace_s: WishedSeconds | None = None
    name: Name = ""
    labels: Labels = {}

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, task_id: str, resources: Resources, executor_id: str, command: CommandInfo | None = None, data: bytes = b"",
            time_limit_s: float | None = None, kill_grace_s: float | None = None, name: str = "", labels: dict[str, str] = {},  # noqa: B006
        ) -> None: ...  # fmt: skip


class Offer(Value, frozen=True):
    """Free resources of one slave. Tasks that are long there (no limit, or one above `short_limit_s`) may together take at
    most `long_quantities` of it (per name: millicpus, bytes, number of ports); short ones all of it.
    """

    offer_id: OfferID
    slave_id: SlaveID
    hostname: Name
    resources: Resources
    long_quantities: Quantities = {}
    short_limit_s: Seconds = 0.0
    attributes: Labels = {}
    executor_ids: Annotated[list[ExecutorID], MANY] = []
    files_address: Name = ""
    files: FilesAccess = NO_ACCESS  # to what the framework's owner has on this slave


class TaskUsage(Value, frozen=True):
    """What a task used, as far as its isolation can tell."""

    cpu_s: Seconds = 0.0
    peak_mem_bytes: Amount = 0


class TaskOutput(Value, frozen=True):
    """How many bytes a task has written to each stream, whether they have been kept or not: who reads its output compares."""

    stdout_bytes: Count = 0
    stderr_bytes: Count = 0


class TaskStatus(Value, frozen=True):
    """A task's state and why. Identified by `(task_id, sequence)`: sequences rise within a task, so that a status
    repeated or overtaken is known for what it is. `timestamp` (wall clock) is for display only.
    """

    task_id: TaskID
    state: TaskState
    sequence: Count = 0
    reason: Name = ""
    source: Name = ""  # executor | slave | master | driver
    message: Text = ""
    data: Data = b""
    exit_status: ExitStatus | None = None  # exit code, or minus the signal
    limit: Name = ""  # the limit that was hit, as "time_limit_s=2"
    usage: TaskUsage | None = None
    timestamp: WallClock = 0.0
    slave_id: SlaveID = SlaveID("")
    executor_id: ExecutorID = ExecutorID("")
    container_id: ContainerID = ContainerID("")
    output: TaskOutput | None = None  # of one that has ended; None where nobody counted


class SlaveInfo(Value, frozen=True):
    """A slave as it registers. `long_fraction` and `short_limit_s` split it between long and short tasks."""

    hostname: Name
    resources: Resources
    slave_id: SlaveID = SlaveID("")
    attributes: Labels = {}
    files_address: Name = ""  # host:port of its HTTP file server
    boot_id: Name = ""
    isolation: Name = "noop"
    long_fraction: WishedFraction = 0.5
    short_limit_s: WishedSeconds = 60.0
    facts: Labels = {}  # fingerprint: kernel, cgroup mode, numa, python, version
    minimum_offer: Resources | None = None  # not offered while less is free; None: as the master says
    max_kill_grace_s: WishedSeconds = 30.0  # longer graces are cut to it
    default_user: Name = ""  # who runs what names no user


class RunningTask(Value, frozen=True):
    """A task that a re-registering slave still has; how long ago it was launched, and first ran (None: it does not yet)."""

    framework_id: FrameworkID
    executor_id: ExecutorID
    task_id: TaskID
    resources: Resources
    state: TaskState
    time_limit_s: WishedSeconds | None = None
    name: Name = ""
    container_id: ContainerID = ContainerID("")
    kill_grace_s: WishedSeconds | None = None
    launched_s: Seconds = 0.0
    ran_s: Seconds | None = None


class RunningExecutor(Value, frozen=True):
    """An executor that a re-registering slave still has. Its framework's `user` is who runs it, never empty."""

    framework: FrameworkInfo
    executor_id: ExecutorID
    container_id: ContainerID
    resources: Resources = NOTHING


class Filters(Description, frozen=True):
    """What a framework never wants to be offered; evaluated at the master (paper, section 3.5). Empty = no filter."""

    slave_ids: Annotated[list[SlaveID], MANY] = []  # only these
    minimum: Resources = NOTHING  # only slaves with at least this free
    attributes: Annotated[dict[Name, Name], FEW] = {}  # only slaves with exactly these
    attributes_exist: Annotated[list[Name], FEW] = []  # only slaves that have all of these
    attributes_match: Annotated[dict[Name, Name], FEW] = {}  # only values of such patterns: r1*, [ab]?

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, slave_ids: Sequence[str] = (), minimum: Resources = NOTHING, attributes: dict[str, str] = {},  # noqa: B006
            attributes_exist: Sequence[str] = (), attributes_match: dict[str, str] = {},  # noqa: B006
        ) -> None: ...  # fmt: skip


UpdateID = tuple[TaskID, Count]
"""Which status is acknowledged: task id and sequence."""

# -- Scheduler -> master ------------------------------------------------------------------------------------------------


class RegisterFramework(Message, frozen=True):
    """Hello. With a framework id: take over from the scheduler that had it, or with `stands_by`, take over when that is gone.
    `was_active`: the last master that answered us had us as the active one. `called_lost`: tasks that ended for us on the word
    of a master alone; where a slave has one of them all the same, it must not be taken for running. `needs_offers` and
    `filters`: what `SetNeedsOffers` and `SetFilters` say later, for the very first offers.
    """

    framework: FrameworkInfo
    protocol: Protocol = PROTOCOL
    epoch: Epoch = 0  # of the newest leader that this scheduler has heard
    stands_by: bool = False
    was_active: bool = False
    scheduler_id: Name = ""  # of this one process' scheduler, to know it again behind another connection
    called_lost: Annotated[list[TaskID], MANY] = []
    needs_offers: bool = True
    filters: Filters = Filters()
    since_s: Seconds = 0.0  # ago it was first registered, with whatever master


class AcceptOffers(Message, frozen=True):
    """Run these tasks on these offers (all of one slave). What they leave is free; it is not offered to this framework
    again for `refuse_seconds`. An empty list of tasks declines.
    """

    offer_ids: Annotated[list[OfferID], MANY]
    tasks: Annotated[list[TaskInfo], MANY]
    refuse_seconds: WishedSeconds = 0.0


class DeclineOffers(Message, frozen=True):
    offer_ids: Annotated[list[OfferID], MANY]
    refuse_seconds: WishedSeconds = 5.0


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
    grace_s: WishedSeconds | None = None
    reason: Name = ""  # of the status; empty: KILLED_BY_FRAMEWORK


class Acknowledge(Message, frozen=True):
    """The scheduler's code has seen these statuses. The master passes it on to the slave as it is."""

    framework_id: FrameworkID
    slave_id: SlaveID
    updates: Annotated[list[UpdateID], MANY]


class ReconcileTasks(Message, frozen=True):
    """Send me the state of these tasks; of all that are not ended if the list is empty."""

    task_ids: Annotated[list[TaskID], A_QUESTION]


class FrameworkMessage(Message, frozen=True):
    """Bytes between a scheduler and one of its executors, both ways, best effort."""

    framework_id: FrameworkID
    slave_id: SlaveID
    executor_id: ExecutorID
    data: Data


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
    master_id: Name
    reregistered: bool = False
    ping_interval_s: Interval = 5.0
    protocol: Protocol = PROTOCOL
    promoted: bool = False  # it stood by until now
    max_failover_s: Seconds = 0.0  # longer time-outs of the framework's are cut to it; 0: it does not say
    heeds_wishes: bool = False  # it has taken `needs_offers` and `filters` from the hello
    since_s: Seconds = 0.0  # ago the framework was first registered


class FrameworkStandsBy(Message, frozen=True):
    """Another scheduler of this framework is active; you are told by `FrameworkRegistered` when you are. `ahead`: how many
    others are before you.
    """

    framework_id: FrameworkID
    master_id: Name
    ahead: Count = 0
    ping_interval_s: Interval = 5.0
    protocol: Protocol = PROTOCOL
    since_s: Seconds = 0.0  # as in `FrameworkRegistered`


class ResourceOffers(Message, frozen=True):
    offers: Annotated[list[Offer], MANY]


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
    exit_status: ExitStatus | None = None
    message: Text = ""


class GuaranteedShare(Message, frozen=True):
    resources: Resources


class RevocationNotice(Message, frozen=True):
    """Others are under their guarantee, you are above yours: give up as much as these tasks hold, in any way you like. When
    the grace is over, what is missing is taken, by killing of these.
    """

    task_ids: Annotated[list[TaskID], MANY]
    grace_s: Seconds


class FrameworkRefused(Message, frozen=True):
    """The end: this framework or this scheduler is not, or no longer, registered; `reason` is one of `Reason`."""

    reason: Name
    message: Text


# -- Both ways between master and its peers -----------------------------------------------------------------------------


class Ping(Message, frozen=True):
    """Are you there? Answered by `Pong`; also tells a slave or scheduler that its master is."""


class Pong(Message, frozen=True):
    pass


class NotLeading(Message, frozen=True):
    """I am a master that stands by. `leader`: who leads, as `tcp://HOST:PORT`."""

    leader: Name


class Dropped(Message, frozen=True):
    """I hear you no more, as you have sent what nobody may: `why`. A moment later the connection ends."""

    why: Text


class NotRegistered(Message, frozen=True):
    """I do not know you (I may be new): say your hello again."""


# -- Slave -> master ----------------------------------------------------------------------------------------------------


class RegisterSlave(Message, frozen=True):
    """Hello. With a slave id: I am back, with these executors and tasks, and nothing else of mine runs."""

    slave: SlaveInfo
    executors: Annotated[list[RunningExecutor], MANY] = []
    tasks: Annotated[list[RunningTask], MANY] = []
    protocol: Protocol = PROTOCOL
    epoch: Epoch = 0  # of the newest leader that this slave has obeyed
    mode: Name = "active"  # see `SetSlaveMode`
    disk_full: bool = False  # see `SlaveUsage`
    files: FilesSecret | None = None  # never part of `SlaveInfo`, which is listed
    since_s: Seconds = 0.0  # ago it first registered since its start, with whatever master
    memory_note: Name = ""  # why memory is not limited: the message of tasks that run and ask for some


class UnregisterSlave(Message, frozen=True):
    """Going away for good; what still ran has been ended and reported."""


class ExecutorExited(Message, frozen=True):
    framework_id: FrameworkID
    executor_id: ExecutorID
    container_id: ContainerID
    exit_status: ExitStatus | None = None
    message: Text = ""


class SlaveUsage(Message, frozen=True):
    """Every few seconds, for status and as a sign of life. Millicpus are used cpu time per wall time. `disk_full`: there is no
    room in its work directory, or it cannot be written: it is offered to nobody. `mode`: of `SetSlaveMode`, or "".
    """

    millicpus: Amount
    mem_bytes: Amount
    tasks_running: Count = 0
    draining: bool = False
    disk_full: bool = False
    mode: Name = ""


# -- Master -> slave ----------------------------------------------------------------------------------------------------


class SlaveRegistered(Message, frozen=True):
    slave_id: SlaveID
    master_id: Name
    ping_interval_s: Interval = 5.0
    protocol: Protocol = PROTOCOL


class SlaveRefused(Message, frozen=True):
    reason: Name
    message: Text
    grace_s: Seconds | None = None  # of its tasks, which it ends where its key was revoked


class RunTasks(Message, frozen=True):
    """Launch these on this executor; start it if it does not run."""

    framework: FrameworkInfo
    executor: ExecutorInfo
    tasks: Annotated[list[TaskInfo], MANY]


class SetSlaveMode(Message, frozen=True):
    """An operator's wish, which the slave writes down and tells every master. `mode`: active | deactivated (is offered to
    nobody) | draining (takes nothing new; once nothing runs it says `drained`). `deadline_s`: what runs on a draining
    slave is ended so much later, in `grace_s`; None: as was said before, or never.
    """

    mode: Name
    grace_s: WishedSeconds | None = None
    deadline_s: WishedSeconds | None = None


class ShutdownFramework(Message, frozen=True):
    """End every executor and task of this framework on this slave, or only those that run as `user`. `grace_s`: how long they
    have; None: as long as they say themselves. `reason` is that of the statuses; empty: FRAMEWORK_REMOVED.
    """

    framework_id: FrameworkID
    grace_s: WishedSeconds | None = None
    user: Name | None = None
    reason: Name = ""


# -- Executor <-> slave -------------------------------------------------------------------------------------------------


class RegisterExecutor(Message, frozen=True):
    """Hello; the token proves which container speaks. After a slave's restart: with what it may not have seen."""

    container_id: ContainerID
    token: Name
    unacknowledged: Annotated[list[TaskStatus], MANY] = []
    task_ids: Annotated[list[TaskID], MANY] = []
    protocol: Protocol = PROTOCOL
    places_tasks: bool = False  # it moves each task into its cgroup (`tasks/task_cgroups.py`)


class ExecutorRegistered(Message, frozen=True):
    framework: FrameworkInfo
    executor: ExecutorInfo
    slave_id: SlaveID
    hostname: Name
    sandbox: Argument
    protocol: Protocol = PROTOCOL


class LaunchTask(Message, frozen=True):
    task: TaskInfo


class ExecutorUpdate(Message, frozen=True):
    """A status from an executor, numbered through within its container: 1, 2, 3, ..."""

    number: Count
    status: TaskStatus


class UpdatesStored(Message, frozen=True):
    """All updates of this container up to this number are safe with the slave."""

    number: Count


class Shutdown(Message, frozen=True):
    """End your tasks, then yourself."""

    grace_s: Seconds = 5.0


# -- Operators (CLI, web) <-> master: `offerd.operator_messages` ---------------------------------------------------------
