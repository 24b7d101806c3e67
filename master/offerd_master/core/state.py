"""What a master knows of each slave, framework, task and offer. The cluster in which they live is in `cluster`.

Accounts: of a slave's total, every part is held by exactly one of its tasks, its executors, its open offers, or is free.
Only `free` and `long_used` are kept as running sums; the others are the records themselves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from offerd import messages as m
from offerd.core.filters import CompiledFilters
from offerd.core.slots import is_long, long_quantities
from offerd.core.timers import Timer
from offerd.files_access import FilesAccess, FilesSecret
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, PeerID, SlaveID, TaskID
from offerd.messages import (
    ExecutorInfo,
    Filters,
    FrameworkInfo,
    KillTask,
    SetSlaveMode,
    SlaveInfo,
    SlaveUsage,
    TaskState,
)
from offerd.resources import NOTHING, Resources
from offerd_master.core.history import FrameworkHistory
from offerd_master.core.pool import Pool


class SlaveState(StrEnum):
    """Only an active slave is offered. A lost one is remembered for listings, and for its return."""

    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    DRAINING = "draining"
    DRAINED = "drained"
    LOST = "lost"


class Task(msgspec.Struct, eq=False, gc=False):
    """A task that holds resources: from its launch to its terminal status. Its command and data are not kept."""

    task_id: TaskID
    framework: Framework
    slave: Slave
    executor_id: ExecutorID
    resources: Resources
    is_long: bool
    state: TaskState
    launched_at: float
    time_limit_s: float | None
    name: str
    running_since: float | None = None
    container_id: ContainerID = ContainerID("")
    heard_at: float = 0.0
    missing_since: float | None = None
    is_command: bool = True
    kill: KillTask | None = None
    is_adopted: bool = False
    """A slave reported it; this master did not launch it."""
    kill_grace_s: float | None = None
    message: str = ""
    """The message of the status by which it runs."""

    @property
    def is_reported_lost(self) -> bool:
        """It has ended for its scheduler, but counts because its slave has returned with it."""
        lost = self.slave.reported_lost
        return bool(lost) and (self.framework.framework_id, self.task_id) in lost


class Executor(msgspec.Struct, eq=False, gc=False):
    """An executor and its own resources, from its first task to its end. `exited`: it has, but tasks of it are still open."""

    resources: Resources
    user: str = ""
    """The user as which it runs."""
    tasks: int = 0
    exited: bool = False


class OutstandingOffer(msgspec.Struct, eq=False, gc=False):
    """Resources that are offered to a framework."""

    offer_id: OfferID
    framework: Framework
    slave: Slave
    resources: Resources
    deadline: float
    is_revived: bool = False  # the framework has revived since: a refusal counts as one for no time


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A framework does not want this much of a slave until then. `paced`: the framework named no time, the master does."""

    until: float
    resources: Resources
    paced: bool
    timer: Timer


class Revocation(msgspec.Struct, eq=False):
    """A notice to `victim` on behalf of `framework`. After its grace it stands for the tasks that are being killed, until they
    have ended. `demanded` is what these tasks hold of guaranteed resources. `held` is what the victim held when it was
    notified, less what it has since given up for other frameworks.
    """

    framework: Framework
    victim: Framework
    tasks: list[Task]
    demanded: dict[str, int]
    held: dict[str, int]
    is_killing: bool = False


class Shortage(msgspec.Struct, gc=False):
    """A framework that wants offers is under its guarantee. Nothing is revoked for it before `next_try_at`."""

    since: float
    next_try_at: float
    pause_s: float


class LaunchableExecutor(msgspec.Struct, frozen=True, gc=False):
    """An executor that a framework has declared. `envelope_bytes`: the size of a `RunTasks` for it without tasks."""

    info: ExecutorInfo
    envelope_bytes: int


class Slave:
    """A slave daemon, connected (`peer`) or silent."""

    __slots__ = (
        "executors", "files", "files_accesses", "free", "heard", "info", "info_bytes", "is_disk_full", "is_unresponsive",
        "last_peer", "long_cap", "long_used", "met", "minimum_offer", "needs", "offer_again_at", "offers", "peer",
        "reported_lost", "since", "slave_id", "state", "tasks", "there_since", "total", "unanswered", "unreachable", "usage",
        "wish",
    )  # fmt: skip

    def __init__(self, slave_id: SlaveID, peer: PeerID, now: float) -> None:
        """The slave is complete only after `describe`."""
        self.slave_id = slave_id
        self.peer: PeerID | None = peer
        self.state = SlaveState.ACTIVE
        self.since = now
        self.there_since = now  # registered since then without a loss, here or with an earlier master
        self.heard = True
        self.unanswered = 0
        self.offer_again_at = 0.0
        self.tasks: dict[Task, None] = {}
        self.executors: dict[FrameworkID, dict[ExecutorID, Executor]] = {}
        self.offers: dict[OfferID, OutstandingOffer] = {}
        self.usage: SlaveUsage | None = None
        # Tasks reported lost with this slave that have not ended here yet.
        self.reported_lost: set[tuple[FrameworkID, TaskID]] = set()
        self.last_peer: PeerID | None = None  # also while it is lost
        self.unreachable = 0  # how many `Framework.unreachable` tasks are of this slave
        self.met: set[FrameworkID] = set()  # frameworks that it named first, and whose scheduler has not come
        self.is_unresponsive = False  # it may not have read our answer to its registration
        self.is_disk_full = False  # by its own report
        self.wish: SetSlaveMode | None = None  # an operator's wish that it has not confirmed
        self.files: FilesSecret | None = None  # None: it serves no files, or not where others could reach it
        self.files_accesses: dict[str, FilesAccess] = {}  # a cache, by identity
        self.long_used: dict[str, int] = {}

    def describe(self, info: SlaveInfo, minimum_offer: Resources) -> None:
        """Take over the slave's description; its own minimum offer comes before the master's. The caller must take what runs on
        the slave from `free` again.
        """
        if info.minimum_offer is not None:
            minimum_offer = info.minimum_offer
        self.info = info
        self.info_bytes = len(msgspec.msgpack.encode(info))
        self.total = info.resources
        self.free = Pool(info.resources)
        self.long_cap = long_quantities(info.resources, info.long_fraction)
        quantities = info.resources.quantities()
        self.minimum_offer = tuple((n, a) for n, a in minimum_offer.scalars.items() if a and n in quantities)
        minimum = dict(self.minimum_offer)
        self.needs = tuple((name, max(1, minimum.get(name, 0))) for name in sorted(info.resources.scalars))

    def is_long(self, time_limit_s: float | None, kill_grace_s: float | None) -> bool:
        """Whether a task with this limit and grace counts as long here."""
        info = self.info
        return is_long(time_limit_s, info.short_limit_s, kill_grace_s, info.max_kill_grace_s)

    def runs_as(self, user: str) -> str:
        """The user as which a task that names `user` runs here."""
        return user or self.info.default_user

    def executor(self, framework_id: FrameworkID, executor_id: ExecutorID) -> Executor | None:
        mine = self.executors.get(framework_id)
        return mine.get(executor_id) if mine is not None else None

    def used(self) -> Resources:
        """What tasks and executors hold: all that is neither free nor offered. Faster than to sum up the tasks."""
        if not self.tasks and not self.executors:
            return NOTHING
        used = Pool(self.total)
        used.settle(self.free)
        for offer in self.offers.values():
            used.take(offer.resources)
        return used.freeze()

    def why_out(self) -> str:
        """Why it is offered to nobody: `unreachable` (also by an operator's wish) or `disk_full`; empty if it may be offered.
        Only slaves that may be offered are marked as dirty or idle, so a turn of allocation need not ask.
        """
        if self.state is not SlaveState.ACTIVE or self.peer is None or self.is_unresponsive:
            return "unreachable"
        return "disk_full" if self.is_disk_full else ""

    @property
    def may_be_offered(self) -> bool:
        """Whether its mode, its connection and its disk let it take new tasks."""
        return not self.why_out()

    @property
    def is_out(self) -> bool:
        """Whether its mode or its disk keeps new tasks away."""
        return self.state is not SlaveState.ACTIVE or self.is_disk_full

    def is_in_batch_window(self, now: float) -> bool:
        """Whether it was offered a moment ago: what becomes free in that time is offered together."""
        return now < self.offer_again_at and bool(self.tasks)

    def is_worth_offering(self) -> bool:
        """Whether at least the minimum offer is free."""
        free = self.free
        scalars = free.scalars
        for name, amount in self.minimum_offer:
            if scalars.get(name, 0) < amount:
                return False
        return bool(self.minimum_offer) or any(amount > 0 for amount in scalars.values()) or bool(free.rest)


class Wishes(NamedTuple):
    """The offers that a scheduler wants, by its registration. The filters have been checked."""

    needs_offers: bool = True
    filters: Filters = Filters()


class Framework:
    """A framework, with a scheduler (`peer`) or waiting for one. Once `ended`, it waits only for its executors to end."""

    __slots__ = (
        "called_unknown", "ended", "ended_at", "ended_because", "ended_counts", "executors", "executors_running",
        "failover_timer", "filters", "filters_bytes", "framework_id", "has_filters", "heard", "history", "info",
        "is_unresponsive", "launch_info", "met_on", "needs_offers", "offers", "peer", "ramp_up_s", "refusals", "scheduler_id",
        "since", "standbys", "tasks", "unacknowledged", "unanswered", "unreachable", "wanted_since", "wasted_resource_s",
    )  # fmt: skip

    def __init__(
        self, framework_id: FrameworkID, info: FrameworkInfo, peer: PeerID | None, now: float
    ) -> None:
        self.framework_id = framework_id
        self.peer = peer
        self.since = now
        self.heard = True
        self.unanswered = 0
        self.failover_timer: Timer | None = None
        self.scheduler_id = ""
        self.met_on: Slave | None = (
            None  # the slave that named it, while no scheduler has confirmed its role and user
        )
        self.is_unresponsive = False  # its scheduler may not have read our answer to its registration
        self.standbys: list[Standby] = []
        self.needs_offers = True
        self.wanted_since: float | None = None  # see `ramp_up`
        self.ramp_up_s: float | None = None
        self.ended = False
        self.ended_at = 0.0
        self.ended_because = ("", "")
        self.set_filters(Filters())
        self.filters_bytes = 0  # it has set none yet
        self.refusals: dict[SlaveID, Refusal] = {}
        self.tasks: dict[TaskID, Task] = {}
        self.unreachable: dict[TaskID, Task] = {}
        self.called_unknown: dict[TaskID, None] = {}  # see `recovery.remember_unknown`
        self.executors_running = 0
        self.offers: dict[OfferID, OutstandingOffer] = {}
        # Ends that the scheduler may not have seen, by sequence and slave. While that slave is here it repeats them:
        # reconciliation must not overtake it.
        self.unacknowledged: dict[TaskID, tuple[int, SlaveID]] = {}
        self.history = FrameworkHistory()
        self.ended_counts: dict[str, int] = {}
        self.wasted_resource_s: dict[str, float] = {}
        self.describe(info)

    def describe(self, info: FrameworkInfo) -> None:
        """Take over a scheduler's description of its framework. Slaves get it without the executors, because each executor
        travels beside it.
        """
        self.info = msgspec.structs.replace(info, framework_id=self.framework_id)
        self.launch_info = msgspec.structs.replace(self.info, executors=[])
        self.executors: dict[ExecutorID, LaunchableExecutor] = {}
        for executor in info.executors:
            envelope = m.RunTasks(self.launch_info, executor, [])
            size = len(msgspec.msgpack.encode(envelope)) + 8
            self.executors[executor.executor_id] = LaunchableExecutor(executor, size)

    def why_not_wanting(self) -> str:
        """Why it is offered nothing: `ended`, `no_scheduler`, `scheduler_unresponsive` or `wants_nothing`; empty if it is one
        of `Cluster.wanting`.
        """
        if self.ended:
            return "ended"
        if self.peer is None:
            return "no_scheduler"
        if self.is_unresponsive:
            return "scheduler_unresponsive"
        return "" if self.needs_offers else "wants_nothing"

    def take_wishes(self, wishes: Wishes) -> None:
        """Take over the offers that its scheduler wants."""
        self.needs_offers = wishes.needs_offers
        self.set_filters(wishes.filters)

    def set_filters(self, filters: Filters) -> None:
        """The filters must have been checked (`offerd.core.filters`)."""
        self.filters = CompiledFilters(filters)
        self.has_filters = not self.filters.is_empty
        self.filters_bytes = len(msgspec.msgpack.encode(filters))


class Standby:
    """A scheduler that stands by, until the active one of its framework is gone."""

    is_unresponsive = False  # always: a standby is offered nothing that it could miss

    __slots__ = ("framework", "heard", "info", "peer", "scheduler_id", "unanswered", "wishes")

    def __init__(self, peer: PeerID, framework: Framework, info: FrameworkInfo, scheduler_id: str) -> None:
        self.wishes: Wishes | None = None
        self.peer = peer
        self.framework = framework
        self.info = info
        self.scheduler_id = scheduler_id
        self.heard = True
        self.unanswered = 0

    @property
    def framework_id(self) -> FrameworkID:
        return self.framework.framework_id

    @property
    def filters_bytes(self) -> int:
        """The size of the filters that it wants."""
        return 0 if self.wishes is None else len(msgspec.msgpack.encode(self.wishes.filters))
