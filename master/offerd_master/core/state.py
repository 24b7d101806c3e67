"""What a master knows: slaves, frameworks, running tasks, open offers, and the cluster they live in.

Accounts: of a slave's total, every part is held by exactly one of its tasks, its executors, its open offers, or is free.
Only `free` and `long_used` are kept as running sums; the others are the records themselves.
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
"""Epochs are milliseconds since 1970, or as many more as was needed to be above one heard of."""
LEAST_NOW = 1_767_225_600_000
"""When this was written: a host without a clock of its own begins in 1970."""
FRAMEWORK_AHEAD, SLAVE_AHEAD = 10 * EPOCHS_A_YEAR, 20 * EPOCHS_A_YEAR
"""How far above the epoch we began with others may have heard one: a clock may have been wrong by years. Who could name any
number could name the last, which none is above, and whoever heard us speak in it would listen to no master ever after. Slaves
write down what we then speak in, so theirs may be higher, should the clock be set back after a scheduler named the highest.
"""


class SlaveState(StrEnum):
    """Only an active slave is offered. A lost one is remembered for people, and until it returns."""

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
    """Met on a slave, and not launched by this master."""
    kill_grace_s: float | None = None
    message: str = ""
    """Of the status that said that it runs."""

    @property
    def is_reported_lost(self) -> bool:
        """Ended for its scheduler; counted because its slave has come back with it."""
        lost = self.slave.reported_lost
        return bool(lost) and (self.framework.framework_id, self.task_id) in lost


class Executor(msgspec.Struct, eq=False, gc=False):
    """An executor and its own resources, from its first task to its end. `exited` while tasks of it are still open."""

    resources: Resources
    user: str = ""
    """Who runs it."""
    tasks: int = 0
    exited: bool = False


class OutstandingOffer(msgspec.Struct, eq=False, gc=False):
    """Resources that a framework is thinking about."""

    offer_id: OfferID
    framework: Framework
    slave: Slave
    resources: Resources
    deadline: float
    is_revived: bool = False  # since then the framework has revived: to refuse it is to refuse it for no time


Due = Callable[["Cluster", Any, float], None]
"""What the master owes itself at some time: called with the cluster, a subject and now."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A framework does not want this much or less of a slave until then. `paced`: it gave no time, we did."""

    until: float
    resources: Resources
    paced: bool
    timer: Timer


class Revocation(msgspec.Struct, eq=False):
    """A notice to `victim`, for the good of `framework`; when its grace is over it stands for those of its tasks that are
    being killed, until they have ended. `demanded` is what these tasks hold of what is guaranteed; `held` what the victim's
    tasks and executors held when it was given, less what it has given up since for others.
    """

    framework: Framework
    victim: Framework
    tasks: list[Task]
    demanded: dict[str, int]
    held: dict[str, int]
    is_killing: bool = False


class Shortage(msgspec.Struct, gc=False):
    """A framework wants offers and is under its guarantee. Nothing is revoked for it before `next_try_at`."""

    since: float
    next_try_at: float
    pause_s: float


class LaunchableExecutor(msgspec.Struct, frozen=True, gc=False):
    """An executor that a framework has declared; `envelope_bytes` is a `RunTasks` for it without tasks."""

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
        """It is yet to `describe` itself."""
        self.slave_id = slave_id
        self.peer: PeerID | None = peer
        self.state = SlaveState.ACTIVE
        self.since = now
        self.there_since = now  # registered without a loss, with us or a master before
        self.heard = True
        self.unanswered = 0
        self.offer_again_at = 0.0
        self.tasks: dict[Task, None] = {}
        self.executors: dict[FrameworkID, dict[ExecutorID, Executor]] = {}
        self.offers: dict[OfferID, OutstandingOffer] = {}
        self.usage: SlaveUsage | None = None
        # Tasks reported to their schedulers as lost with this slave, until each has really ended here.
        self.reported_lost: set[tuple[FrameworkID, TaskID]] = set()
        self.last_peer: PeerID | None = None  # also while it is lost
        self.unreachable = 0  # of its tasks: as many stand with their frameworks as this
        self.met: set[FrameworkID] = (
            set()
        )  # frameworks that it was the first to tell of, and no scheduler has come of
        self.is_unresponsive = False  # perhaps it has not heard our answer to its hello
        self.is_disk_full = False  # as it says itself
        self.wish: SetSlaveMode | None = None  # an operator's, that it has not said it obeys
        self.files: FilesSecret | None = (
            None  # None: it hands out none, or from where others would look for it
        )
        self.files_accesses: dict[str, FilesAccess] = {}  # derived of late, by identity
        self.long_used: dict[str, int] = {}

    def describe(self, info: SlaveInfo, minimum_offer: Resources) -> None:
        """Take over what the slave says of itself; its own minimum offer goes before the master's. What runs on it must be
        taken from `free` anew.
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
        """Whether a task of such a limit and grace counts against the part for long ones here."""
        info = self.info
        return is_long(time_limit_s, info.short_limit_s, kill_grace_s, info.max_kill_grace_s)

    def runs_as(self, user: str) -> str:
        """Who runs what names this user."""
        return user or self.info.default_user

    def executor(self, framework_id: FrameworkID, executor_id: ExecutorID) -> Executor | None:
        mine = self.executors.get(framework_id)
        return mine.get(executor_id) if mine is not None else None

    def used(self) -> Resources:
        """What tasks and executors hold: all that is neither free nor offered. They may be many, so they are not asked."""
        if not self.tasks and not self.executors:
            return NOTHING
        used = Pool(self.total)
        used.settle(self.free)
        for offer in self.offers.values():
            used.take(offer.resources)
        return used.freeze()

    def why_out(self) -> str:
        """What keeps all new tasks away from it: `unreachable` (an operator's wish does, too) or `disk_full`; empty: nothing.
        Only a slave of which it is empty is marked as dirty or idle, so that a turn of allocation need not ask.
        """
        if self.state is not SlaveState.ACTIVE or self.peer is None or self.is_unresponsive:
            return "unreachable"
        return "disk_full" if self.is_disk_full else ""

    @property
    def may_be_offered(self) -> bool:
        """Whether operators, its connection and its disk let it take new tasks."""
        return not self.why_out()

    @property
    def is_out(self) -> bool:
        """Whether an operator or its disk keeps new tasks away."""
        return self.state is not SlaveState.ACTIVE or self.is_disk_full

    def is_in_batch_window(self, now: float) -> bool:
        """Whether it was offered a moment ago, and what ends until the moment is over is to be offered together."""
        return now < self.offer_again_at and bool(self.tasks)

    def is_worth_offering(self) -> bool:
        """Whether at least the minimum is free."""
        free = self.free
        scalars = free.scalars
        for name, amount in self.minimum_offer:
            if scalars.get(name, 0) < amount:
                return False
        return bool(self.minimum_offer) or any(amount > 0 for amount in scalars.values()) or bool(free.rest)


class Wishes(NamedTuple):
    """What a scheduler said in its hello of the offers that it wants. The filters are without fault."""

    needs_offers: bool = True
    filters: Filters = Filters()


class Framework:
    """A framework, with its scheduler (`peer`) or waiting for one. Once `ended` it only waits for its slaves to agree."""

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
            None  # who told of it, while no scheduler of it has come: its role and user are hearsay
        )
        self.is_unresponsive = False  # perhaps its scheduler has not heard our answer to its hello
        self.standbys: list[Standby] = []
        self.needs_offers = True
        self.wanted_since: float | None = None  # see `ramp_up`
        self.ramp_up_s: float | None = None
        self.ended = False
        self.ended_at = 0.0
        self.ended_because = ("", "")
        self.set_filters(Filters())
        self.filters_bytes = 0  # it has said nothing of them yet
        self.refusals: dict[SlaveID, Refusal] = {}
        self.tasks: dict[TaskID, Task] = {}
        self.unreachable: dict[TaskID, Task] = {}
        self.called_unknown: dict[TaskID, None] = {}  # see `recovery.remember_unknown`
        self.executors_running = 0
        self.offers: dict[OfferID, OutstandingOffer] = {}
        # Ends that the scheduler may not have heard of, by sequence and slave. That slave repeats them while it is there:
        # reconciliation must not overtake it.
        self.unacknowledged: dict[TaskID, tuple[int, SlaveID]] = {}
        self.history = FrameworkHistory()
        self.ended_counts: dict[str, int] = {}
        self.wasted_resource_s: dict[str, float] = {}
        self.describe(info)

    def describe(self, info: FrameworkInfo) -> None:
        """Take over what a scheduler says of its framework. Slaves get its description without the executors: each
        executor travels beside it.
        """
        self.info = msgspec.structs.replace(info, framework_id=self.framework_id)
        self.launch_info = msgspec.structs.replace(self.info, executors=[])
        self.executors: dict[ExecutorID, LaunchableExecutor] = {}
        for executor in info.executors:
            envelope = m.RunTasks(self.launch_info, executor, [])
            size = len(msgspec.msgpack.encode(envelope)) + 8
            self.executors[executor.executor_id] = LaunchableExecutor(executor, size)

    def why_not_wanting(self) -> str:
        """What keeps all offers from it: `ended`, `no_scheduler`, `scheduler_unresponsive` or `wants_nothing`; empty: nothing,
        it is one of `Cluster.wanting`.
        """
        if self.ended:
            return "ended"
        if self.peer is None:
            return "no_scheduler"
        if self.is_unresponsive:
            return "scheduler_unresponsive"
        return "" if self.needs_offers else "wants_nothing"

    def heed(self, wishes: Wishes) -> None:
        """What its scheduler wants from now on."""
        self.needs_offers = wishes.needs_offers
        self.set_filters(wishes.filters)

    def set_filters(self, filters: Filters) -> None:
        """They must be without fault (`offerd.core.filters`)."""
        self.filters = CompiledFilters(filters)
        self.has_filters = not self.filters.is_empty
        self.filters_bytes = len(msgspec.msgpack.encode(filters))


class Standby:
    """A scheduler that waits for the active one of its framework to go."""

    is_unresponsive = False  # see the others' who say hello; it is offered nothing that it could miss

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
        """Of those that it wishes."""
        return 0 if self.wishes is None else len(msgspec.msgpack.encode(self.wishes.filters))


class Reconciling(NamedTuple):
    """A scheduler has asked for the state of all its tasks, and is yet to be sent these."""

    peer: PeerID
    tasks: deque[Task]


class Asked(NamedTuple):
    """Which operator waits for a recording, and which slave makes it; None: the master itself."""

    peer: PeerID
    slave: Slave | None


class Ramping:
    """Of whom it is to be seen whether they have what is due to them: see `ramp_up`."""

    def __init__(self) -> None:
        self.first_wishes: list[Framework] = []  # of frameworks that began with us, in this turn
        self.frameworks: dict[FrameworkID, Framework] = {}
        self.not_before = 0.0


class Cluster:
    """Everything a master knows and the actions it has decided on. The handlers of each subject work on it."""

    def __init__(
        self, settings: Settings, master_id: str, epoch: int, allocator: Allocator, now: float
    ) -> None:
        self.settings = settings
        self.master_id = master_id
        self.epoch = epoch
        self._id_epoch = epoch  # stays in ids, whatever epoch we come to speak in
        self.use_allocator(allocator)
        self.started_at = now
        self.out: list[Action] = []
        self.hold_until = 0.0  # no offers before: see `recovery`
        self.revoke_not_before = 0.0  # the same of revocations
        self.peers: dict[PeerID, Slave | Framework | Standby] = {}
        self.slaves: dict[SlaveID, Slave] = {}
        self.lost_slaves: dict[SlaveID, Slave] = {}
        # What was `reported_lost` with slaves that are remembered no more.
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
        # Slaves with something free that nobody wanted when it was last offered around.
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
        self.failed_messages = 0  # of peers: what they brought about was an error of ours
        self.unsent_messages = 0  # of ours: no frame could hold them
        self.refused = 0  # handshakes and messages that keys do not allow
        self.principals: dict[str, Principal] | None = None  # by name; None where peers have none
        self.authorized: dict[str, Principal] = {}  # the same by key
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
        """From now on; it knows nobody yet. What the settings guarantee and limit is laid around it."""
        self.allocator = with_entitlements(module, self.settings.policy)
        self.entitlements = self.allocator if isinstance(self.allocator, Entitlements) else None

    def add_total(self, resources: Resources) -> None:
        """A slave has come."""
        self._change_total(resources, 1)
        self.allocator.add_total(resources)

    def remove_total(self, resources: Resources) -> None:
        """A slave has gone."""
        self._change_total(resources, -1)
        self.allocator.remove_total(resources)

    def _change_total(self, resources: Resources, sign: int) -> None:
        for name, amount in resources.quantities().items():
            self.total[name] = self.total.get(name, 0) + sign * amount
            if not self.total[name]:
                del self.total[name]

    def add_account(self, framework: Framework) -> None:
        """Have the framework charged from now on. One that has ended has no part of a guarantee any more."""
        self.allocator.add_framework(framework.framework_id, framework.info.role, framework.info.name)
        if framework.ended and self.entitlements is not None:
            self.entitlements.forgo_guarantee(framework.framework_id)

    def new_id(self, kind: str, owner: str) -> str:
        """The next id of a kind (F or S): unique also across masters, by the epoch in it. It ends with its owner's name, if
        there is one: where peers have keys.
        """
        self._numbers[kind] = number = self._numbers[kind] + 1
        return f"{kind}-{self._id_epoch:x}-{number:04d}{f'@{owner}' if owner else ''}"

    def new_offer_id(self) -> OfferID:
        """The same for the kind of which there are most."""
        numbers = self._numbers
        numbers["O"] = number = numbers["O"] + 1
        return OfferID(
            f"{self._offer_prefix}{number:04d}" if number < 1000 else f"{self._offer_prefix}{number}"
        )

    def send(self, peer: PeerID | None, message: m.Message) -> None:
        """Send, if there is somebody to send to."""
        if peer is not None:
            self.out.append(Send(peer, message))

    def log(self, text: str, level: str = "info") -> None:
        self.out.append(Log(level, text))

    def drop(self, peer: PeerID, why: str) -> None:
        self.out.append(Drop(peer, why))

    def heed_epoch(self, seen: int, ahead: int) -> None:
        """A slave or scheduler with a good hello says whom it has obeyed."""
        if self.epoch < seen < max(self._id_epoch, LEAST_NOW) + ahead:
            self.out.append(LaterEpochSeen(seen))

    def mark_dirty(self, slave: Slave) -> None:
        """Something became free, or somebody may want it now."""
        if not slave.why_out():
            self.dirty[slave.slave_id] = slave
            if self.idle:
                self.idle.pop(slave.slave_id, None)

    def mark_idle_dirty(self) -> None:
        """Somebody may want now what nobody wanted."""
        self.dirty.update(self.idle)
        self.idle.clear()

    def unmark(self, slave: Slave) -> None:
        """Nothing of it can be offered."""
        self.dirty.pop(slave.slave_id, None)
        self.idle.pop(slave.slave_id, None)

    def update_wanting(self, framework: Framework) -> None:
        """Keep `wanting`, the frameworks that may be offered something, in step."""
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
        """The frameworks that the caller means by an id or a name: of a name those that have not ended."""
        return [
            framework
            for framework in self.frameworks.values()
            if caller.sees(framework.framework_id)
            and (wanted == framework.framework_id or (wanted == framework.info.name and not framework.ended))
        ]

    def slaves_named(self, name: str) -> list[Slave]:
        """The slave of this id, or those of this hostname."""
        by_id = self.slaves.get(SlaveID(name))
        if by_id is not None:
            return [by_id]
        return [slave for slave in self.slaves.values() if slave.info.hostname == name]

    def is_own_id(self, framework_id: FrameworkID) -> bool:
        """Whether this master, and not one before it, gave the id."""
        return framework_id.startswith(f"F-{self._id_epoch:x}-")

    def may_return(self, framework_id: FrameworkID, now: float) -> bool:
        """Whether a framework of a master before this one, or slaves with tasks of it, may still be on their way back."""
        return now - self.started_at < self.settings.adoption_grace_s and not self.is_own_id(framework_id)
