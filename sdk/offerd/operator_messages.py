"""The operators' part of the protocol: questions of the command line, and the master's answers.

Same rules as `offerd.messages`. A listing comes in pages, so that no answer outgrows a frame however large the cluster is.
Times are seconds before the answer, so that no two clocks are compared.
"""

from __future__ import annotations

from typing import Annotated

from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import PROTOCOL, Filters, Message, SlaveInfo, TaskOutput, TaskState, TaskUsage, Value
from offerd.protocol.key_messages import Enrol as Enrol
from offerd.protocol.key_messages import Enrolled as Enrolled
from offerd.protocol.key_messages import GetKeys as GetKeys
from offerd.protocol.key_messages import GetTokens as GetTokens
from offerd.protocol.key_messages import Keys as Keys
from offerd.protocol.key_messages import KeySummary as KeySummary
from offerd.protocol.key_messages import NewToken as NewToken
from offerd.protocol.key_messages import RevokeKey as RevokeKey
from offerd.protocol.key_messages import RevokeToken as RevokeToken
from offerd.protocol.key_messages import Rights as Rights
from offerd.protocol.key_messages import Token as Token
from offerd.protocol.key_messages import Tokens as Tokens
from offerd.protocol.key_messages import TokenSummary as TokenSummary
from offerd.resources import NOTHING, Resources
from offerd.values.bounds import (
    A_PAGE,
    FEW,
    Amount,
    Count,
    Epoch,
    ExitStatus,
    Name,
    PageSize,
    Protocol,
    Quantities,
    Quotient,
    ResourceSeconds,
    Seconds,
    Tallies,
    Text,
    WishedSeconds,
)

_MOMENTARY = frozenset({"not_yet", "refused", "wants_nothing", "offers_held_back"})

# -- Values -------------------------------------------------------------------------------------------------------------


class SlaveSummary(Value, frozen=True):
    """A slave, as listed."""

    info: SlaveInfo
    """The slave, as it registered."""
    state: Name
    """`active`, `deactivated`, `draining`, `drained` or `lost`."""
    used: Resources = NOTHING
    """What tasks and executors hold of it."""
    offered: Resources = NOTHING
    """What is offered to frameworks now."""
    free: Resources = NOTHING
    """The rest."""
    long_used: Quantities = {}
    """How much long tasks hold, by resource: millicpus, bytes, number of ports."""
    tasks: Count = 0
    """How many tasks it has."""
    executors: Count = 0
    """How many executors run there."""
    used_millicpus: Amount = 0
    """CPU time used per wall time, in thousandths of a cpu, as the slave measured it."""
    used_mem_bytes: Amount = 0
    """Memory that containers use, as the slave measured it."""
    since_s: Seconds = 0.0
    """How long ago it was registered, or lost."""
    disk_full: bool = False
    """Its disk is full: whatever its state, it is not offered."""
    files: FilesAccess = NO_ACCESS
    """The asker's access to its files."""


class FrameworkSummary(Value, frozen=True):
    """A framework, as listed."""

    framework_id: FrameworkID
    """Its id, which the master made."""
    name: Name
    """Its name, which its scheduler chose."""
    role: Name
    """Its role."""
    user: Name
    """The accounts that its executors run as; without executors, the one that it asked for."""
    state: Name
    """`active`, `disconnected` (no scheduler) or `ended`."""
    used: Resources = NOTHING
    """What its tasks and executors hold."""
    offered: Resources = NOTHING
    """What is offered to it now."""
    dominant_share: Quotient = 0.0
    """The largest part that it holds of any one resource of the cluster, 0 to 1; offers count."""
    needs_offers: bool = True
    """Whether it wants offers."""
    tasks: Tallies = {}
    """How many of its tasks are in each state, those that have ended included."""
    wasted_resource_s: ResourceSeconds = {}
    """What tasks used in vain that were killed at their time limit: amount x seconds, by resource."""
    hostname: Name = ""
    """Its scheduler's host."""
    since_s: Seconds = 0.0
    """How long ago it was first registered."""
    filters: Filters = Filters()
    """Its filters; empty if they are longer than 16 KiB."""
    schedulers: Count = 1
    """How many schedulers are connected: the active one and those that stand by."""
    guaranteed: Resources = NOTHING
    """What it may hold without losing a task."""
    under_share_s: Seconds | None = None
    """How long it has been under its fair share; None: it is not."""
    ramp_up_s: Seconds | None = None
    """How long it took from its first wish for offers to its fair share, or to all it wanted; None: not there yet."""
    completion_s: Seconds | None = None
    """How long it took from its first registration to its end; None: it has not ended."""


class TaskSummary(Value, frozen=True):
    """A task that runs or has ended, as listed."""

    task_id: TaskID
    """Its id, which its framework chose."""
    framework_id: FrameworkID
    """Its framework."""
    framework_name: Name
    """Its framework's name."""
    slave_id: SlaveID
    """Where it runs or ran."""
    hostname: Name
    """That slave's host; empty if the master does not know the slave any more."""
    executor_id: ExecutorID
    """The executor that has or had it."""
    state: TaskState
    """Its state."""
    name: Name = ""
    """As in `TaskInfo`."""
    resources: Resources = NOTHING
    """What it holds or held."""
    time_limit_s: WishedSeconds | None = None
    """As in `TaskInfo`."""
    reason: Name = ""
    """Why it ended, one of `Reason`; empty where there is none, or it runs."""
    message: Text = ""
    """The message of its last status, cut."""
    exit_status: ExitStatus | None = None
    """As in `TaskStatus`."""
    launched_s: Seconds = 0.0
    """How long ago it was launched."""
    ran_s: Seconds = 0.0
    """How long it ran: from its first RUNNING to its end, or to now."""
    ended_s: Seconds | None = None
    """How long ago it ended; None: it has not."""
    files_address: Name = ""
    """`HOST:PORT` of the file server that has its sandbox."""
    sandbox: Name = ""
    """The path of its sandbox on that server."""
    user: Name = ""
    """The account that it runs or ran as; empty if that is not known."""
    output: TaskOutput | None = None
    """How much it has written; None while it runs, or if that is not known."""
    usage: TaskUsage | None = None
    """What it has used; None while it runs, or where nobody measured."""


class Holding(Value, frozen=True):
    """What somebody holds of some slaves."""

    kind: Name
    """`this`: the framework that was asked about. `framework`: another one. `role`: several frameworks of one role.
    `hidden`: frameworks that the asker may not see. `rest`: all who hold less than those that are named.
    """
    name: Name = ""
    """The name of the framework or role."""
    amounts: Quantities = {}
    """How much they hold, by resource: millicpus, bytes."""


class Cause(Value, frozen=True):
    """One thing that keeps slaves from a framework."""

    why: Name
    """The cause, for programs: docs/allocation.md lists them."""
    slaves: Count
    """How many slaves it keeps from the framework."""
    text: Text
    """The cause, for people."""
    free: Quantities = {}
    """What is free on all of them together."""
    holders: Annotated[list[Holding], FEW] = []
    """Who holds the rest, where that is the cause; the largest first."""


# -- Questions ----------------------------------------------------------------------------------------------------------


class GetCluster(Message, frozen=True):
    """Sum up the cluster. Answered by `Cluster`."""

    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class GetSlaves(Message, frozen=True):
    """List the slaves. Answered by `Slaves`."""

    after: SlaveID = SlaveID("")
    """The last id of the page before; empty for the first page."""
    limit: PageSize = 500
    """How many to list; a page holds 1,000 at most."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class GetFrameworks(Message, frozen=True):
    """List the frameworks that the asker may see. Answered by `Frameworks`."""

    after: FrameworkID = FrameworkID("")
    """The last id of the page before; empty for the first page."""
    limit: PageSize = 500
    """How many to list; a page holds 1,000 at most."""
    ended: bool = False
    """Those that have ended, too."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class GetTasks(Message, frozen=True):
    """List the tasks that the asker may see. Answered by `Tasks`."""

    after: Name = ""
    """`next_after` of the page before; empty for the first page."""
    limit: PageSize = 500
    """How many to list; a page holds 1,000 at most."""
    framework_id: FrameworkID = FrameworkID("")
    """Only tasks of this framework; empty: of all."""
    task_id: TaskID = TaskID("")
    """Only tasks of this id, one per framework; empty: all."""
    ended: bool = True
    """Those that have ended, too."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class KillAnyTask(Message, frozen=True):
    """End a task, as an operator or the owner of its framework. Answered by `Done`."""

    task_id: TaskID
    """The task."""
    framework_id: FrameworkID = FrameworkID("")
    """Its framework; empty: the only one that has a task of this id."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class EndFramework(Message, frozen=True):
    """End a framework: its executors and tasks are ended, and its schedulers refused. Answered by `Done`."""

    framework: Name
    """Its id or name."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class ChangeSlaveMode(Message, frozen=True):
    """Drain, deactivate or activate a slave. Answered by `Done`."""

    slave: Name
    """Its id or hostname."""
    mode: Name
    """`active`, `deactivated` or `draining`, as in `SetSlaveMode`."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""
    deadline_s: WishedSeconds | None = None
    """As in `SetSlaveMode`."""


class ExplainWaiting(Message, frozen=True):
    """Why does this framework have no resources for a task, or for several at once? Answered by `Waiting`."""

    framework_id: FrameworkID
    """The framework that waits."""
    wanted: Resources
    """What one task needs."""
    time_limit_s: WishedSeconds | None = None
    """The task's time limit, as in `TaskInfo`."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""
    count: Count = 1
    """How many such tasks must run at the same time."""
    per_slave: Count = 0
    """How many of them at most on one slave; 0: as many as fit."""


class ExplainFramework(Message, frozen=True):
    """How long has this framework been under its share, and why? Answered by `Explanation`."""

    framework: Name
    """Its id or name."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


# -- Answers ------------------------------------------------------------------------------------------------------------


class Cluster(Message, frozen=True):
    """The whole cluster in one look."""

    master_id: Name
    """Names the master process that answers."""
    version: Name
    """Its version of offerd."""
    epoch: Epoch
    """Its epoch: a number that rises with each election."""
    up_s: Seconds
    """How long it has run."""
    slaves: Count
    """How many slaves are registered."""
    frameworks: Count
    """How many frameworks have not ended."""
    total: Resources
    """What registered slaves have."""
    used: Resources
    """What tasks and executors hold."""
    offered: Resources
    """What is offered to frameworks now."""
    tasks: Tallies
    """How many tasks are in each state; of terminal states, how many ever were."""
    dropped_peers: Count = 0
    """How many connections the master has ended, because a peer sent something that no peer may send."""
    allocator: Name = ""
    """The allocation module."""
    wasted_resource_s: ResourceSeconds = {}
    """What tasks used in vain that were killed at their time limit: amount x seconds, by resource."""
    refused: Count = 0
    """How many handshakes and messages were refused, because a key does not allow them."""
    failed_messages: Count = 0
    """How many messages raised an error in the master that nobody foresaw. Each cost its sender the connection."""
    unsent_messages: Count = 0
    """How many of the master's messages no frame could hold."""
    withheld: Resources = NOTHING
    """What nobody can use now: free on slaves that are deactivated, draining or drained, or whose disk is full."""

    @property
    def usable(self) -> dict[str, int]:
        """How much tasks hold or may be given, by resource: `total` without what is withheld, in millicpus and bytes."""
        withheld = self.withheld.scalars
        return {name: max(amount - withheld.get(name, 0), 0) for name, amount in self.total.scalars.items()}


class Slaves(Message, frozen=True):
    """A page of slaves."""

    slaves: Annotated[list[SlaveSummary], A_PAGE]
    """By id; lost ones are among them."""
    more: bool = False
    """There are more: ask again with the last id as `after`."""


class Frameworks(Message, frozen=True):
    """A page of frameworks."""

    frameworks: Annotated[list[FrameworkSummary], A_PAGE]
    """By id."""
    more: bool = False
    """There are more: ask again with the last id as `after`."""
    owner: Name = ""
    """Only frameworks of this owner are listed; empty: all are."""


class Tasks(Message, frozen=True):
    """A page of tasks."""

    tasks: Annotated[list[TaskSummary], A_PAGE]
    """By framework, task id and launch."""
    next_after: Name = ""
    """Ask for the next page with this as `after`; empty on the last page."""
    files: Annotated[dict[SlaveID, FilesAccess], A_PAGE] = {}
    """The asker's access to the files of their slaves."""
    owner: Name = ""
    """Only tasks of this owner's frameworks are listed; empty: all are."""


class Done(Message, frozen=True):
    """An order was carried out, or was not."""

    ok: bool
    """Whether it was."""
    message: Text = ""
    """Why it was not, in a line for people."""


class Waiting(Message, frozen=True):
    """Why a framework waits for resources: the answer to `SchedulerDriver.explain_waiting`."""

    why: Name
    """The cause, for programs. One of `no_slaves`, `no_slave_large_enough`, `too_few_slaves`, `too_few_to_spread`,
    `long_task_cap`, `disk_full`, `filtered`, `others_share`, `limit_reached`, `refused`, `minimum_offer_not_free`,
    `filters_ask_for_more`, `ended`, `no_scheduler`, `scheduler_unresponsive`, `offers_held_back`, `wants_nothing`, `not_yet`.
    """
    message: Text
    """The cause, in a line for people."""
    short_limit_s: Seconds = 0.0
    """A time limit of at most this many seconds would end the wait; 0: none would."""
    needed: Quantities = {}
    """What is needed in all, by resource: millicpus, bytes, number of ports."""
    free: Quantities = {}
    """How much of it is free on `slave`; without a slave, on all together or under the framework's limit."""
    slave: Name = ""
    """The host on which the least is missing; empty where the cause is not about one slave."""
    holders: Annotated[list[Holding], FEW] = []
    """Who holds the rest there, the largest first."""

    @property
    def is_momentary(self) -> bool:
        """Whether the wait ends by itself within seconds."""
        return self.why in _MOMENTARY


class Explanation(Message, frozen=True):
    """What a framework has and should have, and what keeps it from more."""

    framework_id: FrameworkID = FrameworkID("")
    """Its id."""
    name: Name = ""
    """Its name."""
    role: Name = ""
    """Its role."""
    state: Name = ""
    """`active`, `disconnected` (no scheduler) or `ended`."""
    needs_offers: bool = True
    """Whether it wants offers."""
    share: Quotient = 0.0
    """Its dominant share, 0 to 1."""
    fair_share: Quotient = 0.0
    """What its weight gives it among all that want or hold something, 0 to 1."""
    under_share_s: Seconds | None = None
    """How long it has been under its fair share; None: it is not."""
    guaranteed: Resources = NOTHING
    """What it may hold without losing a task."""
    under_guarantee_s: Seconds | None = None
    """How long it has been under its guarantee; None: it is not, or wants nothing."""
    limit_room: Quantities | None = None
    """How much more its limit allows, by resource; None: it has no limit."""
    revoking: Count = 0
    """How many tasks of others have notice to end for it."""
    being_revoked: Count = 0
    """How many of its own tasks have notice to end for others."""
    causes: Annotated[list[Cause], FEW] = []
    """What keeps slaves from it; each slave counts in one cause."""
    problem: Text = ""
    """There is no such framework, or there are several: a line for people. All other fields are empty then."""
    needed: Quantities = {}
    """What its filters ask for at least on a slave."""


class NotAuthorized(Message, frozen=True):
    """The owner of the key may not ask or order this."""

    message: Text
    """Why, in a line for people."""
