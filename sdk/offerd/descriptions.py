"""What frameworks, tasks, offers and slaves are described by: the structs that messages carry and authors of frameworks use.

The first part is what authors write: `FrameworkInfo`, `ExecutorInfo`, `CommandInfo`, `TaskInfo`, `Filters`. A field of
the wrong type raises `WrongType` when the struct is made. The second part is what they read: `Offer`, `TaskStatus` and
what these hold. The third is what slaves say of themselves. All structs are frozen:
`msgspec.structs.replace(task, name="other")` makes a changed copy.

A number, text or list beyond its bound (`offerd.values.bounds`) raises `BadInput` when it is sent. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from offerd.fields.structs import Description, Value
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.resources import NOTHING, Resources
from offerd.states import TaskState
from offerd.values.bounds import (
    FEW,
    MANY,
    Amount,
    Argument,
    ArgumentLists,
    Arguments,
    Count,
    Data,
    Environment,
    ExitStatus,
    Labels,
    Name,
    Permissions,
    Quantities,
    Seconds,
    Text,
    WallClock,
    WishedFraction,
    WishedSeconds,
)

# -- What authors of frameworks write -----------------------------------------------------------------------------------


class CommandInfo(Description, frozen=True):
    """A program to run: `argv`, or `shell`. Its words may hold any byte but zero, as `os.fsdecode` gives them."""

    argv: Arguments = []
    """The program and its arguments, without a shell. A name without a slash is looked for in `PATH`."""
    shell: Argument = ""
    """Instead of `argv`: a line for `/bin/sh -c`."""
    environment: Environment = {}
    """Variables to add to the environment, which is small and the same on every slave."""
    series: ArgumentLists = []
    """Argument vectors of more programs, which run one after another in the same task. For many short programs."""
    series_s: Seconds = 0.0
    """Once the first program was started this many seconds ago, no more of `series` are started."""
    directory: Argument = ""
    """Where the program begins. A relative path begins in the task's own directory, which is the default."""
    umask: Permissions | None = None
    """The program's umask; None is 0o022."""


class ExecutorInfo(Description, frozen=True):
    """What runs a framework's tasks on a slave: a Python `module` or a `command`.

    A slave starts the executor with the first task that names it. It ends with its framework, or when the
    slave is drained. At most one executor of each id runs per framework and slave; all tasks that name it are sent to that one.
    """

    executor_id: ExecutorID
    """The framework's name for it, by which tasks refer to it: 1 to 128 letters, digits and `_.:@=+-`."""
    module: Name = ""
    """A Python module with a `main()`, as `offerd_executors.command`. The slave forks it from a warm process: quick."""
    command: CommandInfo | None = None
    """Instead of `module`: a program that is an executor (it runs an `ExecutorDriver`)."""
    resources: Resources = NOTHING
    """What the executor itself needs. It holds this as long as it runs, in addition to what its tasks hold."""
    name: Name = ""
    """For people, in listings."""
    data: Data = b""
    """Bytes for the executor: it finds them in the `ExecutorInfo` that `Executor.registered` is given."""
    shutdown_grace_s: WishedSeconds = 5.0
    """How long its tasks have between TERM and KILL when the executor is ended. The slave's `--max-kill-grace` bounds it."""
    image: Name = ""
    """The container image to run in, on slaves with `--isolation docker`. Empty: the slave's own."""
    pull: Name = ""
    """When to pull the image: `never`, `if-absent` or `always`. Empty: as the slave's option says."""

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, executor_id: str, module: str = "", command: CommandInfo | None = None, resources: Resources = NOTHING,
            name: str = "", data: bytes = b"", shutdown_grace_s: float = 5.0, image: str = "", pull: str = "",
        ) -> None: ...  # fmt: skip


class FrameworkInfo(Description, frozen=True):
    """A framework, as its scheduler registers it."""

    name: Name
    """For people, in listings and logs; the master's configuration can give weights and guarantees to it."""
    framework_id: FrameworkID = FrameworkID("")
    """Empty for a new framework: the master makes an id. With the id of one that exists, the scheduler takes that over."""
    user: Name = ""
    """The account that executors run as. Empty: the account that runs the scheduler, where its key allows that; else the
    first one that the key allows; else the slave's default.
    """
    role: Name = "*"
    """Whom its share is counted for: weights, guarantees and limits belong to roles. A path, as `science/physics`."""
    executors: Annotated[list[ExecutorInfo], FEW] = []
    """The executors that its tasks may name, 256 at most."""
    failover_timeout_s: WishedSeconds = 0.0
    """How long its tasks go on without a scheduler. After that the framework ends, and its tasks are killed. The master
    waits at least 15 s, and at most its `--max-failover-timeout`.
    """
    hostname: Name = ""
    """The scheduler's host, for listings."""
    labels: Labels = {}
    """Free text by name, for executors; offerd only passes it on."""
    unreachable_timeout_s: WishedSeconds = 0.0
    """How long tasks of a lost slave are `UNREACHABLE` before they are `LOST`. If the slave comes back in that time, they
    go on. At zero they are `LOST` at once, and are killed should the slave come back. `--max-failover-timeout` bounds it.
    """
    account: Name = ""
    """The account that runs the scheduler; the driver fills it in."""

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, name: str, framework_id: str = "", user: str = "", role: str = "*", executors: list[ExecutorInfo] = [],  # noqa: B006
            failover_timeout_s: float = 0.0, hostname: str = "", labels: dict[str, str] = {},  # noqa: B006
            unreachable_timeout_s: float = 0.0, account: str = "",
        ) -> None: ...  # fmt: skip


class TaskInfo(Description, frozen=True):
    """One task: what to run, on how much, for how long."""

    task_id: TaskID
    """The framework's name for it: 1 to 128 letters, digits and `_.:@=+-`. No task that has not ended may have the same."""
    resources: Resources
    """What the task holds until it ends; the isolation module turns them into limits. Never empty."""
    executor_id: ExecutorID
    """Which of the framework's executors runs it."""
    command: CommandInfo | None = None
    """The program, for the executor `offerd_executors.command`."""
    data: Data = b""
    """Bytes for the executor, 1 MiB at most and less with what goes beside them in a message. The master keeps none."""
    time_limit_s: WishedSeconds | None = None
    """It is killed this many seconds after it was handed to its executor (`TASK_TIMEOUT`). None: no limit. A task without
    a limit, or with one above the slave's short limit, is a *long task*.
    """
    kill_grace_s: WishedSeconds | None = None
    """Seconds between TERM and KILL. None: the slave's default. The slave's `--max-kill-grace` bounds it. It counts as part
    of the time limit where that decides whether the task is long.
    """
    name: Name = ""
    """For people, in listings."""
    labels: Labels = {}
    """Free text by name, for the executor. Names that begin with `offerd.` are instructions to offerd itself, as
    `offerd.keep_output`.
    """

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, task_id: str, resources: Resources, executor_id: str, command: CommandInfo | None = None, data: bytes = b"",
            time_limit_s: float | None = None, kill_grace_s: float | None = None, name: str = "", labels: dict[str, str] = {},  # noqa: B006
        ) -> None: ...  # fmt: skip


class Filters(Description, frozen=True):
    """Which offers a framework wants; the master makes it no others (Mesos, NSDI 2011, section 3.5). An empty field excludes
    nothing, and a slave has to pass all of them.
    """

    slave_ids: Annotated[list[SlaveID], MANY] = []
    """Only these slaves."""
    minimum: Resources = NOTHING
    """Only slaves on which at least this much is free."""
    attributes: Annotated[dict[Name, Name], FEW] = {}
    """Only slaves whose attributes of these names have exactly these values."""
    attributes_exist: Annotated[list[Name], FEW] = []
    """Only slaves that have attributes of all these names, whatever their values."""
    attributes_match: Annotated[dict[Name, Name], FEW] = {}
    """Only slaves whose attributes of these names match these shell patterns, as `r1*` or `[ab]?`. 64 at most, of 256
    characters at most.
    """

    if TYPE_CHECKING:  # as it is: an id may be any string

        def __init__(
            self, slave_ids: Sequence[str] = (), minimum: Resources = NOTHING, attributes: dict[str, str] = {},  # noqa: B006
            attributes_exist: Sequence[str] = (), attributes_match: dict[str, str] = {},  # noqa: B006
        ) -> None: ...  # fmt: skip


# -- What they read -----------------------------------------------------------------------------------------------------


class Offer(Value, frozen=True):
    """Free resources of one slave, offered to one framework until it answers or the master rescinds the offer."""

    offer_id: OfferID
    """The master's name for it, for `reply_to_offer` and `decline_offer`."""
    slave_id: SlaveID
    """The slave whose resources these are."""
    hostname: Name
    """That slave's host."""
    resources: Resources
    """What is offered. Short tasks may take all of it."""
    long_quantities: Quantities = {}
    """How much of it long tasks may take together, by resource: millicpus, bytes, number of ports."""
    short_limit_s: Seconds = 0.0
    """The longest time limit, grace included, of a task that is still short on this slave."""
    attributes: Labels = {}
    """The slave's attributes, as its operator gave them: rack, kind of disk."""
    executor_ids: Annotated[list[ExecutorID], MANY] = []
    """Your executors that run on the slave already. Tasks for these need no resources for the executor itself."""
    files_address: Name = ""
    """`HOST:PORT` of the slave's file server."""
    files: FilesAccess = NO_ACCESS
    """Access to the files of the framework's owner on this slave, for `FilesClient`."""


class TaskUsage(Value, frozen=True):
    """What a task has used. Zero where the isolation module does not measure it."""

    cpu_s: Seconds = 0.0
    """CPU time, user and system, of all its processes."""
    peak_mem_bytes: Amount = 0
    """The most memory it held at one time."""


class TaskOutput(Value, frozen=True):
    """How many bytes a task has written, whether or not they were kept. A reader of its files sees by it if any are missing."""

    stdout_bytes: Count = 0
    """Bytes written to stdout."""
    stderr_bytes: Count = 0
    """Bytes written to stderr."""


class TaskStatus(Value, frozen=True):
    """The report of a task's state, and why it is in it."""

    task_id: TaskID
    """The task that this is about."""
    state: TaskState
    """Its state; no other follows one that is `terminal`."""
    sequence: Count = 0
    """Rises with each status of a task, so that a repeated one is known. 0: a report that is sent once and not acknowledged."""
    reason: Name = ""
    """One of `Reason`, for programs. Empty for a state that needs none."""
    source: Name = ""
    """Who reports it: `executor`, `slave`, `master` or `driver`."""
    message: Text = ""
    """What happened, in a line for people."""
    data: Data = b""
    """Bytes from the executor, as the result of a call."""
    exit_status: ExitStatus | None = None
    """Exit code of the task's program, or the signal that ended it as a negative number. None where there was no program."""
    limit: Name = ""
    """The limit that the task has hit, as `time_limit_s=2`."""
    usage: TaskUsage | None = None
    """What it has used; None while it runs, or where nobody measured."""
    timestamp: WallClock = 0.0
    """When its executor reported it: seconds of the Unix clock there. For display alone, as hosts' clocks differ."""
    slave_id: SlaveID = SlaveID("")
    """The slave that the task is or was on."""
    executor_id: ExecutorID = ExecutorID("")
    """The executor that has or had it."""
    container_id: ContainerID = ContainerID("")
    """The container it is or was in, for `FilesClient`."""
    output: TaskOutput | None = None
    """How much it has written, in its last status. None where nobody counted."""


# -- What slaves say of themselves --------------------------------------------------------------------------------------


class SlaveInfo(Value, frozen=True):
    """A slave, as it registers with a master and as `offerd slaves` lists it."""

    hostname: Name
    """Its host's name, or what its operator called it."""
    resources: Resources
    """All that it has to offer."""
    slave_id: SlaveID = SlaveID("")
    """Its id; empty at its first registration, as the master makes it."""
    attributes: Labels = {}
    """What its operator says of it, for the filters of frameworks. `images=yes` where it runs container images."""
    files_address: Name = ""
    """`HOST:PORT` of its file server, which speaks HTTP."""
    boot_id: Name = ""
    """The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`)."""
    isolation: Name = "noop"
    """Its isolation module: `cgroups`, `docker`, `noop` or a plugin's name."""
    long_fraction: WishedFraction = 0.5
    """The part of each resource that long tasks may hold together, 0 to 1."""
    short_limit_s: WishedSeconds = 60.0
    """A task with a time limit of at most this is short there."""
    facts: Labels = {}
    """What it has found out about its host: kernel, cgroup version, NUMA nodes, versions of Python and offerd."""
    minimum_offer: Resources | None = None
    """It is not offered while less than this is free. None: the master's own minimum."""
    max_kill_grace_s: WishedSeconds = 30.0
    """The longest grace between TERM and KILL there; longer ones are cut to it."""
    default_user: Name = ""
    """The account that executors of frameworks without a `user` run as."""


class RunningTask(Value, frozen=True):
    """A task that a slave has when it registers: one that runs, or whose end the slave has still to report."""

    framework_id: FrameworkID
    """Its framework."""
    executor_id: ExecutorID
    """Its executor."""
    task_id: TaskID
    """The task."""
    resources: Resources
    """What it holds."""
    state: TaskState
    """Its state; a terminal one says that its last status follows."""
    time_limit_s: WishedSeconds | None = None
    """As in `TaskInfo`."""
    name: Name = ""
    """As in `TaskInfo`."""
    container_id: ContainerID = ContainerID("")
    """The container that it is in."""
    kill_grace_s: WishedSeconds | None = None
    """As in `TaskInfo`."""
    launched_s: Seconds = 0.0
    """How long ago it was handed to its executor."""
    ran_s: Seconds | None = None
    """How long ago it first ran; None: it does not run yet."""


class RunningExecutor(Value, frozen=True):
    """An executor that a slave has when it registers."""

    framework: FrameworkInfo
    """Its framework. `user` is the account that the executor runs as, and never empty."""
    executor_id: ExecutorID
    """The executor."""
    container_id: ContainerID
    """Its container."""
    resources: Resources = NOTHING
    """What it holds beside its tasks."""
