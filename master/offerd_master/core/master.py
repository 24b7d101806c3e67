"""The master as one state machine: events in, actions out.

This file holds only the order of things: who may send which message, which handler takes it, and what a tick does. The handlers
are in the files of their subjects, named after their messages; the state is `Cluster`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import FrameworkID, PeerID
from offerd.protocol import files_messages as fm
from offerd.protocol.change_messages import FollowChanges
from offerd.protocol.recording_messages import EventsRecorded, RecordEvents
from offerd.values.screen_text import printable
from offerd_master.allocation.base import Allocator
from offerd_master.core import (
    accept,
    authorization,
    enrolment,
    failover,
    files,
    following,
    frameworks,
    modes,
    offers,
    queries,
    ramp_up,
    recordings,
    revocation,
    rights,
    slaves,
    starvation,
    tasks,
    terms,
    waiting,
)
from offerd_master.core.actions import Action
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.events import (
    AuthorizedRead,
    ChangeKept,
    EnrolmentRead,
    EpochRaised,
    Event,
    HandlingFailed,
    HandshakeRefused,
    Measured,
    MessagesUnsent,
    PeerDropped,
    Received,
    RecordingWritten,
    Signed,
    TermsChanged,
)
from offerd_master.core.registry import Registry
from offerd_master.core.state import Framework, Slave, Standby
from offerd_master.principals import Principal
from offerd_master.settings import MasterSettings

MAX_WHY = 500
"""Longest reason, in characters, that is sent to a dropped peer."""
OFFER_AGAIN_S = 1.0
"""Pause before offers are made again after a failed tick. Whatever else failed in it is done when it is next due."""


def pong(c: Cluster, sender: Slave | Framework | Standby, message: m.Pong, now: float) -> None:
    """A sign of life. The caller has noted it already."""


REGISTRATIONS: dict[type, Callable[[Cluster, Caller, Any, float], None]] = {
    m.RegisterFramework: frameworks.register_framework,
    m.RegisterSlave: slaves.register_slave,
}
FROM_SCHEDULER: dict[type, Callable[[Cluster, Framework, Any, float], None]] = {
    m.AcceptOffers: accept.accept_offers,
    m.Acknowledge: tasks.acknowledge,
    m.DeclineOffers: offers.decline_offers,
    m.SetNeedsOffers: offers.set_needs_offers,
    m.SetFilters: offers.set_filters,
    m.ReviveOffers: offers.revive_offers,
    m.KillTask: tasks.kill_task,
    m.ReconcileTasks: tasks.reconcile_tasks,
    m.FrameworkMessage: tasks.message_to_executor,
    m.GetGuaranteedShare: frameworks.get_guaranteed_share,
    m.TeardownFramework: frameworks.teardown_framework,
    m.FailOver: failover.fail_over,
    m.Pong: pong,
}
FROM_STANDBY: dict[type, Callable[[Cluster, Standby, Any, float], None]] = {
    m.FailOver: failover.fail_over,
    m.Pong: pong,
}
FROM_SLAVE: dict[type, Callable[[Cluster, Slave, Any, float], None]] = {
    m.StatusUpdate: tasks.status_update,
    m.ExecutorExited: tasks.executor_exited,
    m.SlaveUsage: slaves.slave_usage,
    fm.FilesSecretChanged: files.files_secret_changed,
    EventsRecorded: recordings.events_recorded,
    m.FrameworkMessage: tasks.message_from_executor,
    m.UnregisterSlave: slaves.unregister_slave,
    m.Pong: pong,
}
FROM: dict[type, dict[type, Callable[[Cluster, Any, Any, float], None]]] = {
    Slave: FROM_SLAVE,
    Framework: FROM_SCHEDULER,
    Standby: FROM_STANDBY,
}
QUESTIONS: dict[type, Callable[[Cluster, Caller, Any, float], None]] = {
    om.GetCluster: queries.get_cluster,
    om.GetSlaves: queries.get_slaves,
    om.GetFrameworks: queries.get_frameworks,
    om.GetTasks: queries.get_tasks,
    om.KillAnyTask: queries.kill_any_task,
    om.EndFramework: queries.end_framework,
    om.ExplainWaiting: waiting.explain_waiting,
    om.ChangeSlaveMode: modes.change_slave_mode,
    om.ExplainFramework: starvation.explain_framework,
    om.NewToken: enrolment.order,
    om.RevokeToken: enrolment.order,
    om.RevokeKey: enrolment.order,
    om.Enrol: enrolment.order,
    om.GetTokens: enrolment.get_tokens,
    om.GetKeys: enrolment.get_keys,
    RecordEvents: recordings.record_events,
    FollowChanges: following.follow_changes,
}


class MasterCore:
    """Deterministic: the same events at the same times give the same actions. `now` is seconds on any clock that never goes
    back; `epoch` must be above that of every earlier master.
    """

    def __init__(
        self,
        settings: MasterSettings,
        master_id: str,
        epoch: int,
        allocator: Allocator,
        now: float = 0.0,
        registry: Registry | None = None,
    ) -> None:
        """`registry`: the keys with their owners and rights; None where peers have no keys. From now on only the core changes
        it; others may look things up.
        """
        self.cluster = Cluster(settings, master_id, epoch, allocator, now)
        self.cluster.registry = registry
        if registry is not None:
            terms.authorize(self.cluster, registry.authorized, now)
        self._next_ping = now + settings.ping_interval_s
        revocation.begin(self.cluster, now)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in an event; returns the actions that follow, in order."""
        c = self.cluster
        if isinstance(event, HandlingFailed):
            return self._handling_failed(event, now)
        out: list[Action] = []
        c.out = out
        if type(event) is Received:
            self._take(event.peer, event.message, now, None, event.ip)
            return out
        if type(event) is Signed:
            self._take_signed(event, now)
            return out
        if isinstance(event, HandshakeRefused):
            enrolment.handshake_refused(c, event.who, event.cause)
            return out
        if isinstance(event, TermsChanged):
            terms.change(c, event.settings, event.allocator, now)
            return out
        if isinstance(event, AuthorizedRead):
            enrolment.authorized_read(c, event.principals, now)
            return out
        if isinstance(event, EnrolmentRead):
            enrolment.enrolment_read(c, event.contents, now)
            return out
        if isinstance(event, ChangeKept):
            enrolment.change_kept(c, event.fault, now)
            return out
        if isinstance(event, RecordingWritten):
            recordings.recording_written(c, event)
            return out
        if isinstance(event, EpochRaised):
            c.epoch = event.epoch
            return out
        if isinstance(event, MessagesUnsent):
            c.unsent_messages = event.total
            return out
        if isinstance(event, Measured):
            c.measured = event
            return out
        self._disconnect(event.peer, now)
        if type(event) is PeerDropped:
            c.dropped_peers += 1
            c.send(event.peer, m.Dropped(printable(event.why, MAX_WHY)))
        return out

    def _take(
        self, peer: PeerID, message: m.Message, now: float, principal: Principal | None, ip: str
    ) -> None:
        self.cluster.counts.messages_received += 1
        sender = self.cluster.peers.get(peer)
        if sender is not None:
            handlers: dict[type, Callable[[Cluster, Any, Any, float], None]] = FROM[type(sender)]
            handler = handlers.get(type(message))
            if handler is not None:
                sender.heard = True
                if sender.is_unresponsive:
                    self._hear(sender)
                handler(self.cluster, sender, message, now)
                return
        self._from_anyone(Caller(peer, principal, ip), message, now)

    def _take_signed(self, event: Signed, now: float) -> None:
        c, who = self.cluster, event.principal
        if why := authorization.refusal(who, c.peers.get(event.peer), event.message):
            authorization.refuse(c, event.peer, event.message, who.name, why)
            if isinstance(event.message, m.RegisterFramework):
                self._look_at(event.message.framework.framework_id, now)
            if type(event.message) not in REGISTRATIONS and type(event.message) not in QUESTIONS:
                # It is not, or is no longer, what it speaks as: treat the sender as gone.
                self._disconnect(event.peer, now)
            return
        self._take(event.peer, authorization.with_user(who, event.message), now, who, event.ip)

    def _look_at(self, framework_id: FrameworkID, now: float) -> None:
        """A request for too much came under this id. Perhaps the framework already holds something by lost rights."""
        framework = self.cluster.frameworks.get(framework_id)
        if framework is not None:
            rights.look_at(self.cluster, framework, now)

    def _disconnect(self, peer: PeerID, now: float) -> None:
        recordings.asker_gone(self.cluster, peer)
        following.leave(self.cluster, peer)
        sender = self.cluster.peers.get(peer)
        if type(sender) is Slave:
            slaves.disconnect(self.cluster, sender)
        elif type(sender) is Framework:
            failover.disconnect(self.cluster, sender, now)
        elif type(sender) is Standby:
            failover.leave_line(self.cluster, sender)

    def _hear(self, sender: Slave | Framework | Standby) -> None:
        if isinstance(sender, Slave):
            slaves.hear(self.cluster, sender)
        elif isinstance(sender, Framework):
            sender.is_unresponsive = False
            self.cluster.update_wanting(sender)
            self.cluster.mark_idle_dirty()

    def _from_anyone(self, caller: Caller, message: m.Message, now: float) -> None:
        """Handle registrations and operators' questions. Any other message of a stranger is answered by `NotRegistered`, once a
        turn: it may send a thousand messages before it reads that.
        """
        c, peer = self.cluster, caller.peer
        kind = type(message)
        handler = REGISTRATIONS.get(kind) or QUESTIONS.get(kind)
        if handler is not None:
            handler(c, caller, message, now)
        elif peer in c.peers:
            c.drop(peer, f"it sent a {kind.__name__}, which it may not send")
        elif peer not in c.not_registered_sent:
            c.not_registered_sent.add(peer)
            c.send(peer, m.NotRegistered())

    def tick(self, now: float) -> list[Action]:
        """Do what is due and offer what is free. To be called after every batch of events, and at `next_deadline`."""
        c = self.cluster
        out: list[Action] = []
        c.out = out
        if c.not_registered_sent:
            c.not_registered_sent.clear()
        if now >= self._next_ping:
            self._next_ping = now + c.settings.ping_interval_s
            slaves.ping_slaves(c, now)
            failover.ping_schedulers(c, now)
            starvation.observe(c, now)
            ramp_up.look_at_all(c)
        ramp_up.observe(c, now)
        for call, subject in c.timers.due(now):
            call(c, subject, now)
        tasks.go_on_reconciling(c)
        offers.expire(c, now)
        offers.allocate(c, now)
        following.answer(c, now)
        return out

    def _handling_failed(self, event: HandlingFailed, now: float) -> list[Action]:
        c = self.cluster
        c.failed_messages += 1
        decided, c.out = c.out, []
        if event.is_tick:
            # If the offers were the cause, the next turn would fail as well, at once and for ever.
            c.hold_until = max(c.hold_until, now + OFFER_AGAIN_S)
        return decided

    def next_deadline(self) -> float:
        """When `tick` will have work even if no event comes."""
        c = self.cluster
        if c.reconciling:
            return c.started_at  # at once
        deadline = self._next_ping
        due = (
            c.timers.next_deadline(),
            offers.next_expiry(c),
            offers.next_allocation(c),
            ramp_up.next_look(c),
            following.next_answer(c),
        )
        for other in due:
            if other is not None and other < deadline:
                deadline = other
        return deadline
