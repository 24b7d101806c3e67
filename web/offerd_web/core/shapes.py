"""What the API answers with: one struct for each kind of JSON object. The OpenAPI document is made of these.

Resources are in usual units (`offerd.core.usual_units`). Times end in `_at` or `since`, and are Unix times in seconds;
durations end in `_s`; amounts of bytes end in `_bytes`. What is not known is null. Fields are only ever added.
"""

from __future__ import annotations

import msgspec

Resources = dict[str, float | list[list[int] | str]]
"""Scalars as numbers, ranges as `[[first, last]]`, sets as lists."""
Amounts = dict[str, float]
"""Resource name to amount; of ports how many."""


class Shape(msgspec.Struct, kw_only=True):
    """One JSON object."""


# -- The cluster --------------------------------------------------------------------------------------------------------


class Following(Shape):
    """How the gateway follows the master. While it cannot, everything else is as it was last."""

    is_following: bool
    """The master answers, and has sent everything."""
    why: str
    """Why it is not; empty if it is."""
    heard_at: float | None
    """When the master was heard last."""


class Master(Shape):
    """The leading master."""

    master_id: str
    version: str
    allocator: str
    """Its allocation module."""
    address: str
    leads_since: float


class Usage(Shape):
    """One resource of the whole cluster."""

    total: float
    held: float
    """What tasks and executors hold."""
    offered: float
    withheld: float
    """What is free on slaves that are not offered."""
    used: float | None
    """What is in use, as slaves measure it; only of `cpus` and `mem`."""


class Cluster(Shape):
    """The cluster at a glance."""

    version: int
    """Rises with each change."""
    now: float
    following: Following
    master: Master | None
    """None: none has been heard yet."""
    resources: dict[str, Usage]
    slaves: dict[str, int]
    """State to number; `silent` are those among the others that have no connection."""
    frameworks: dict[str, int]
    """State to number."""
    tasks: dict[str, int]
    """State to number: open tasks, and all that have ended."""
    wasted_resource_s: dict[str, float]
    """Resource name to amount times seconds, lost to time limits."""
    dropped_peers: int
    refused: int
    failed_messages: int
    unsent_messages: int


# -- Slaves -------------------------------------------------------------------------------------------------------------


class Executor(Shape):
    """An executor on a slave."""

    framework_id: str
    executor_id: str
    user: str
    resources: Resources


class Offer(Shape):
    """An offer that is not answered yet."""

    offer_id: str
    framework_id: str
    framework_name: str
    slave_id: str
    hostname: str
    resources: Resources
    expires_at: float
    """When it is rescinded."""


class Slave(Shape):
    """A slave."""

    slave_id: str
    hostname: str
    state: str
    """active | deactivated | draining | drained | lost."""
    is_connected: bool
    """False: it is silent, and not lost yet."""
    is_disk_full: bool
    since: float
    """Since when it has been registered without a loss, or lost."""
    isolation: str
    attributes: dict[str, str]
    facts: dict[str, str]
    """What it says of its host."""
    total: Resources
    held: Amounts
    offered: Amounts
    free: Resources
    long_held: Amounts
    """What tasks that count as long hold."""
    long_fraction: float
    """The part of the slave that they may hold."""
    short_limit_s: float
    """Tasks with a time limit above this, or none, count as long."""
    used_cpus: float
    used_mem_bytes: int
    tasks: dict[str, int]
    """State to the number of open tasks."""
    executors: list[Executor]
    offers: list[Offer]


class Slaves(Shape):
    slaves: list[Slave]


class Offers(Shape):
    offers: list[Offer]


# -- Frameworks ---------------------------------------------------------------------------------------------------------


class Framework(Shape):
    """A framework."""

    framework_id: str
    name: str
    role: str
    user: str
    """The accounts that its executors run as; without executors, the one that it asked for."""
    hostname: str
    """Its scheduler's host."""
    state: str
    """active | disconnected | ended."""
    since: float
    ended_at: float | None
    needs_offers: bool
    """It wants offers."""
    schedulers: int
    """How many are connected: the active one and those that stand by."""
    share: float
    """The largest part that it holds of any one resource, 0 to 1; offers count."""
    guaranteed: Resources
    under_share_since: float | None
    """Since when it has been under its share. None: it is not."""
    held: Amounts
    offered: Amounts
    tasks: dict[str, int]
    """State to number: open tasks, and all that have ended."""
    wasted_resource_s: dict[str, float]
    ramp_up_s: float | None
    """From its first wish for offers to its fair share, or to all that it wanted."""
    labels: dict[str, str]


class Frameworks(Shape):
    frameworks: list[Framework]
    only_of: str
    """Only frameworks of this owner are listed; empty: all are."""


class Role(Shape):
    """A role, with what its frameworks hold together."""

    role: str
    frameworks: int
    share: float
    """The sum of its frameworks' shares."""
    held: Amounts
    tasks: int
    """Open tasks."""


class Roles(Shape):
    roles: list[Role]


class Holding(Shape):
    """What somebody holds of some slaves."""

    kind: str
    name: str
    amounts: Amounts


class Cause(Shape):
    """One thing that keeps slaves from a framework."""

    why: str
    slaves: int
    text: str
    free: Amounts
    holders: list[Holding]


class Explanation(Shape):
    """What a framework has and should have, and what keeps it from more."""

    framework_id: str
    name: str
    state: str
    needs_offers: bool
    share: float
    fair_share: float
    under_share_s: float | None
    under_guarantee_s: float | None
    needed: Amounts
    """What its filters ask for at least on a slave."""
    causes: list[Cause]


# -- Tasks --------------------------------------------------------------------------------------------------------------


class TaskOutput(Shape):
    stdout_bytes: int
    stderr_bytes: int


class TaskUsage(Shape):
    cpu_s: float
    peak_mem_bytes: int


class Task(Shape):
    """A task. Its id is unique among the open tasks of its framework, and may have been used before."""

    task_id: str
    framework_id: str
    framework_name: str
    slave_id: str
    hostname: str
    executor_id: str
    name: str
    state: str
    resources: Resources
    time_limit_s: float | None
    """None: without a limit."""
    is_long: bool | None
    """It counts against the part of the slave for long tasks. None: it has ended."""
    is_being_killed: bool
    launched_at: float
    running_since: float | None
    """When it first ran. None: it never has."""
    ended_at: float | None
    reason: str
    """Why it ended; empty if it ended by itself, or has not."""
    message: str
    exit_status: int | None
    user: str
    """Who runs it; empty: not known."""
    output: TaskOutput | None
    usage: TaskUsage | None
    """What it used in all. None: it has not ended, or its isolation could not say."""
    has_files: bool
    """It has, or had, a sandbox on its slave."""


class Tasks(Shape):
    tasks: list[Task]
    """The latest launch first."""
    next: str | None
    """Ask for the next page with this as `after`. None: this is the last one."""
    only_of: str


class Answer(Shape):
    """An order was carried out."""

    done: bool = True


class State(Shape):
    """Everything that is now, in one document."""

    cluster: Cluster
    slaves: list[Slave]
    frameworks: list[Framework]
    tasks: list[Task]
    """Open tasks."""
    only_of: str
