"""The operators' part of the protocol: questions of the command line and the web page, and the master's answers.

Same rules as `offerd.messages`. Listings come in pages (`after` = the last id of the page before), so that no answer
outgrows a frame however large the cluster is. Times are seconds before the answer, so that no two clocks are compared.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import PROTOCOL, Filters, Message, SlaveInfo, TaskOutput, TaskState, TaskUsage, Value
from offerd.resources import NOTHING, Resources
from offerd.wire.bounds import (
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
)  # fmt: skip

KeyName = Annotated[str, Meta(max_length=64)]
"""Of a key's owner, or of a token; and a public key (40 characters of Z85)."""
_MOMENTARY = frozenset({"not_yet", "refused", "wants_nothing", "offers_held_back"})
RolesOrUsers = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=100)]

# -- Values -------------------------------------------------------------------------------------------------------------


class SlaveSummary(Value, frozen=True):
    """A slave, as listed. `state`: active | deactivated | draining | drained | lost."""

    info: SlaveInfo
    state: Name
    used: Resources = NOTHING
    offered: Resources = NOTHING
    free: Resources = NOTHING
    long_used: Quantities = {}
    tasks: Count = 0
    executors: Count = 0
    used_millicpus: Amount = 0  # measured by the slave
    used_mem_bytes: Amount = 0  # measured by the slave
    since_s: Seconds = 0.0
    disk_full: bool = False  # whatever its state: it is offered to nobody
    files: FilesAccess = NO_ACCESS  # for whoever asked


class FrameworkSummary(Value, frozen=True):
    """A framework, as listed. `state`: active | disconnected | ended."""

    framework_id: FrameworkID
    name: Name
    role: Name
    user: Name
    state: Name
    used: Resources = NOTHING
    offered: Resources = NOTHING
    dominant_share: Quotient = 0.0
    needs_offers: bool = True
    tasks: Tallies = {}  # how many are or ended in each state
    wasted_resource_s: ResourceSeconds = {}  # resource name -> amount x seconds lost to time-outs
    hostname: Name = ""
    since_s: Seconds = 0.0
    filters: Filters = Filters()
    schedulers: Count = 1  # connected: the active one and those that stand by
    guaranteed: Resources = NOTHING
    under_share_s: Seconds | None = None  # None: it is not
    ramp_up_s: Seconds | None = (
        None  # from its first wish for offers to its fair share, or to all it wanted; None: not known yet
    )
    completion_s: Seconds | None = None  # from its first registration to its end; None: it has not ended


class TaskSummary(Value, frozen=True):
    """A task, running or ended, as listed."""

    task_id: TaskID
    framework_id: FrameworkID
    framework_name: Name
    slave_id: SlaveID
    hostname: Name
    executor_id: ExecutorID
    state: TaskState
    name: Name = ""
    resources: Resources = NOTHING
    time_limit_s: WishedSeconds | None = None
    reason: Name = ""
    message: Text = ""
    exit_status: ExitStatus | None = None
    launched_s: Seconds = 0.0  # ago
    ran_s: Seconds = 0.0  # from the first RUNNING to the end, or to now
    ended_s: Seconds | None = None  # ago
    files_address: Name = ""  # where its sandbox is served
    sandbox: Name = ""  # path of its sandbox there
    user: Name = ""  # who runs or ran it; "" where that is not known
    output: TaskOutput | None = None  # of one that has ended, where that is known
    usage: TaskUsage | None = None  # of one that has ended, where its isolation could tell


class Holding(Value, frozen=True):
    """What somebody holds of some slaves. `kind`: this (the framework that is spoken of) | framework | role (several frameworks
    of it) | hidden (whose names are not for whoever asked) | rest (all who hold less than those named).
    """

    kind: Name
    name: Name = ""  # of the framework or role
    amounts: Quantities = {}


class Cause(Value, frozen=True):
    """What keeps so many slaves from a framework: machine-readable `why`, and what it means. `free`, on all of them together;
    `holders` of the rest, the largest first, where that is why.
    """

    why: Name
    slaves: Count
    text: Text
    free: Quantities = {}
    holders: Annotated[list[Holding], FEW] = []


class Rights(Value, frozen=True):
    """What the owner of a key may be and do: as a table of the master's `--authorized` file says it."""

    slave: bool = False
    operator: bool = False
    roles: RolesOrUsers = []
    users: RolesOrUsers = []
    every_role: bool = False
    every_user: bool = False  # but root


class TokenSummary(Value, frozen=True):
    """A word to join with that is still good, as listed."""

    token_id: KeyName
    rights: Rights
    uses_left: Count
    left_s: Seconds
    by: Name = ""  # who made it


class KeySummary(Value, frozen=True):
    """A key that the master knows, as listed. One that is not enrolled stands in the `--authorized` file."""

    name: KeyName
    key: KeyName
    rights: Rights
    is_enrolled: bool
    by: Name = ""  # who made the word that it was enrolled with


# -- Questions ----------------------------------------------------------------------------------------------------------


class GetCluster(Message, frozen=True):
    protocol: Protocol = PROTOCOL


class GetSlaves(Message, frozen=True):
    after: SlaveID = SlaveID("")
    limit: PageSize = 500
    protocol: Protocol = PROTOCOL


class GetFrameworks(Message, frozen=True):
    """`ended` adds those that are gone."""

    after: FrameworkID = FrameworkID("")
    limit: PageSize = 500
    ended: bool = False
    protocol: Protocol = PROTOCOL


class GetTasks(Message, frozen=True):
    """`after` and the filters are empty for all; `task_id` asks for one (all frameworks are searched)."""

    after: Name = ""
    limit: PageSize = 500
    framework_id: FrameworkID = FrameworkID("")
    task_id: TaskID = TaskID("")
    ended: bool = True
    protocol: Protocol = PROTOCOL


class KillAnyTask(Message, frozen=True):
    """An operator ends a task; empty framework id: the one framework that has a task of this id."""

    task_id: TaskID
    framework_id: FrameworkID = FrameworkID("")
    protocol: Protocol = PROTOCOL


class EndFramework(Message, frozen=True):
    """A framework (id or name) is over: its schedulers are refused, and its executors and tasks end. Answered by `Done`."""

    framework: Name
    protocol: Protocol = PROTOCOL


class ChangeSlaveMode(Message, frozen=True):
    """An operator drains, deactivates or activates a slave (`offerd.messages.SetSlaveMode`), named by id or hostname."""

    slave: Name
    mode: Name
    protocol: Protocol = PROTOCOL
    deadline_s: WishedSeconds | None = None


class ExplainWaiting(Message, frozen=True):
    """Why has this framework no (more) resources for a task, or for `count` of them that must all run at once, at most
    `per_slave` on one slave (0: as many as fit)? Asked by `offerd run` and others while they wait.
    """

    framework_id: FrameworkID
    wanted: Resources
    time_limit_s: WishedSeconds | None = None
    protocol: Protocol = PROTOCOL
    count: Count = 1
    per_slave: Count = 0


class ExplainFramework(Message, frozen=True):
    """How long has this framework (id or name) been under its share, and why? Answered by `Explanation`."""

    framework: Name
    protocol: Protocol = PROTOCOL


class NewToken(Message, frozen=True):
    """An operator lets others join: whoever has the secret to this public key may enrol `uses` keys of his own, within
    `ttl_s`. Answered by `Token`.
    """

    key: KeyName
    rights: Rights
    ttl_s: WishedSeconds = 3600.0
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    protocol: Protocol = PROTOCOL


class GetTokens(Message, frozen=True):
    protocol: Protocol = PROTOCOL


class RevokeToken(Message, frozen=True):
    token_id: KeyName
    protocol: Protocol = PROTOCOL


class Enrol(Message, frozen=True):
    """Said over a connection with a token's key: this public key is `name`'s from now on. Answered by `Enrolled`."""

    name: KeyName
    key: KeyName
    protocol: Protocol = PROTOCOL


class GetKeys(Message, frozen=True):
    after: KeyName = ""
    limit: PageSize = 500
    protocol: Protocol = PROTOCOL


class RevokeKey(Message, frozen=True):
    """From now on nobody knows the key of this name. Answered by `Done`."""

    name: KeyName
    protocol: Protocol = PROTOCOL


# -- Answers ------------------------------------------------------------------------------------------------------------


class Cluster(Message, frozen=True):
    """The whole in one look. Of `total`, the slaves that are there have it; `withheld` of that can nobody use now."""

    master_id: Name
    version: Name
    epoch: Epoch
    up_s: Seconds
    slaves: Count
    frameworks: Count
    total: Resources
    used: Resources
    offered: Resources
    tasks: Tallies  # state -> how many ever, for ended states; now, for others
    dropped_peers: Count = 0
    allocator: Name = ""
    wasted_resource_s: ResourceSeconds = {}  # resource name -> amount x seconds lost to time-outs
    refused: Count = 0  # handshakes and messages that keys do not allow
    failed_messages: Count = (
        0  # of peers, which raised an error that nobody foresaw: each cost its sender the connection
    )
    unsent_messages: Count = 0  # of the master, which no frame could hold
    withheld: Resources = (
        NOTHING  # free on slaves that are deactivated, draining or drained, or whose disk is full
    )

    @property
    def usable(self) -> dict[str, int]:
        """Quantities of the scalars that tasks hold or may be given: `total` without what is withheld."""
        withheld = self.withheld.scalars
        return {name: max(amount - withheld.get(name, 0), 0) for name, amount in self.total.scalars.items()}


class Slaves(Message, frozen=True):
    slaves: Annotated[list[SlaveSummary], A_PAGE]
    more: bool = False


class Frameworks(Message, frozen=True):
    frameworks: Annotated[list[FrameworkSummary], A_PAGE]
    more: bool = False
    owner: Name = ""  # of whom alone they are; "": all are shown


class Tasks(Message, frozen=True):
    """`next_after` is what to ask with for the next page; empty on the last."""

    tasks: Annotated[list[TaskSummary], A_PAGE]
    next_after: Name = ""
    files: Annotated[
        dict[SlaveID, FilesAccess], A_PAGE
    ] = {}  # of the slaves that are there, for whoever asked
    owner: Name = ""  # of whose frameworks alone they are; "": all are shown


class Done(Message, frozen=True):
    """An operator's order was carried out or not; `message` says why not."""

    ok: bool
    message: Text = ""


class Waiting(Message, frozen=True):
    """Machine-readable `why` (no_slaves | no_slave_large_enough | too_few_slaves | too_few_to_spread | long_task_cap |
    disk_full | filtered | others_share | limit_reached | refused | minimum_offer_not_free | filters_ask_for_more | ended |
    no_scheduler | scheduler_unresponsive | offers_held_back | wants_nothing | not_yet) and a line for people. `short_limit_s`:
    a time limit of at most so much would end this wait; 0: none would. `needed` in all; `free` of it on `slave`, where the
    least is missing (or under a limit), and the `holders` of the rest there, the largest first.
    """

    why: Name
    message: Text
    short_limit_s: Seconds = 0.0
    needed: Quantities = {}
    free: Quantities = {}
    slave: Name = ""  # its host's name; empty: no one slave is spoken of
    holders: Annotated[list[Holding], FEW] = []

    @property
    def is_momentary(self) -> bool:
        """Whether it ends by itself within seconds: of who has work, and waits a moment of its own choice."""
        return self.why in _MOMENTARY


class Explanation(Message, frozen=True):
    """Shares are 0 to 1. Each slave counts in one cause. `problem`: there is no such framework, and nothing else is said."""

    framework_id: FrameworkID = FrameworkID("")
    name: Name = ""
    role: Name = ""
    state: Name = ""  # active | disconnected | ended
    needs_offers: bool = True
    share: Quotient = 0.0
    fair_share: Quotient = 0.0
    under_share_s: Seconds | None = None  # None: it is not
    guaranteed: Resources = NOTHING
    under_guarantee_s: Seconds | None = None  # None: it is not, or wants nothing
    limit_room: Quantities | None = None  # None: it has no limit
    revoking: Count = 0  # tasks of others that have notice for it
    being_revoked: Count = 0  # tasks of its own that have notice
    causes: Annotated[list[Cause], FEW] = []
    problem: Text = ""
    needed: Quantities = {}  # its filters ask for at least so much on a slave


class NotAuthorized(Message, frozen=True):
    """The owner of this key may not ask or order this; `message` says why."""

    message: Text


class Token(Message, frozen=True):
    """The master knows the token now; `token_id` is its name in listings."""

    token_id: KeyName
    ttl_s: Seconds


class Tokens(Message, frozen=True):
    """Those that are still good, and how often somebody was refused, by cause: used | late | revoked | unknown_key |
    name_taken | not_valid.
    """

    tokens: Annotated[list[TokenSummary], A_PAGE]
    refused: Tallies = {}


class Enrolled(Message, frozen=True):
    """The key is written down, and `name` may be this from now on."""

    name: KeyName
    rights: Rights


class Keys(Message, frozen=True):
    keys: Annotated[list[KeySummary], A_PAGE]
    more: bool = False
