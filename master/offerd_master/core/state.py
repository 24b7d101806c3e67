"""What a master knows: slaves, frameworks, running tasks and open offers.

Accounts: every part of a slave's total is held by exactly one of its tasks, executors or open offers, or is free. Only `free`
and `long_used` are kept as running sums; the rest follows from the records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from offerd import messages as m
from offerd.core.filters import CompiledFilters
from offerd.core.slots import is_long, long_quantities
from offerd.core.timers import Timer, Timers
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
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.entitlements import Entitlements, with_entitlements
from offerd_master.core.actions import Action, Drop, LaterEpochSeen, Log, Send
from offerd_master.core.budgets import Budgets
from offerd_master.core.caller import Caller
from offerd_master.core.history import FrameworkHistory, History
from offerd_master.core.pool import Pool
from offerd_master.core.registry import InHand, Order, Registry
from offerd_master.principals import Principal
from offerd_master.settings import Settings

EPOCHS_A_YEAR = 366 * 86_400_000
"""An epoch is the milliseconds since 1970, or more where a higher one was known already."""
LEAST_NOW = 1_767_225_600_000
"""When this line was written. A host without a clock of its own begins in 1970."""
FRAMEWORK_AHEAD, SLAVE_AHEAD = 10 * EPOCHS_A_YEAR, 20 * EPOCHS_A_YEAR
"""How far above our first epoch a peer may claim to have heard one: its master's clock may have been wrong by years. Without a
bound, a peer could name the highest number of all; once we spoke in that epoch, its hearers could obey no later master. Slaves
store the epoch that we then speak in, so they may claim a higher one: our clock may be set back after a scheduler made us go to
the highest.
"""


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


Due = Callable[["Cluster", Any, float], None]
"""What a timer calls: with the cluster, a subject and now."""


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


class Reconciling(NamedTuple):
    """A scheduler has asked for the states of all its tasks, and these are still to be sent."""

    peer: PeerID
    tasks: deque[Task]


class Asked(NamedTuple):
    """The operator who waits for a recording, and the slave that makes it; None: the master itself."""

    peer: PeerID
    slave: Slave | None


class Ramping:
    """Frameworks that may not have their fair share yet: see `ramp_up`."""

    def __init__(self) -> None:
        self.first_wishes: list[Framework] = []  # of frameworks that began with this master, in this turn
        self.frameworks: dict[FrameworkID, Framework] = {}
        self.not_before = 0.0


class Cluster:
    """Everything that a master knows, and the actions that it has decided on. The handlers of all subjects work on it."""

    def __init__(
        self, settings: Settings, master_id: str, epoch: int, allocator: Allocator, now: float
    ) -> None:
        self.settings = settings
        self.master_id = master_id
        self.epoch = epoch
        self._id_epoch = epoch  # part of ids; stays when the epoch rises
        self.use_allocator(allocator)
        self.started_at = now
        self.out: list[Action] = []
        self.hold_until = 0.0  # no offers before then: see `recovery`
        self.revoke_not_before = 0.0  # no revocations before then
        self.peers: dict[PeerID, Slave | Framework | Standby] = {}
        self.slaves: dict[SlaveID, Slave] = {}
        self.lost_slaves: dict[SlaveID, Slave] = {}
        # The `reported_lost` of slaves that are forgotten.
        self.owed: dict[SlaveID, set[tuple[FrameworkID, TaskID]]] = {}
        self.tasks_owed = 0
        self.frameworks: dict[FrameworkID, Framework] = {}
        self.budgets = Budgets()
        self.ended_frameworks: dict[FrameworkID, Framework] = {}
        self.offers: dict[OfferID, OutstandingOffer] = {}
        self.offer_order: deque[OutstandingOffer] = deque()
        self.wanting: dict[FrameworkID, Framework] = {}
        self.ramping = Ramping()
        self.total: dict[str, int] = {}  # the quantities of all slaves together
        self.dirty: dict[SlaveID, Slave] = {}
        # Slaves with something free that no framework wanted when it was last offered.
        self.idle: dict[SlaveID, Slave] = {}
        self.timers: Timers[Due, Any] = Timers()
        self.reconciling: dict[FrameworkID, Reconciling] = {}
        self.revocations: list[Revocation] = []
        self.under_share_since: dict[FrameworkID, float] = {}
        self.wasted_resource_s: dict[str, float] = {}
        self.shortages: dict[FrameworkID, Shortage] = {}
        self.shrunk_guarantees: frozenset[str] = frozenset()
        self.history = History(settings.max_ended_tasks, settings.max_ended_tasks_per_framework)
        self.ended_counts: dict[str, int] = {}
        self.tasks_running = 0
        self.tasks_ended = 0
        self.dropped_peers = 0
        self.failed_messages = 0  # messages whose handling raised an unexpected error
        self.unsent_messages = 0  # our messages that no frame could hold
        self.refused = 0  # handshakes and messages that keys do not allow
        self.principals: dict[str, Principal] | None = None  # by name; None where peers have no keys
        self.authorized: dict[str, Principal] = {}  # by public key
        self.refused_owners: dict[str, int] = {}  # see `files.refuse_owners`
        self.registry: Registry | None = None  # None: peers have no keys
        self.orders: deque[Order] = deque()  # see `enrolment`
        self.in_hand: InHand | None = None
        self.not_registered_sent: set[PeerID] = set()
        self.recordings: dict[int, Asked] = {}  # by ticket: see `recordings`
        self.last_ticket = 0
        self._numbers = {"F": 0, "S": 0, "O": 0}
        self._offer_prefix = f"O-{epoch:x}-"

    def use_allocator(self, module: Allocator) -> None:
        """Use this module, in which nothing is entered yet, within the guarantees and limits of the settings."""
        self.allocator = with_entitlements(module, self.settings.policy)
        self.entitlements = self.allocator if isinstance(self.allocator, Entitlements) else None

    def add_total(self, resources: Resources) -> None:
        """A slave has come: count its resources."""
        self._change_total(resources, 1)
        self.allocator.add_total(resources)

    def remove_total(self, resources: Resources) -> None:
        """A slave has gone: count its resources no longer."""
        self._change_total(resources, -1)
        self.allocator.remove_total(resources)

    def _change_total(self, resources: Resources, sign: int) -> None:
        for name, amount in resources.quantities().items():
            self.total[name] = self.total.get(name, 0) + sign * amount
            if not self.total[name]:
                del self.total[name]

    def add_account(self, framework: Framework) -> None:
        """Charge the framework from now on. One that has ended has no part in a guarantee."""
        self.allocator.add_framework(framework.framework_id, framework.info.role, framework.info.name)
        if framework.ended and self.entitlements is not None:
            self.entitlements.forgo_guarantee(framework.framework_id)

    def new_id(self, kind: str, owner: str) -> str:
        """The next id of a kind (F or S). The epoch in it makes it unique across masters. Where peers have keys it ends with
        its owner's name.
        """
        self._numbers[kind] = number = self._numbers[kind] + 1
        return f"{kind}-{self._id_epoch:x}-{number:04d}{f'@{owner}' if owner else ''}"

    def new_offer_id(self) -> OfferID:
        """The next id of an offer. There are many of these, so this is the fast way."""
        numbers = self._numbers
        numbers["O"] = number = numbers["O"] + 1
        return OfferID(
            f"{self._offer_prefix}{number:04d}" if number < 1000 else f"{self._offer_prefix}{number}"
        )

    def send(self, peer: PeerID | None, message: m.Message) -> None:
        """Send the message, if there is a peer."""
        if peer is not None:
            self.out.append(Send(peer, message))

    def log(self, text: str, level: str = "info") -> None:
        self.out.append(Log(level, text))

    def drop(self, peer: PeerID, why: str) -> None:
        self.out.append(Drop(peer, why))

    def note_epoch(self, seen: int, ahead: int) -> None:
        """Note the epoch that a slave or scheduler with a good registration has obeyed."""
        if self.epoch < seen < max(self._id_epoch, LEAST_NOW) + ahead:
            self.out.append(LaterEpochSeen(seen))

    def mark_dirty(self, slave: Slave) -> None:
        """Something became free on the slave, or a framework may newly want it."""
        if not slave.why_out():
            self.dirty[slave.slave_id] = slave
            if self.idle:
                self.idle.pop(slave.slave_id, None)

    def mark_idle_dirty(self) -> None:
        """A framework may newly want what none wanted before."""
        self.dirty.update(self.idle)
        self.idle.clear()

    def unmark(self, slave: Slave) -> None:
        """Nothing of the slave can be offered."""
        self.dirty.pop(slave.slave_id, None)
        self.idle.pop(slave.slave_id, None)

    def update_wanting(self, framework: Framework) -> None:
        """Enter the framework in `wanting` if it may be offered something; else remove it there."""
        is_wanting = not framework.why_not_wanting()
        if framework.ramp_up_s is None and self.is_own_id(framework.framework_id):
            self.ramping.frameworks[framework.framework_id] = framework
            if is_wanting and framework.wanted_since is None:
                self.ramping.first_wishes.append(framework)
        if is_wanting:
            self.wanting[framework.framework_id] = framework
        else:
            self.wanting.pop(framework.framework_id, None)
        self.allocator.set_wanting(framework.framework_id, is_wanting)

    def named(self, caller: Caller, wanted: str) -> list[Framework]:
        """The caller's frameworks with this id or name; a name finds only those that have not ended."""
        return [
            framework
            for framework in self.frameworks.values()
            if caller.sees(framework.framework_id)
            and (wanted == framework.framework_id or (wanted == framework.info.name and not framework.ended))
        ]

    def slaves_named(self, name: str) -> list[Slave]:
        """The slave with this id, or the slaves with this hostname."""
        by_id = self.slaves.get(SlaveID(name))
        if by_id is not None:
            return [by_id]
        return [slave for slave in self.slaves.values() if slave.info.hostname == name]

    def is_own_id(self, framework_id: FrameworkID) -> bool:
        """Whether this master gave the id, not an earlier one."""
        return framework_id.startswith(f"F-{self._id_epoch:x}-")

    def may_return(self, framework_id: FrameworkID, now: float) -> bool:
        """Whether a framework of an earlier master, or slaves with its tasks, may still be on their way back."""
        return now - self.started_at < self.settings.adoption_grace_s and not self.is_own_id(framework_id)
