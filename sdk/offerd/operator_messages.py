"""The operators' part of the protocol: questions of the command line and the web page, and the master's answers.

Same rules as `offerd.messages`. Listings come in pages (`after` = the last id of the page before), so that no answer
outgrows a frame however large the cluster is. Times are seconds before the answer, so that no two clocks are compared.
"""

from __future__ import annotations

from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import PROTOCOL, Filters, Message, SlaveInfo, TaskState, Value
from offerd.resources import NOTHING, Resources

# -- Values -------------------------------------------------------------------------------------------------------------


class SlaveSummary(Value, frozen=True):
    """A slave, as listed. `state`: active | deactivated | draining | lost."""

    info: SlaveInfo
    state: str
    used: Resources = NOTHING
    offered: Resources = NOTHING
    free: Resources = NOTHING
    long_used: dict[str, int] = {}
    tasks: int = 0
    executors: int = 0
    used_millicpus: int = 0  # measured by the slave
    used_mem_bytes: int = 0  # measured by the slave
    since_s: float = 0.0
    disk_full: bool = False  # whatever its state: it is offered to nobody
    files: FilesAccess = NO_ACCESS  # for whoever asked


class FrameworkSummary(Value, frozen=True):
    """A framework, as listed. `state`: active | disconnected | ended."""

    framework_id: FrameworkID
    name: str
    role: str
    user: str
    state: str
    used: Resources = NOTHING
    offered: Resources = NOTHING
    dominant_share: float = 0.0
    needs_offers: bool = True
    tasks: dict[str, int] = {}  # how many are or ended in each state
    wasted_resource_s: dict[str, float] = {}  # resource name -> amount x seconds lost to time-outs
    hostname: str = ""
    since_s: float = 0.0
    filters: Filters = Filters()
    schedulers: int = 1  # connected: the active one and those that stand by
    guaranteed: Resources = NOTHING
    under_share_s: float | None = None  # None: it is not


class TaskSummary(Value, frozen=True):
    """A task, running or ended, as listed."""

    task_id: TaskID
    framework_id: FrameworkID
    framework_name: str
    slave_id: SlaveID
    hostname: str
    executor_id: ExecutorID
    state: TaskState
    name: str = ""
    resources: Resources = NOTHING
    time_limit_s: float | None = None
    reason: str = ""
    message: str = ""
    exit_status: int | None = None
    launched_s: float = 0.0  # ago
    ran_s: float = 0.0  # from the first RUNNING to the end, or to now
    ended_s: float | None = None  # ago
    files_address: str = ""  # where its sandbox is served
    sandbox: str = ""  # path of its sandbox there


class Cause(Value, frozen=True):
    """What keeps so many slaves from a framework: machine-readable `why`, and what it means."""

    why: str
    slaves: int
    text: str


# -- Questions ----------------------------------------------------------------------------------------------------------


class GetCluster(Message, frozen=True):
    protocol: int = PROTOCOL


class GetSlaves(Message, frozen=True):
    after: SlaveID = SlaveID("")
    limit: int = 500
    protocol: int = PROTOCOL


class GetFrameworks(Message, frozen=True):
    """`ended` adds those that are gone."""

    after: FrameworkID = FrameworkID("")
    limit: int = 500
    ended: bool = False
    protocol: int = PROTOCOL


class GetTasks(Message, frozen=True):
    """`after` and the filters are empty for all; `task_id` asks for one (all frameworks are searched)."""

    after: str = ""
    limit: int = 500
    framework_id: FrameworkID = FrameworkID("")
    task_id: TaskID = TaskID("")
    ended: bool = True
    protocol: int = PROTOCOL


class KillAnyTask(Message, frozen=True):
    """An operator ends a task; empty framework id: the one framework that has a task of this id."""

    task_id: TaskID
    framework_id: FrameworkID = FrameworkID("")
    protocol: int = PROTOCOL


class ChangeSlaveMode(Message, frozen=True):
    """An operator drains, deactivates or reactivates a slave (`offerd.messages.SetSlaveMode`), named by id or hostname."""

    slave: str
    mode: str
    protocol: int = PROTOCOL


class ExplainWaiting(Message, frozen=True):
    """Why has this framework no (more) resources? Asked by `offerd run` while it waits."""

    framework_id: FrameworkID
    wanted: Resources
    time_limit_s: float | None = None
    protocol: int = PROTOCOL


class ExplainFramework(Message, frozen=True):
    """How long has this framework (id or name) been under its share, and why? Answered by `Explanation`."""

    framework: str
    protocol: int = PROTOCOL


# -- Answers ------------------------------------------------------------------------------------------------------------


class Cluster(Message, frozen=True):
    """The whole in one look."""

    master_id: str
    version: str
    epoch: int
    up_s: float
    slaves: int
    frameworks: int
    total: Resources
    used: Resources
    offered: Resources
    tasks: dict[str, int]  # state -> how many ever, for ended states; now, for others
    dropped_peers: int = 0
    allocator: str = ""
    wasted_resource_s: dict[str, float] = {}  # resource name -> amount x seconds lost to time-outs
    refused: int = 0  # handshakes and messages that keys do not allow


class Slaves(Message, frozen=True):
    slaves: list[SlaveSummary]
    more: bool = False


class Frameworks(Message, frozen=True):
    frameworks: list[FrameworkSummary]
    more: bool = False


class Tasks(Message, frozen=True):
    """`next_after` is what to ask with for the next page; empty on the last."""

    tasks: list[TaskSummary]
    next_after: str = ""
    files: dict[SlaveID, FilesAccess] = {}  # of the slaves that are there, for whoever asked


class Done(Message, frozen=True):
    """An operator's order was carried out or not; `message` says why not."""

    ok: bool
    message: str = ""


class Waiting(Message, frozen=True):
    """Machine-readable `why` (no_slaves | no_slave_large_enough | long_task_cap | others_share | refused | filtered |
    limit_reached | minimum_offer_not_free | filters_ask_for_more | no_scheduler | wants_nothing | not_yet) and a line for
    people."""

    why: str
    message: str


class Explanation(Message, frozen=True):
    """Shares are 0 to 1. Each slave counts in one cause. `problem`: there is no such framework, and nothing else is said."""

    framework_id: FrameworkID = FrameworkID("")
    name: str = ""
    role: str = ""
    state: str = ""  # active | disconnected | ended
    needs_offers: bool = True
    share: float = 0.0
    fair_share: float = 0.0
    under_share_s: float | None = None  # None: it is not
    guaranteed: Resources = NOTHING
    under_guarantee_s: float | None = None  # None: it is not, or wants nothing
    limit_room: dict[str, int] | None = None  # None: it has no limit
    revoking: int = 0  # tasks of others that have notice for it
    being_revoked: int = 0  # tasks of its own that have notice
    causes: list[Cause] = []
    problem: str = ""


class NotAuthorized(Message, frozen=True):
    """The owner of this key may not ask or order this; `message` says why."""

    message: str
