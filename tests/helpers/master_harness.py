"""A cluster around a master's core: peers that are lists of messages, and a clock that tests move.

Every message goes through the codec on its way in and out, the invariants are checked after every event, and a test
ends in `assert_nothing_else_sent`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from helpers.invariants import check_invariants, check_revocations
from helpers.shadow import check_replica
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, PeerID, SlaveID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd.resources import NOTHING, Resources
from offerd.wire import codec
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy
from offerd_master.core.actions import Action, CutOff, Drop, KeepChange, Log, Record, Send
from offerd_master.core.events import ChangeKept, Event, PeerDropped, PeerLost, Received, Signed, TermsChanged
from offerd_master.core.master import MasterCore
from offerd_master.core.registry import Change, Registry
from offerd_master.principals import Principal
from offerd_master.settings import MasterSettings

EXECUTOR = m.ExecutorInfo(ExecutorID("default"), module="executor")
EPOCH = 10
M = TypeVar("M", bound=m.Message)


class Peer:
    """One end of a connection. Answers pings while `answers_pings`; what else it gets waits in `inbox`."""

    def __init__(self, cluster: ClusterHarness, peer: PeerID, decoder: Any) -> None:
        self.cluster = cluster
        self.peer = peer
        self.decoder = decoder
        self.inbox: list[m.Message] = []
        self.answers_pings = True
        self.pings = 0
        self.principal: Principal | None = None

    def send(self, message: m.Message) -> None:
        """One message in a turn of its own, signed if there is a principal."""
        arrived = self.cluster.through_codec(message)
        if self.principal is None:
            self.cluster.turn(Received(self.peer, arrived))
        else:
            self.cluster.turn(Signed(self.peer, arrived, self.principal))

    def take(self, kind: type[M]) -> M:
        """The oldest message, which must be of this kind."""
        assert self.inbox, f"expected a {kind.__name__}, got nothing"
        message = self.inbox.pop(0)
        assert isinstance(message, kind), f"expected a {kind.__name__}, got {message}"
        return message

    def take_all(self, kind: type[M]) -> list[M]:
        """All messages, which must be of this kind."""
        return [self.take(kind) for _ in range(len(self.inbox))]


class SlavePeer(Peer):
    slave_id = SlaveID("")
    info: m.SlaveInfo

    def register(
        self, executors: Sequence[m.RunningExecutor] = (), tasks: Sequence[m.RunningTask] = ()
    ) -> None:
        """Register, or register again with these tasks."""
        self.send(m.RegisterSlave(self.info, list(executors), list(tasks)))
        self.slave_id = self.take(m.SlaveRegistered).slave_id
        self.info = m.SlaveInfo(
            self.info.hostname,
            self.info.resources,
            self.slave_id,
            self.info.attributes,
            long_fraction=self.info.long_fraction,
            short_limit_s=self.info.short_limit_s,
        )

    def status(
        self, framework: FrameworkPeer, task_id: str, state: TaskState, sequence: int = 1, **more: Any
    ) -> None:
        status = TaskStatus(
            TaskID(task_id), state, sequence, source="executor", slave_id=self.slave_id, **more
        )
        self.send(m.StatusUpdate(framework.framework_id, status))

    def finish(self, framework: FrameworkPeer, *task_ids: str) -> None:
        """End these tasks well; the scheduler has seen it when this returns."""
        for task_id in task_ids:
            self.status(framework, task_id, TaskState.FINISHED)
            update = next(x for x in framework.inbox if isinstance(x, m.StatusUpdate))
            assert update.status.task_id == task_id
            framework.inbox.remove(update)


class FrameworkPeer(Peer):
    framework_id = FrameworkID("")
    info: m.FrameworkInfo

    def register(self) -> None:
        """Register; offers may follow."""
        self.send(m.RegisterFramework(self.info))
        self.framework_id = self.take(m.FrameworkRegistered).framework_id

    def offers(self) -> list[m.Offer]:
        """The offers in the next message."""
        return self.take(m.ResourceOffers).offers

    def offer(self) -> m.Offer:
        """The only offer in the next message."""
        (offer,) = self.offers()
        return offer

    def accept(self, *offers: m.Offer, tasks: Sequence[m.TaskInfo] = (), refuse_seconds: float = 0.0) -> None:
        self.send(m.AcceptOffers([offer.offer_id for offer in offers], list(tasks), refuse_seconds))

    def decline(self, *offers: m.Offer, refuse_seconds: float = 5.0) -> None:
        self.send(m.DeclineOffers([OfferID(offer.offer_id) for offer in offers], refuse_seconds))

    def update(self, state: TaskState | None = None) -> TaskStatus:
        """The status in the next message."""
        status = self.take(m.StatusUpdate).status
        assert state is None or status.state is state, status
        return status


class ClusterHarness:
    """A core, its clock, and its peers."""

    def __init__(
        self,
        now: float = 1000.0,
        *,
        checks_invariants: bool = True,
        module: type[Allocator] = DrfAllocator,
        registry: Registry | None = None,
        **settings: Any,
    ) -> None:
        """`registry` if peers have keys; what is kept of it is in `kept`, unless `keep_fault` says why it cannot be, or
        `keeps_at_once` is off. The invariants hold while slaves report the truth; a test in which one lies does not check them.
        """
        settings.setdefault("batch_window_s", 0.0)
        settings.setdefault("recovery_quiet_s", 0.0)
        self.checks_invariants = checks_invariants
        self.now = now
        self.settings = MasterSettings(**settings)
        self.allocator = module(self.settings.policy)
        self.core = MasterCore(self.settings, "M-test", EPOCH, self.allocator, now, registry)
        self.peers: dict[PeerID, Peer] = {}
        self.logs: list[Log] = []
        self.drops: list[Drop] = []
        self.kept: list[Change] = []
        self.records: list[Record] = []
        self.keep_fault = ""
        self.keeps_at_once = True
        self.cut_off: set[str] = set()
        self._numbers = itertools.count(1)

    # -- peers ----------------------------------------------------------------------------------------------------------

    def slave(
        self, resources: str = "cpus=4,mem=4G", hostname: str = "", *, registers: bool = True, **more: Any
    ) -> SlavePeer:
        peer = self._peer(SlavePeer, codec.to_slave)
        peer.info = m.SlaveInfo(hostname or f"host{len(self.peers)}", Resources.parse(resources), **more)
        if registers:
            peer.register()
        return peer

    def framework(self, name: str = "framework", *, registers: bool = True, **more: Any) -> FrameworkPeer:
        peer = self._peer(FrameworkPeer, codec.to_scheduler)
        more.setdefault("executors", [EXECUTOR])
        peer.info = m.FrameworkInfo(name, **more)
        if registers:
            peer.register()
        return peer

    def operator(self) -> Peer:
        return self._peer(Peer, codec.to_operator)

    def again(self, old: FrameworkPeer) -> FrameworkPeer:
        """Another scheduler for the same framework, not yet registered."""
        peer = self._peer(FrameworkPeer, codec.to_scheduler)
        peer.framework_id = old.framework_id
        peer.info = m.FrameworkInfo(
            old.info.name,
            old.framework_id,
            executors=old.info.executors,
            failover_timeout_s=old.info.failover_timeout_s,
        )
        return peer

    def _peer(self, kind: type[P], decoder: Any) -> P:
        peer = PeerID(b"%s-%d" % (kind.__name__.encode(), next(self._numbers)))
        made = kind(self, peer, decoder)
        self.peers[peer] = made
        return made

    # -- what happens ---------------------------------------------------------------------------------------------------

    def turn(self, *events: Event) -> None:
        """One turn of a daemon's loop: these events, then a tick."""
        for event in events:
            self._perform(self.core.handle(event, self.now))
            self._check()
        self.tick()

    def tick(self) -> None:
        actions = self.core.tick(self.now)
        if self.checks_invariants:
            check_revocations(self.core, actions)
        self._perform(actions)
        self._check()

    def _check(self) -> None:
        if self.checks_invariants:
            check_invariants(self.core)
            check_replica(self.core, self.now)

    def change_terms(self, policy: Policy) -> None:
        """The operator changes the shares."""
        self.settings = replace(self.settings, policy=policy)
        self.allocator = type(self.allocator)(policy)
        self.turn(TermsChanged(self.settings, self.allocator))

    def is_kept(self, fault: str = "") -> None:
        """Report that a change was kept, or could not be."""
        self.turn(ChangeKept(fault))

    def lose_peer(self, peer: Peer) -> None:
        """The connection breaks."""
        self.turn(PeerLost(peer.peer))

    def advance(self, seconds: float) -> None:
        """Let time pass; the core is woken whenever it asked to be."""
        end = self.now + seconds
        while (deadline := self.core.next_deadline()) <= end:
            assert deadline > self.now or not self._is_stuck(deadline), (
                "the core asks to be woken at once, again and again"
            )
            self.now = max(self.now, deadline)
            self.tick()
        self.now = end

    def _is_stuck(self, deadline: float) -> bool:
        self.tick()
        return self.core.next_deadline() <= deadline

    def through_codec(self, message: m.Message) -> m.Message:
        """The message as it arrives at the master."""
        (frame,) = codec.frames([message])
        _, (arrived,) = codec.to_master.decode(frame)
        assert codec.encode_message(arrived) == codec.encode_message(message)
        return arrived

    def _perform(self, actions: list[Action]) -> None:
        pongs = []
        for action in actions:
            if isinstance(action, Log):
                self.logs.append(action)
            elif isinstance(action, Drop):
                self.drops.append(action)
                self._perform(self.core.handle(PeerDropped(action.peer, action.why), self.now))
            elif isinstance(action, KeepChange):
                self.kept.append(action.change)
                if self.keeps_at_once:
                    self._perform(self.core.handle(ChangeKept(self.keep_fault), self.now))
            elif isinstance(action, Record):
                self.records.append(action)
            elif isinstance(action, CutOff):
                self.cut_off |= action.keys
            elif isinstance(action, Send) and (peer := self.peers.get(action.peer)) is not None:
                (frame,) = codec.frames([action.message], EPOCH)
                epoch, (arrived,) = peer.decoder.decode(frame)
                assert (epoch, arrived) == (EPOCH, action.message)
                if not isinstance(arrived, m.Ping):
                    peer.inbox.append(arrived)
                elif peer.answers_pings:
                    pongs.append(Received(peer.peer, m.Pong()))
                else:
                    peer.pings += 1
        for pong in pongs:
            self._perform(self.core.handle(pong, self.now))

    def assert_nothing_sent_to(self, peer: Peer) -> None:
        assert peer.inbox == []

    def assert_nothing_else_sent(self) -> None:
        assert {peer.peer: peer.inbox for peer in self.peers.values() if peer.inbox} == {}


P = TypeVar("P", bound=Peer)


def task(
    task_id: str,
    resources: str = "cpus=1,mem=1G",
    *,
    time_limit_s: float | None = 5.0,
    executor_id: str = "default",
    **more: Any,
) -> m.TaskInfo:
    """A short task of one cpu, unless said otherwise."""
    amount = Resources.parse(resources) if resources else NOTHING
    return m.TaskInfo(TaskID(task_id), amount, ExecutorID(executor_id), time_limit_s=time_limit_s, **more)


def running(
    framework: FrameworkPeer, info: m.TaskInfo, state: TaskState = TaskState.RUNNING
) -> m.RunningTask:
    """A task as its slave lists it when it registers again."""
    return m.RunningTask(
        framework.framework_id,
        info.executor_id,
        info.task_id,
        info.resources,
        state,
        info.time_limit_s,
        info.name,
    )


def executor(framework: FrameworkPeer, info: m.ExecutorInfo = EXECUTOR) -> m.RunningExecutor:
    """An executor as its slave lists it when it registers again."""
    described = m.FrameworkInfo(framework.info.name, framework.framework_id)
    return m.RunningExecutor(described, info.executor_id, ContainerID("c1"), info.resources)
