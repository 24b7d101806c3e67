"""The deterministic part of a scheduler's driver: no socket, thread or clock.

It keeps the registration and renews it, and knows which offers are open and what must be sent again to a master that lost it;
`scheduler_tasks` keeps the tasks. A driver gives it messages, the user's orders and the time, and performs the actions that it
returns, in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from offerd.core.own_statuses import cannot_be_sent, lost_without_master
from offerd.core.scheduler_actions import Action as Action
from offerd.core.scheduler_actions import Answer as Answer
from offerd.core.scheduler_actions import Call as Call
from offerd.core.scheduler_actions import Deliver as Deliver
from offerd.core.scheduler_actions import End as End
from offerd.core.scheduler_actions import Send as Send
from offerd.core.scheduler_tasks import SchedulerTasks, in_parts
from offerd.files_access import FilesAccess
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import (
    AcceptOffers,
    DeclineOffers,
    Dropped,
    ExecutorLost,
    FailOver,
    Filters,
    FrameworkInfo,
    FrameworkMessage,
    FrameworkRefused,
    FrameworkRegistered,
    FrameworkStandsBy,
    GetGuaranteedShare,
    GuaranteedShare,
    KillTask,
    Message,
    NotLeading,
    NotRegistered,
    Offer,
    Ping,
    Pong,
    Reason,
    ReconcileTasks,
    RegisterFramework,
    RescindOffer,
    ResourceOffers,
    ReviveOffers,
    RevocationNotice,
    SetFilters,
    SetNeedsOffers,
    SlaveLost,
    StatusUpdate,
    TaskInfo,
    TaskStatus,
    TeardownFramework,
)
from offerd.operator_messages import ExplainWaiting, Waiting
from offerd.protocol.files_messages import FilesRenewed
from offerd.resources import Resources

REGISTER_INTERVAL_S = 2.0
"""A registration that is not answered is sent again after this time."""
REGISTER_SOON_S = 0.2
"""The same, when the master has answered that it does not lead."""
MISSED_PINGS = 3
"""The master counts as gone after so many ping intervals without a message."""
BROKEN_LINK_REGISTER_S = 60.0
"""A new connection starts a new registration. While there is none, one is sent after this time in case its report is missed."""
RECONCILE_DELAY_S = 15.0
"""From a renewed registration to asking about tasks in doubt: a new master must first hear from its slaves."""
SILENCE_ROUND_S = 60.0
"""A launched task without any status is asked about after one to two times this time."""

_NOTHING: list[Action] = []


class SchedulerCore:
    """One scheduler's end of the protocol. `handle` and `tick` return actions, in order.

    `scheduler_id` identifies this scheduler to a master that sees it on another connection. `stands_by`: if another scheduler
    of the framework is active, wait instead of taking over. `finds_leader`: ZooKeeper says which master leads.
    """

    def __init__(
        self,
        framework: FrameworkInfo,
        *,
        scheduler_id: str = "",
        stands_by: bool = False,
        finds_leader: bool = False,
        reconcile_delay_s: float = RECONCILE_DELAY_S,
    ) -> None:
        self.framework = framework
        self.framework_id: FrameworkID = framework.framework_id
        self.is_standing_by = False
        self._was_active = False
        self._is_active_to_last_master = False
        self.master_id = ""
        self.max_failover_s = 0.0
        """The longest fail-over time-out that the master grants; 0 if unknown."""
        self.epoch = 0
        self.is_registered = False
        self.was_registered = False
        """Whether a master has ever answered. After that, a silent master is waited for; before, it is an error."""
        self.offers: dict[OfferID, Offer] = {}
        """The open offers: neither answered nor rescinded."""
        self.files: dict[SlaveID, FilesAccess] = {}
        """The newest access to each slave's files."""
        self.failed_messages = 0
        """How many messages from masters could not be handled because of an error of ours."""
        self._scheduler_id = scheduler_id
        self._stands_by = stands_by
        self._finds_leader = finds_leader
        self._reconcile_delay_s = reconcile_delay_s
        self._ping_interval_s = 5.0
        self._is_linked = True
        self._heard = 0.0
        self._register_at = 0.0
        self._reconcile_at: float | None = None
        self._doubt_at = 0.0
        self._needs_offers = True
        self._filters = Filters()
        self._sent_wishes = (True, Filters())  # needs_offers and filters in the last registration
        self._since: float | None = None  # when the framework first registered
        self._held: list[Message] = []
        self._tasks = SchedulerTasks()
        self._handlers = self._make_handlers()

    def _make_handlers(self) -> dict[type, Callable[[Any, float], list[Action]]]:
        """The method that handles each kind of message."""
        return {
            StatusUpdate: self._status_update,
            ResourceOffers: self._resource_offers,
            RescindOffer: self._rescind_offer,
            Ping: self._ping,
            FrameworkRegistered: self._framework_registered,
            FrameworkRefused: self._framework_refused,
            FrameworkStandsBy: self._framework_stands_by,
            NotRegistered: self._not_registered,
            NotLeading: self._not_leading,
            Dropped: self._dropped,
            SlaveLost: self._slave_lost,
            ExecutorLost: self._executor_lost,
            FrameworkMessage: self._framework_message,
            GuaranteedShare: self._answer,
            RevocationNotice: self._revocation_notice,
            Waiting: self._answer,
            FilesRenewed: self._files_renewed,
        }

    @property
    def is_heard(self) -> bool:
        """Whether a master knows this scheduler, as active or standing by."""
        return self.is_registered or self.is_standing_by

    @property
    def in_flight(self) -> int:
        """How many tasks are launched and have not ended."""
        return self._tasks.in_flight

    @property
    def tasks_ended(self) -> int:
        """How many tasks have had a terminal status so far."""
        return self._tasks.ended_count

    # -- events -------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Send the first registration."""
        self._heard = now
        self._doubt_at = now + SILENCE_ROUND_S
        return self._register(now)

    def obeys(self, epoch: int) -> bool:
        """Whether to obey a master of this epoch; not if one of a later epoch has been heard."""
        if 0 < epoch < self.epoch:
            return False
        self.epoch = max(epoch, self.epoch)
        return True

    def handle(self, message: object, now: float) -> list[Action]:
        """Handle a message from the master."""
        self._heard = now
        return self._handlers[type(message)](message, now)

    def tick(self, now: float) -> list[Action]:
        """Do what is due. Cheap if nothing is."""
        self._tasks.forget_oldest()
        if now < self.next_deadline():
            return _NOTHING
        if not self.is_registered:
            return self._register(now) if now >= self._register_at else _NOTHING
        if now >= self._heard + MISSED_PINGS * self._ping_interval_s:
            return self.lose_master(now)
        if now >= self._doubt_at:
            self._doubt_silent(now)
        if self._reconcile_at is not None and now >= self._reconcile_at:
            return self._ask_after_doubtful(now)
        return _NOTHING

    def _ask_after_doubtful(self, now: float) -> list[Action]:
        """Ask again until there is news of all: a new master does not answer while their slaves may still come back."""
        doubtful = self._tasks.doubtful()
        if not doubtful:
            self._reconcile_at = None
            return _NOTHING
        self._reconcile_at = now + self._reconcile_delay_s
        return self.reconcile_tasks(doubtful, now)

    def next_deadline(self) -> float:
        """When `tick` must be called at the latest."""
        if not self.is_registered:
            return self._register_at
        deadline = min(self._heard + MISSED_PINGS * self._ping_interval_s, self._doubt_at)
        return deadline if self._reconcile_at is None else min(deadline, self._reconcile_at)

    def lose_master(self, now: float) -> list[Action]:
        """The last messages may not have arrived: rescind all offers and register again."""
        return [*self._disconnect(), *self._register(now)]

    def failed(self, now: float) -> list[Action]:
        """An error of ours prevented handling the last message: register again."""
        self.failed_messages += 1
        return self.lose_master(now)

    def link_changed(self, is_up: bool, now: float) -> list[Action]:
        """The connection was made or lost. A new connection may lead to a master that does not know this scheduler."""
        was_up, self._is_linked = self._is_linked, is_up
        if is_up:
            return _NOTHING if was_up else self._register(now)
        self._register_at = now + BROKEN_LINK_REGISTER_S
        return self._disconnect()

    def delivered(self, status: TaskStatus) -> None:
        """The user's code has seen this status: acknowledge it."""
        self._tasks.delivered(status)

    def acknowledgements(self) -> list[Message]:
        """The acknowledgements to send now. They are kept while there is no master."""
        return self._tasks.acknowledgements(self.framework_id) if self.is_registered else []

    # -- the user's orders --------------------------------------------------------------------------------------------

    def reply_to_offer(
        self, offer_ids: list[OfferID], tasks: list[TaskInfo], refuse_seconds: float, now: float
    ) -> list[Action]:
        """Launch the tasks on these offers. Without a master they are lost at once, as the offers are void."""
        if not self.is_registered:
            lost: list[Action] = []
            for task in tasks:
                self._tasks.end_unsent(task.task_id)
                lost.append(Deliver(lost_without_master(task.task_id)))
            return lost
        slave_id = SlaveID("")
        for offer_id in offer_ids:
            offer = self.offers.pop(offer_id, None)
            if offer is not None:
                slave_id = offer.slave_id
        self._tasks.launch(tasks, slave_id)
        return [Send(AcceptOffers(offer_ids, tasks, refuse_seconds))]

    def not_sent(self, message: Message, why: str, now: float) -> list[Action]:
        """An order does not fit into a message: its tasks fail, and their offers are declined."""
        if not isinstance(message, AcceptOffers):
            return _NOTHING
        statuses = [cannot_be_sent(task.task_id, why) for task in message.tasks]
        ends = [self._status_update(StatusUpdate(self.framework_id, status), now) for status in statuses]
        return [Send(DeclineOffers(message.offer_ids, 0.0)), *itertools.chain(*ends)]

    def decline_offer(self, offer_ids: list[OfferID], refuse_seconds: float, now: float) -> list[Action]:
        """Give offers back; those that are no longer open are skipped."""
        declined = [offer_id for offer_id in offer_ids if self.offers.pop(offer_id, None) is not None]
        return [Send(DeclineOffers(part, refuse_seconds)) for part in in_parts(declined)]

    def set_needs_offers(self, needs_offers: bool, now: float) -> list[Action]:
        """Remembered, and sent with each registration. A scheduler that stands by registers again to send it."""
        self._needs_offers = needs_offers
        return self._wish(SetNeedsOffers(needs_offers), now)

    def set_filters(self, filters: Filters, now: float) -> list[Action]:
        """The same for filters."""
        self._filters = filters
        return self._wish(SetFilters(filters), now)

    def revive_offers(self, now: float) -> list[Action]:
        """Take back all refusals and `set_needs_offers(False)`. Not remembered: a new master knows of no refusals."""
        self._needs_offers = True
        return self._wish(ReviveOffers(), now)

    def _wish(self, wish: Message, now: float) -> list[Action]:
        if self.is_standing_by:
            return self._register(now)
        return [Send(wish)] if self.is_registered else _NOTHING

    def kill_task(self, task_id: TaskID, grace_s: float | None, now: float) -> list[Action]:
        """Remembered until the task ends, and sent again after a renewed registration: the first may have been lost."""
        order = KillTask(self.framework_id, task_id, grace_s=grace_s)
        if self._tasks.is_live(task_id):
            self._tasks.kills[task_id] = order
            return [Send(order)] if self.is_registered else _NOTHING
        return self._send_or_hold([order])

    def reconcile_tasks(self, task_ids: list[TaskID], now: float) -> list[Action]:
        """Ask for the states of these tasks, or of all tasks if there are none here."""
        parts = in_parts(task_ids) if task_ids else [task_ids]
        return self._send_or_hold(ReconcileTasks(part) for part in parts)

    def send_framework_message(
        self, slave_id: SlaveID, executor_id: ExecutorID, data: bytes, now: float
    ) -> list[Action]:
        """Best effort: dropped without a master."""
        if not self.is_registered:
            return _NOTHING
        return [Send(FrameworkMessage(self.framework_id, slave_id, executor_id, data))]

    def ask_guaranteed_share(self, now: float) -> list[Action]:
        return self._send_or_hold([GetGuaranteedShare()])

    def ask_waiting(
        self, wanted: Resources, time_limit_s: float | None, count: int, per_slave: int, now: float
    ) -> list[Action]:
        """The caller checks that there is a registration; without one there is no answer."""
        question = ExplainWaiting(self.framework_id, wanted, time_limit_s, count=count, per_slave=per_slave)
        return self._send_or_hold([question])

    def teardown(self, now: float) -> list[Action]:
        """End the framework. If this scheduler stands by, only its place in line is given up."""
        return [Send(TeardownFramework())] if self.is_registered else self.fail_over(now)

    def fail_over(self, now: float) -> list[Action]:
        """End this scheduler, but not the framework."""
        return [Send(FailOver())] if self.is_registered or self.is_standing_by else []

    # -- registration -------------------------------------------------------------------------------------------------

    def _register(self, now: float) -> list[Action]:
        self._register_at = now + REGISTER_INTERVAL_S
        registration = RegisterFramework(
            self.framework,
            epoch=self.epoch,
            stands_by=self._stands_by,
            was_active=self._is_active_to_last_master,
            scheduler_id=self._scheduler_id,
            needs_offers=self._needs_offers,
            filters=self._filters,
            since_s=0.0 if self._since is None else max(0.0, now - self._since),
        )
        self._sent_wishes = (registration.needs_offers, registration.filters)
        return [Send(self._tasks.name_lost(registration))]

    def _disconnect(self) -> list[Action]:
        self.is_standing_by = False
        if not self.is_registered:
            return []
        self.is_registered = False
        self._reconcile_at = None
        return [*self._rescind_all(), Call("disconnected")]

    def _rescind_all(self) -> list[Action]:
        rescinded: list[Action] = [Call("offer_rescinded", (offer_id,)) for offer_id in self.offers]
        self.offers.clear()
        return rescinded

    def _framework_registered(self, message: FrameworkRegistered, now: float) -> list[Action]:
        self._ping_interval_s = message.ping_interval_s
        self.max_failover_s = message.max_failover_s
        self.master_id = message.master_id
        # A second answer, to a registration sent twice. For the master it began anew, without our offers and settings.
        is_repeated = self.is_registered and message.framework_id == self.framework_id
        self.is_standing_by = False
        self._is_active_to_last_master = True
        actions = self._rescind_all()
        self.framework_id = message.framework_id
        self.framework = msgspec.structs.replace(self.framework, framework_id=message.framework_id)
        self.is_registered = True
        if self._since is None:
            self._since = now - message.since_s
        # Settings that the registration did not carry, or that an older master does not read from it.
        needs_offers, filters = self._sent_wishes if message.heeds_wishes else (True, Filters())
        if self._needs_offers != needs_offers:
            actions.append(Send(SetNeedsOffers(self._needs_offers)))
        if self._filters != filters:
            actions.append(Send(SetFilters(self._filters)))
        kills = (
            msgspec.structs.replace(kill, framework_id=self.framework_id)
            for kill in self._tasks.kills.values()
        )
        actions += [Send(kill) for kill in kills]
        actions += [Send(held) for held in self._held]
        self._held.clear()
        if is_repeated:
            return actions
        self.was_registered = True
        if self._was_active:
            self._tasks.doubt_all()
            self._reconcile_at = now + self._reconcile_delay_s
            actions.append(Call("reregistered", (message.master_id,)))
        else:
            self._was_active = True
            actions.append(Call("registered", (message.framework_id, message.master_id)))
        return actions

    def _framework_stands_by(self, message: FrameworkStandsBy, now: float) -> list[Action]:
        """Another scheduler is active, perhaps in our place. The master says when we are; if it is gone, we register again."""
        actions = self._disconnect()
        is_news = (
            self.master_id != message.master_id or self._is_active_to_last_master or not self.was_registered
        )
        self.master_id = message.master_id
        self.was_registered = True
        self.is_standing_by = True
        if self._since is None:
            self._since = now - message.since_s
        self._is_active_to_last_master = False
        self._ping_interval_s = message.ping_interval_s
        self.framework_id = message.framework_id
        self.framework = msgspec.structs.replace(self.framework, framework_id=message.framework_id)
        self._register_at = now + MISSED_PINGS * self._ping_interval_s
        if is_news:
            actions.append(Call("standing_by", (message.framework_id, message.master_id)))
        return actions

    def _not_registered(self, message: NotRegistered, now: float) -> list[Action]:
        # A master that does not know us answers every message so; the registration that is under way settles all of them.
        if not self.is_registered and not self.is_standing_by and now < self._register_at:
            return _NOTHING
        return self.lose_master(now)

    def _not_leading(self, message: NotLeading, now: float) -> list[Action]:
        """This is fatal for a master named by its address. One that ZooKeeper names will know in a moment that it leads."""
        if self.was_registered or self._finds_leader:
            self._register_at = now + REGISTER_SOON_S
            return _NOTHING
        leader = message.leader.removeprefix("tcp://")
        text = f"this master stands by; {leader} leads: name the masters by their ZooKeeper, as zk://HOST:PORT/path"
        return [End(Reason.MASTER_STANDS_BY, text)]

    def _framework_refused(self, message: FrameworkRefused, now: float) -> list[Action]:
        return [End(message.reason, message.message)]

    def _dropped(self, message: Dropped, now: float) -> list[Action]:
        return [
            End(
                Reason.MESSAGE_INVALID,
                f"the master has closed the connection to this scheduler: {message.why}",
            )
        ]

    def _ping(self, message: Ping, now: float) -> list[Action]:
        if self.is_standing_by:
            self._register_at = now + MISSED_PINGS * self._ping_interval_s
        return [Send(Pong())]

    def _send_or_hold(self, messages: Iterable[Message]) -> list[Action]:
        if self.is_registered:
            return [Send(message) for message in messages]
        self._held.extend(messages)
        return _NOTHING

    # -- offers -------------------------------------------------------------------------------------------------------

    def _resource_offers(self, message: ResourceOffers, now: float) -> list[Action]:
        for offer in message.offers:
            self.offers[offer.offer_id] = offer
            if offer.files.address:
                self.files[offer.slave_id] = offer.files
        return [Call("resource_offers", (message.offers,))]

    def _rescind_offer(self, message: RescindOffer, now: float) -> list[Action]:
        # If we have answered the offer meanwhile, statuses from the master will say what became of its tasks.
        if self.offers.pop(message.offer_id, None) is None:
            return _NOTHING
        return [Call("offer_rescinded", (message.offer_id,))]

    def _files_renewed(self, message: FilesRenewed, now: float) -> list[Action]:
        self.files.update(message.files)
        return _NOTHING

    def _slave_lost(self, message: SlaveLost, now: float) -> list[Action]:
        void = [offer_id for offer_id, offer in self.offers.items() if offer.slave_id == message.slave_id]
        for offer_id in void:
            del self.offers[offer_id]
        rescinded: list[Action] = [Call("offer_rescinded", (offer_id,)) for offer_id in void]
        return [*rescinded, Call("slave_lost", (message.slave_id,))]

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _status_update(self, message: StatusUpdate, now: float) -> list[Action]:
        status = message.status
        return [Deliver(status)] if self._tasks.is_news(status) else _NOTHING

    def _doubt_silent(self, now: float) -> None:
        self._doubt_at = now + SILENCE_ROUND_S
        if self._tasks.doubt_silent() and self._reconcile_at is None:
            self._reconcile_at = now

    def _revocation_notice(self, message: RevocationNotice, now: float) -> list[Action]:
        return [Call("revocation_notice", (message.task_ids, message.grace_s))]

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _executor_lost(self, message: ExecutorLost, now: float) -> list[Action]:
        arguments = (message.slave_id, message.executor_id, message.exit_status, message.message)
        return [Call("executor_lost", arguments)]

    def _framework_message(self, message: FrameworkMessage, now: float) -> list[Action]:
        return [Call("framework_message", (message.slave_id, message.executor_id, message.data))]

    def _answer(self, message: GuaranteedShare | Waiting, now: float) -> list[Action]:
        return [Answer(message)]
