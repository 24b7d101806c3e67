"""The cluster as its master knows it: slaves, frameworks, running tasks, open offers, and the actions decided on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from offerd import messages as m
from offerd.core.timers import Timers
from offerd.ids import FrameworkID, OfferID, PeerID, SlaveID, TaskID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.entitlements import Entitlements, with_entitlements
from offerd_master.core.actions import Action, Drop, LaterEpochSeen, Log, Send
from offerd_master.core.budgets import Budgets
from offerd_master.core.caller import Caller
from offerd_master.core.change_index import ChangeIndex
from offerd_master.core.counts import Counts
from offerd_master.core.events import Measured
from offerd_master.core.history import History
from offerd_master.core.registry import InHand, Order, Registry
from offerd_master.core.state import (
    Framework,
    OutstandingOffer,
    Revocation,
    Shortage,
    Slave,
    Standby,
    Task,
)
from offerd_master.principals import Principal
from offerd_master.settings import MasterSettings

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

MAX_INFO_BYTES = 64 << 10
"""Longest description of a framework (without its executors) or of a slave, as encoded."""

Due = Callable[["Cluster", Any, float], None]
"""What a timer calls: with the cluster, a subject and now."""


class Reconciling(NamedTuple):
    """A scheduler has asked for the states of all its tasks, and these are still to be sent."""

    peer: PeerID
    tasks: deque[Task]


class Asked(NamedTuple):
    """The operator who waits for a recording until `until`, and the slave that makes it; None: the master itself."""

    peer: PeerID
    slave: Slave | None
    until: float


class Ramping:
    """Frameworks that may not have their fair share yet: see `ramp_up`."""

    def __init__(self) -> None:
        self.first_wishes: list[Framework] = []  # of frameworks that began with this master, in this turn
        self.frameworks: dict[FrameworkID, Framework] = {}
        self.not_before = 0.0


class Cluster:
    """Everything that a master knows, and the actions that it has decided on. The handlers of all subjects work on it."""

    def __init__(
        self, settings: MasterSettings, master_id: str, epoch: int, allocator: Allocator, now: float
    ) -> None:
        self.settings = settings
        self.master_id = master_id
        self.epoch = epoch
        self._id_epoch = epoch  # part of ids; stays when the epoch rises
        self.use_allocator(allocator)
        self.started_at = now
        self.out: list[Action] = []
        self.hold_until = self.revoke_not_before = (
            0.0  # no offers, no revocations before then: see `recovery`
        )
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
        self.tasks_running = self.tasks_ended = 0
        self.counts, self.measured = Counts(), Measured()  # `measured`: the latest that the daemon has said
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
        self.changes = ChangeIndex(settings.max_ended_tasks)
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
