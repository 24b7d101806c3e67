"""What a scheduler's driver knows and decides, without socket, thread or clock.

Owned here: registration and its renewal, which offers are open, and what must be sent again to a master that forgot it;
`scheduler_tasks` has what is known of tasks. A driver feeds in messages, the user's orders and the time, and performs the
actions that come out, in their order.
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
from offerd.resources import Resources
from offerd.wire.files_messages import FilesRenewed

HELLO_INTERVAL_S = 2.0
"""How long a hello may go unanswered before it is said again."""
HELLO_AGAIN_S = 0.2
"""After a master has said that it does not lead."""
MISSED_PINGS = 3
"""Intervals without a word after which the master counts as gone."""
BROKEN_LINK_HELLO_S = 60.0
"""The same while there is no connection: the connection made says when, this is for one that we were not told of."""
RECONCILE_DELAY_S = 15.0
"""From a registration renewed to asking after tasks in doubt: a new master first has to hear from its slaves."""
SILENCE_ROUND_S = 60.0
"""A task that is silent for this long at least, and twice that at most, is asked after."""

_NOTHING: list[Action] = []


class SchedulerCore:
    """One scheduler's end of the protocol. `handle` and `tick` return what is to be done, in order.

    `scheduler_id`: of this scheduler alone; by it a master knows it again behind another connection. `stands_by`: whether to
    wait where another scheduler of the framework is active, and not to take over. `finds_leader`: whether ZooKeeper says where
    the master is.
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
        """Longest fail-over time-out that the master grants; 0 if it has not said."""
        self.epoch = 0
        self.is_registered = False
        self.was_registered = False
        """Whether a master has ever answered: from then on silence is waited out, before it is an error."""
        self.offers: dict[OfferID, Offer] = {}
        """The offers that are open: neither answered nor rescinded."""
        self.files: dict[SlaveID, FilesAccess] = {}
        """The newest access to each slave's files."""
        self.failed_messages = 0
        """Of masters: what they brought about was an error of ours."""
        self._scheduler_id = scheduler_id
        self._stands_by = stands_by
        self._finds_leader = finds_leader
        self._reconcile_delay_s = reconcile_delay_s
        self._ping_interval_s = 5.0
        self._is_linked = True
        self._heard = 0.0
        self._hello_at = 0.0
        self._reconcile_at: float | None = None
        self._doubt_at = 0.0
        self._needs_offers = True
        self._filters = Filters()
        self._said = (True, Filters())  # in the last hello
        self._since: float | None = None  # the framework is registered
        self._held: list[Message] = []
        self._tasks = SchedulerTasks()
        self._handlers = self._make_handlers()

    def _make_handlers(self) -> dict[type, Callable[[Any, float], list[Action]]]:
        """What takes each kind of message."""
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
        """Whether a master knows us, if only as one who stands by."""
        return self.is_registered or self.is_standing_by

    @property
    def in_flight(self) -> int:
        """How many tasks are launched and have not ended."""
        return self._tasks.in_flight

    @property
    def tasks_ended(self) -> int:
        """How many tasks have had a terminal status so far."""
        return self._tasks.ended_count

    # -- what happens -------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Say the first hello."""
        self._heard = now
        self._doubt_at = now + SILENCE_ROUND_S
        return self._hello(now)

    def obeys(self, epoch: int) -> bool:
        """Whether what a master of this epoch says counts: one older than a master heard before leads no more."""
        if 0 < epoch < self.epoch:
            return False
        self.epoch = max(epoch, self.epoch)
        return True

    def handle(self, message: object, now: float) -> list[Action]:
        """A message from the master."""
        self._heard = now
        return self._handlers[type(message)](message, now)

    def tick(self, now: float) -> list[Action]:
        """What time alone brings about. Cheap when that is nothing."""
        self._tasks.forget_oldest()
        if now < self.next_deadline():
            return _NOTHING
        if not self.is_registered:
            return self._hello(now) if now >= self._hello_at else _NOTHING
        if now >= self._heard + MISSED_PINGS * self._ping_interval_s:
            return self.lose_master(now)
        if now >= self._doubt_at:
            self._doubt_silent(now)
        if self._reconcile_at is not None and now >= self._reconcile_at:
            return self._ask_after_doubtful(now)
        return _NOTHING

    def _ask_after_doubtful(self, now: float) -> list[Action]:
        """Again and again until all are heard of: a new master is silent while their slaves may yet come back."""
        doubtful = self._tasks.doubtful()
        if not doubtful:
            self._reconcile_at = None
            return _NOTHING
        self._reconcile_at = now + self._reconcile_delay_s
        return self.reconcile_tasks(doubtful, now)

    def next_deadline(self) -> float:
        """When `tick` has something to do at the latest."""
        if not self.is_registered:
            return self._hello_at
        deadline = min(self._heard + MISSED_PINGS * self._ping_interval_s, self._doubt_at)
        return deadline if self._reconcile_at is None else min(deadline, self._reconcile_at)

    def lose_master(self, now: float) -> list[Action]:
        """What was sent last may not have arrived: offers are void, and a hello renews the registration."""
        return [*self._disconnect(), *self._hello(now)]

    def failed(self, now: float) -> list[Action]:
        """What the last message brought about was an error of ours: that costs the registration, and no more."""
        self.failed_messages += 1
        return self.lose_master(now)

    def link_changed(self, is_up: bool, now: float) -> list[Action]:
        """The connection was made or lost. Whoever is at its other end now has to be told who we are."""
        was_up, self._is_linked = self._is_linked, is_up
        if is_up:
            return _NOTHING if was_up else self._hello(now)
        self._hello_at = now + BROKEN_LINK_HELLO_S
        return self._disconnect()

    def delivered(self, status: TaskStatus) -> None:
        """The user's code has seen this status."""
        self._tasks.delivered(status)

    def acknowledgements(self) -> list[Message]:
        """What is to be acknowledged, once: one message per slave. Kept while there is no master to send it to."""
        return self._tasks.acknowledgements(self.framework_id) if self.is_registered else []

    # -- what the user orders -----------------------------------------------------------------------------------------

    def reply_to_offer(
        self, offer_ids: list[OfferID], tasks: list[TaskInfo], refuse_seconds: float, now: float
    ) -> list[Action]:
        """Launch the tasks on these offers. Without a master they are lost at once: the offers went with it."""
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
        """No message holds what was ordered: tasks of it fail, and what they were to run on is free again."""
        if not isinstance(message, AcceptOffers):
            return _NOTHING
        statuses = [cannot_be_sent(task.task_id, why) for task in message.tasks]
        ends = [self._status_update(StatusUpdate(self.framework_id, status), now) for status in statuses]
        return [Send(DeclineOffers(message.offer_ids, 0.0)), *itertools.chain(*ends)]

    def decline_offer(self, offer_ids: list[OfferID], refuse_seconds: float, now: float) -> list[Action]:
        """Give offers back. Those that are open no more are passed over."""
        declined = [offer_id for offer_id in offer_ids if self.offers.pop(offer_id, None) is not None]
        return [Send(DeclineOffers(part, refuse_seconds)) for part in in_parts(declined)]

    def set_needs_offers(self, needs_offers: bool, now: float) -> list[Action]:
        """Remembered, and said to every new master in the hello. In line for being active, another hello says it."""
        self._needs_offers = needs_offers
        return self._wish(SetNeedsOffers(needs_offers), now)

    def set_filters(self, filters: Filters, now: float) -> list[Action]:
        """The same."""
        self._filters = filters
        return self._wish(SetFilters(filters), now)

    def revive_offers(self, now: float) -> list[Action]:
        """Take back all refusals and an earlier `set_needs_offers(False)`; a new master knows of none."""
        self._needs_offers = True
        return self._wish(ReviveOffers(), now)

    def _wish(self, wish: Message, now: float) -> list[Action]:
        if self.is_standing_by:
            return self._hello(now)
        return [Send(wish)] if self.is_registered else _NOTHING

    def kill_task(self, task_id: TaskID, grace_s: float | None, now: float) -> list[Action]:
        """Remembered until the task ends, and said again after a renewed registration: the order may have been lost."""
        order = KillTask(self.framework_id, task_id, grace_s=grace_s)
        if self._tasks.is_live(task_id):
            self._tasks.kills[task_id] = order
            return [Send(order)] if self.is_registered else _NOTHING
        return self._send_or_hold([order])

    def reconcile_tasks(self, task_ids: list[TaskID], now: float) -> list[Action]:
        """Ask for the state of these tasks, or of all if there are none."""
        parts = in_parts(task_ids) if task_ids else [task_ids]
        return self._send_or_hold(ReconcileTasks(part) for part in parts)

    def send_framework_message(
        self, slave_id: SlaveID, executor_id: ExecutorID, data: bytes, now: float
    ) -> list[Action]:
        """Best effort: without a master it is lost."""
        if not self.is_registered:
            return _NOTHING
        return [Send(FrameworkMessage(self.framework_id, slave_id, executor_id, data))]

    def ask_guaranteed_share(self, now: float) -> list[Action]:
        return self._send_or_hold([GetGuaranteedShare()])

    def ask_waiting(
        self, wanted: Resources, time_limit_s: float | None, count: int, per_slave: int, now: float
    ) -> list[Action]:
        """Nothing comes back unless registered: the caller checks."""
        question = ExplainWaiting(self.framework_id, wanted, time_limit_s, count=count, per_slave=per_slave)
        return self._send_or_hold([question])

    def teardown(self, now: float) -> list[Action]:
        """The framework ends; of one that stands by only its place in line."""
        return [Send(TeardownFramework())] if self.is_registered else self.fail_over(now)

    def fail_over(self, now: float) -> list[Action]:
        """This scheduler goes, the framework stays."""
        return [Send(FailOver())] if self.is_registered or self.is_standing_by else []

    # -- registration -------------------------------------------------------------------------------------------------

    def _hello(self, now: float) -> list[Action]:
        self._hello_at = now + HELLO_INTERVAL_S
        hello = RegisterFramework(
            self.framework,
            epoch=self.epoch,
            stands_by=self._stands_by,
            was_active=self._is_active_to_last_master,
            scheduler_id=self._scheduler_id,
            needs_offers=self._needs_offers,
            filters=self._filters,
            since_s=0.0 if self._since is None else max(0.0, now - self._since),
        )
        self._said = (hello.needs_offers, hello.filters)
        return [Send(self._tasks.name_lost(hello))]

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
        # The answer to a hello said twice: for the master a new beginning, which voids offers and forgets settings.
        is_repeated = self.is_registered and message.framework_id == self.framework_id
        self.is_standing_by = False
        self._is_active_to_last_master = True
        actions = self._rescind_all()
        self.framework_id = message.framework_id
        self.framework = msgspec.structs.replace(self.framework, framework_id=message.framework_id)
        self.is_registered = True
        if self._since is None:
            self._since = now - message.since_s
        # What the hello did not say, or was said to a master of a time when hellos did not.
        needs_offers, filters = self._said if message.heeds_wishes else (True, Filters())
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
        """Another scheduler is active, perhaps where we were until now. We hear when we are, or that the master is gone."""
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
        self._hello_at = now + MISSED_PINGS * self._ping_interval_s
        if is_news:
            actions.append(Call("standing_by", (message.framework_id, message.master_id)))
        return actions

    def _not_registered(self, message: NotRegistered, now: float) -> list[Action]:
        # Every message to a master that does not know us is answered so; the hello under way settles them all.
        if not self.is_registered and not self.is_standing_by and now < self._hello_at:
            return _NOTHING
        return self.lose_master(now)

    def _not_leading(self, message: NotLeading, now: float) -> list[Action]:
        """One that was named by its address. One that ZooKeeper named is about to hear that it leads."""
        if self.was_registered or self._finds_leader:
            self._hello_at = now + HELLO_AGAIN_S
            return _NOTHING
        leader = message.leader.removeprefix("tcp://")
        text = f"this master stands by; {leader} leads: name the masters by their ZooKeeper, as zk://HOST:PORT/path"
        return [End(Reason.MASTER_STANDS_BY, text)]

    def _framework_refused(self, message: FrameworkRefused, now: float) -> list[Action]:
        return [End(message.reason, message.message)]

    def _dropped(self, message: Dropped, now: float) -> list[Action]:
        return [End(Reason.MESSAGE_INVALID, f"the master has hung up on this scheduler: {message.why}")]

    def _ping(self, message: Ping, now: float) -> list[Action]:
        if self.is_standing_by:
            self._hello_at = now + MISSED_PINGS * self._ping_interval_s
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
        # An offer answered meanwhile: the master's answer to the reply says what became of its tasks.
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
