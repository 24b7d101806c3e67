"""The master's daemon: one socket, one loop, and the core that decides everything.

A turn of the loop reads what has come, lets the core handle it and offer what is free, and writes each peer's messages in as
few frames as fit.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import replace

import zmq

from offerd import __version__
from offerd.addresses import ANY_6, LOOPBACK, TCP, HostPort, is_any, listening_ip, parse
from offerd.daemons.log_limits import LogLimits
from offerd.daemons.recorder import Recorder, Written
from offerd.errors import BadInput, BadMessage, OfferdError
from offerd.ids import PeerID
from offerd.masters.leader import ZooKeeperAddress, describe_master
from offerd.masters.zookeeper_access import derived_access
from offerd.messages import Message, NotLeading, RegisterSlave
from offerd.values.failures import describe
from offerd.values.screen_text import printable
from offerd.wire import codec
from offerd.wire.pacing import Pacer
from offerd.wire.routes import FAR, FAR_6, address_towards
from offerd.wire.transport import Server, new_context
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.choose import load_allocator
from offerd_master.core import recordings
from offerd_master.core.actions import Action, CutOff, Drop, KeepChange, LaterEpochSeen, Log, Record, Send
from offerd_master.core.events import (
    EpochRaised,
    Event,
    HandlingFailed,
    MessagesUnsent,
    PeerDropped,
    PeerLost,
    Received,
    RecordingWritten,
    Signed,
    TermsChanged,
)
from offerd_master.core.master import MasterCore
from offerd_master.cuts import Cuts
from offerd_master.election import Deposed, Election, Leading, Out, lease_clock
from offerd_master.inbox import HOLD_S, Frame, Held, Inbox, size_of
from offerd_master.key_file import default_state_dir
from offerd_master.master_keys import MasterKeys
from offerd_master.measuring import Measuring
from offerd_master.options import MasterOptions
from offerd_master.principals import NOBODY

MAX_DROPPED_PEERS = 10_000
"""How many routing ids of dropped peers are remembered. A peer that connects again has a new one."""
MAX_LINE = 500
RECORDING_PEERS_S = 1.0
"""How often to check whether those who wait for recordings, and the slaves that make them, are connected."""
BACKLOG_AGAIN_S = 0.005
"""Pause before more is sent to a peer that could take no more."""

STRANGERS = "peers without a key of ours"
"""The name under which log lines about peers without a known key are counted."""

log = logging.getLogger("offerd.master")


class Master:
    """A master that is bound to its address. Raises `BadInput` on options that cannot be used."""

    def __init__(self, options: MasterOptions, allocator: Allocator | None = None) -> None:
        settings = options.settings
        if allocator is None:
            allocator = load_allocator(settings.allocator, settings.policy)
        self._context = new_context()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._keys: MasterKeys | None = None
        self._cuts = Cuts()
        try:
            address = _zmq_address(options)
            if options.secret:
                self._keys = MasterKeys(options, self._context, self._wake, self._cut_keys)
                for text in self._keys.complaints:
                    log.warning("%s", printable(text, MAX_LINE))
            self._server = Server(self._context, address, codec.to_master, options.secret)
        except BadInput:
            if self._keys is not None:
                self._keys.close()
            self._close_context()
            raise
        self._server.guard()
        self.address = self._server.address.removeprefix("tcp://")
        self._settings, self._allocator = settings, allocator
        self._read_policy = options.read_policy
        self._terms_are_old = False
        self._election: Election | None = None
        self._lease_until = math.inf
        self._dropped: OrderedDict[PeerID, None] = OrderedDict()
        self._hang_up: list[PeerID] = []
        self._inbox = Inbox(codec.to_master.decode, self._receive, self._refuse)
        self._lines = LogLimits(log.log)
        self._poller = zmq.Poller()
        self._poller.register(self._server.socket, zmq.POLLIN)
        self._poller.register(self._wake_in, zmq.POLLIN)
        if self._keys is not None:
            for asked in self._keys.watch(self._server.socket):
                self._poller.register(asked, zmq.POLLIN)
        self._stopping = False
        self._pacer = Pacer()
        directory = (options.state_dir or default_state_dir()) / "recordings"
        self._recorder = Recorder("master", lambda: self.core, directory)
        self._must_record = False
        self._recording_peers_at = -math.inf
        if options.zookeeper is None:
            # A later master needs a later epoch: milliseconds will do, as a restart takes longer than one. If the clock was set
            # back meanwhile, the first slave or scheduler to return reports it (`LaterEpochSeen`).
            self._lead(int(time.time() * 1000))
        else:
            self._election = self._stand(options, options.zookeeper)

    @property
    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`: a byte written here ends the loop's wait."""
        return self._wake_out.fileno()

    def stop(self) -> None:
        """End `run` after its present turn; may be called from a signal handler or another thread."""
        self._stopping = True
        self._wake()

    def record(self) -> None:
        """Write the recording after the present turn; may be called from a signal handler."""
        self._must_record = True
        self._wake()

    def crashed(self, error: Exception) -> None:
        """`run` has ended by an unexpected error: write the recording of what led to it."""
        self._recorder.crashed(error, time.monotonic())

    def reread_terms(self) -> None:
        """Read terms and keys again after the present turn, also while standing by; may be called from a signal handler."""
        self._terms_are_old = True
        self._wake()

    def run(self) -> None:
        """Serve until `stop`. With an election, stand by first until elected. Raises `Deposed` when this master must not lead
        any longer; then it has sent nothing since it led.
        """
        if self._election is not None:
            self._stand_by(self._election)
        while not self._stopping:
            deadline = min(
                self.core.next_deadline(), self._cuts.next_deadline(), self._recorder.next_deadline()
            )
            if self.core.cluster.recordings:
                deadline = min(deadline, self._recording_peers_at)
            wait_s = min(deadline - time.monotonic(), self._lease_until - lease_clock())
            if self._inbox:
                wait_s = 0.0
            elif self._server.has_backlog:
                wait_s = min(wait_s, BACKLOG_AGAIN_S)
            lag = self._measuring.lag
            lag.waits(time.monotonic(), deadline)
            ready = self._poller.poll(max(0, math.ceil(wait_s * 1000)))
            lag.woke(time.monotonic())
            if any(readable == self._wake_in.fileno() for readable, _ in ready):
                self._sleep_off_wakes()
            if self._election is not None:
                self._look_at_place(self._election)
            if self._terms_are_old and self._reread():
                self._handle(TermsChanged(self._settings, self._allocator))
            self._pacer.collect(self.core.cluster.tasks_running, self.core.cluster.tasks_ended)
            lag.reads(time.monotonic())
            self._turn()
            self._recorder.turn(time.monotonic())
            if self._must_record and not self._stopping:
                self._must_record = False
                self._recorder.write("SIGUSR2", time.monotonic())

    def close(self) -> None:
        self._recorder.close()
        if self._election is not None:
            self._election.close()
        if self._keys is not None:
            self._keys.close()
        self._server.close()
        self._close_context()

    def _close_context(self) -> None:
        self._wake_in.close()
        self._wake_out.close()
        self._context.term()

    # -- Leading --------------------------------------------------------------------------------------------------------

    def _knows_keys(self) -> bool:
        """Whether every key that an earlier leader has enrolled is known."""
        return self._keys is None or self._keys.read_before_leading()

    def _lead(self, epoch: int) -> None:
        self.epoch = epoch
        master_id = f"M-{epoch:x}"
        registry = None if self._keys is None else self._keys.hand_over()
        self.core = MasterCore(self._settings, master_id, epoch, self._allocator, time.monotonic(), registry)
        self._measuring = Measuring(time.monotonic())
        self._recorder.begin(time.monotonic())
        if self._election is not None:
            log.info("master %s leads", master_id)

    def _stand(self, options: MasterOptions, zookeeper: ZooKeeperAddress) -> Election:
        ip, port = parse(self.address)
        advertised = options.advertise_ip and listening_ip(options.advertise_ip, "--advertise-ip")
        ip = advertised or (_own_ip(ip) if is_any(ip) else ip)
        place = str(HostPort(ip, options.advertise_port or port))
        node = describe_master(f"{place}-{os.getpid()}", place, socket.gethostname(), __version__)
        access = options.zookeeper_access or (derived_access(options.secret) if options.secret else None)
        if access is None:
            log.warning(
                "without keys, anybody who reaches ZooKeeper may write at %s and decide which master leads",
                zookeeper,
            )
        return Election(zookeeper, node, options.session_timeout_s, self._wake, access)

    def _stand_by(self, election: Election) -> None:
        """Until this master leads or is stopped: send all peers to the leader."""
        log.info("standing for election at %s", election.address)
        leader = ""
        # Slaves and schedulers may hear that we lead a little before we do, and they come at once.
        held = Held()
        while not self._stopping:
            if self._terms_are_old:
                # Read now, not only when leading begins: peers that connect then are admitted by these keys.
                self._reread()
            self._take_news_of_keys()
            place = election.place
            if isinstance(place, Leading):
                if not self._knows_keys():
                    select.select([self._wake_in], [], [])
                    self._sleep_off_wakes()
                    continue
                self._take_news_of_keys()
                self._lease_until = place.until
                self._lead(place.epoch)
                for peer, frame, key in held:
                    self._take(peer, frame, key)
                return
            if isinstance(place, Out):
                raise OfferdError(place.why)
            if place.leader != leader:
                leader = place.leader
                log.info("standing by: %s leads", leader.removeprefix("tcp://"))
            if not leader or (self._keys is not None and not self._keys.is_read):
                # We may be about to lead, so peers that connect now may stay. And while no keys are known, no peer is refused
                # as unknown: it would not try again.
                select.select([self._wake_in], [], [])
                self._sleep_off_wakes()
                continue
            self._poller.poll(int(HOLD_S * 1000) if held or self._cuts else None)
            self._sleep_off_wakes()
            if self._keys is not None:
                for refused in self._keys.handshakes_refused():
                    if refused.who:
                        self._write(STRANGERS, logging.WARNING, f"refused {refused.who}")
            self._cut_what_is_due()
            now = time.monotonic()
            for peer, frame in self._server.receive():
                held.put(now, peer, frame, self._server.key)
            for peer in held.overdue(now):
                self._server.send(peer, NotLeading(leader))
            self._server.flush()
            self._lines.report_left_out(now)

    def _look_at_place(self, election: Election) -> None:
        """Raises `Deposed` unless this master certainly leads. To be called before reading: the process may have slept."""
        self._look_at_lease(election)
        place = election.place
        if isinstance(place, Leading) and place.epoch != self.epoch:
            self._raise_epoch(place.epoch)

    def _look_at_lease(self, election: Election) -> None:
        """Raises `Deposed` if the lease is over."""
        place = election.place
        if isinstance(place, Leading):
            self._lease_until = place.until
        if isinstance(place, Out):
            raise Deposed(f"this master no longer leads: {place.why}; ending")
        if lease_clock() >= self._lease_until:
            raise Deposed(
                "this master cannot be sure that it still leads: ZooKeeper has not answered in time; ending"
            )

    def _later_epoch(self, seen: int) -> None:
        if self._election is not None:
            self._election.raise_epoch(seen)
        else:
            self._raise_epoch(seen + 1)
            log.warning(
                "a slave or scheduler has obeyed a later master (was the clock set back?): going on in a later epoch"
            )

    def _raise_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self._handle(EpochRaised(epoch))

    def _reread(self) -> bool:
        """Read keys and terms again; True if there are new terms. What cannot be read changes nothing."""
        self._terms_are_old = False
        if self._keys is not None:
            try:
                for event in self._keys.reread():
                    self._handle(event)
                if text := self._keys.registry.shadows():
                    log.warning("%s", printable(text, MAX_LINE))
            except BadInput as error:
                log.warning(
                    "cannot read the keys again, so the old ones still count: %s",
                    printable(str(error), MAX_LINE),
                )
        if self._read_policy is None:
            return False
        try:
            settings = replace(self._settings, policy=self._read_policy())
            allocator = load_allocator(settings.allocator, settings.policy)
        except BadInput as error:
            log.warning(
                "cannot read the terms again, so the old ones still count: %s",
                printable(str(error), MAX_LINE),
            )
            return False
        self._settings, self._allocator = settings, allocator
        return True

    def _take_news_of_keys(self) -> None:
        if self._keys is not None:
            for event in self._keys.news():
                self._handle(event)

    def _cut_keys(self, keys: frozenset[str]) -> None:
        self._cuts.put_keys(keys, time.monotonic())

    def _cut_what_is_due(self) -> None:
        now = time.monotonic()
        for peer in self._cuts.due_peers(now):
            self._server.disconnect(peer)
        if self._keys is None or not (keys := self._cuts.due_keys(now)):
            return
        # Some keys may have been authorized again meanwhile.
        cut = self._server.peers_of(keys - self._keys.registry.principals.keys())
        for peer in cut:
            self._inbox.forget(peer)
            self._server.disconnect(peer)
        if cut:
            log.info("ended %d connections of keys that are no longer authorized", len(cut))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the loop as well
            self._wake_out.send(b"\0")

    def _sleep_off_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    # -- A turn ---------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self._keys is not None:
            for refused in self._keys.handshakes_refused():
                self._handle(refused, STRANGERS)
            self._take_news_of_keys()
        self._cut_what_is_due()
        for peer, frame in self._server.receive():
            self._take(peer, frame, self._server.key)
        self._inbox.turn()
        self._take_news_of_keys()
        self._look_at_recording_peers()
        self._tick()
        self._lines.report_left_out(time.monotonic())
        while gone := self._flush():
            for peer in gone:
                self._inbox.forget(peer)
                self._hang_up.append(peer)
                self._handle(PeerLost(peer))

    def _look_at_recording_peers(self) -> None:
        """Recordings have an asker and perhaps a slave to which nothing is sent meanwhile that would show that it has gone."""
        now = time.monotonic()
        if now < self._recording_peers_at or not self.core.cluster.recordings:
            return
        self._recording_peers_at = now + RECORDING_PEERS_S
        for peer in filter(self._server.is_gone, recordings.peers(self.core.cluster)):
            self._inbox.forget(peer)
            self._handle(PeerLost(peer))

    def _tick(self) -> None:
        """Let the core do what is due. An error does not end the master: what a peer left in its state would end the next one,
        too.
        """
        now = time.monotonic()
        if self.core.cluster.changes.is_on and self._measuring.is_due(now):
            self._handle(self._measuring.figures(now, self._inbox, self._server))
        self._recorder.note(now, None)
        try:
            actions = self.core.tick(now)
        except Exception as error:  # marked: see above
            self._failed("a turn", error, None, is_tick=True)
            return
        finally:
            self._measuring.tick.add(time.monotonic() - now)
        self._perform(actions)

    def _flush(self) -> list[PeerID]:
        """Send what is to be sent; returns the peers that it did not reach. The process may have slept during this turn."""
        if self._election is not None:
            self._look_at_lease(self._election)
        gone = self._server.flush(self.epoch)
        while self._hang_up:
            # Only after the last messages to it.
            self._server.disconnect(self._hang_up.pop())
        if self._server.unsent != self.core.cluster.unsent_messages:
            self._handle(MessagesUnsent(self._server.unsent))
        for peer, fault in self._server.pop_faults():
            self._write(peer, logging.ERROR, f"not sent to peer {peer.hex()}: {fault}")
        return gone

    def _take(self, peer: PeerID, frame: Frame, key: str) -> None:
        """A frame has come: it waits for its sender's turn."""
        self._recorder.grew(size_of(frame))
        if peer in self._dropped:
            if self._cuts.is_too_much(peer, size_of(frame)):
                self._server.disconnect(peer)
        elif not self._inbox.put(peer, frame, key):
            self._drop(peer, "it sends faster than it is served", self._name(peer, key))

    def _receive(self, peer: PeerID, message: Message, key: str) -> bool:
        """Handle one message; returns whether to go on listening to its sender. An error costs only the sender."""
        ip = self._server.ip_of(peer) if type(message) is RegisterSlave else ""
        event: Received | Signed = Received(peer, message, ip)
        if self._keys is not None:
            event = Signed(peer, message, self._keys.registry.principals.get(key, NOBODY), ip)
        source = self._name(peer, key)
        if not self._handle(event, source, message):
            self._drop(
                peer,
                "its message could not be handled; this is an error of the master, whose log has the details",
                source,
            )
        return peer not in self._dropped

    def _handle(self, event: Event, source: Hashable = None, message: Message | None = None) -> bool:
        """Let the core handle an event. False if that raised an unexpected error: it costs only this event and its sender."""
        now = time.monotonic()
        self._recorder.note(now, event)
        try:
            actions = self.core.handle(event, now)
        except Exception as error:  # marked: no peer may end the master, neither by a message nor by leaving
            self._failed(event if message is None else message, error, source)
            return False
        self._perform(actions, source)
        return True

    def _failed(self, cause: object, error: Exception, source: Hashable, *, is_tick: bool = False) -> None:
        """Count and log an unexpected error."""
        failed, now = HandlingFailed(is_tick), time.monotonic()
        self._recorder.failed(error, now)
        self._recorder.note(now, failed)
        self._perform(self.core.handle(failed, now), source)
        self._write(source, logging.ERROR, f"an error of the master: {describe(cause, error)}")

    def _refuse(self, peer: PeerID, fault: BadMessage, key: str) -> bool:
        why = f"it sent something that is not a message of offerd {__version__}: {fault}"
        self._drop(peer, why, self._name(peer, key))
        return False

    def _name(self, peer: PeerID, key: str) -> Hashable:
        """The name under which log lines about this peer are counted."""
        who = self._keys.registry.principals.get(key) if self._keys is not None else None
        return peer if who is None else who.name

    def _perform(self, actions: Iterable[Action], source: Hashable = None) -> None:
        """`source`: the peer that caused the actions, under which log lines are counted; None if only time did."""
        for action in actions:
            if type(action) is Send:
                self._server.send(action.peer, action.message)
            elif type(action) is Drop:
                self._drop(action.peer, action.why, source)
            elif type(action) is Log:
                level = logging.WARNING if action.level == "warning" else logging.INFO
                self._write(source, level, action.text)
            elif type(action) is LaterEpochSeen:
                self._later_epoch(action.epoch)
            elif type(action) is KeepChange:
                assert self._keys is not None, "a master without keys has nothing to write"
                self._keys.keep(action, self.epoch)
            elif type(action) is CutOff:
                self._cut_keys(action.keys)
            elif type(action) is Record:
                self._record(action)

    def _record(self, action: Record) -> None:
        def written(made: Written) -> None:
            host = socket.gethostname()
            self._handle(RecordingWritten(action.ticket, host, str(made.path), made.is_whole, made.fault))

        if action.for_s > 0 or not self._recorder.abandon(action.ticket):
            why = "an operator asked for it"
            self._recorder.record(action.for_s, why, time.monotonic(), written, ticket=action.ticket)

    def _write(self, source: Hashable, level: int, text: str) -> None:
        """Write a log line that a peer has caused, within the peer's limit."""
        self._lines.log(source, level, printable(text, MAX_LINE), time.monotonic())

    def _drop(self, peer: PeerID, why: str, source: Hashable) -> None:
        """Ignore this peer from now on, and send it the reason. It is logged once, since nothing of it is read any more."""
        if peer in self._dropped:
            return
        self._write(source, logging.WARNING, f"dropped peer {peer.hex()}: {why}")
        self._dropped[peer] = None
        if len(self._dropped) > MAX_DROPPED_PEERS:
            self._dropped.popitem(last=False)
        self._inbox.forget(peer)
        self._handle(PeerDropped(peer, why), source)
        self._hang_up += self._cuts.put_peer(peer, time.monotonic())


def _own_ip(listening: str) -> str:
    """The address by which others reach this host, among those that we listen on; loopback if there is none."""
    return address_towards(FAR) or (address_towards(FAR_6) if listening == ANY_6 else "") or LOOPBACK


def _zmq_address(options: MasterOptions) -> str:
    ip = listening_ip(options.ip)
    if options.advertise_ip:
        listening_ip(options.advertise_ip, "--advertise-ip")
    if not options.insecure and not options.secret:
        raise BadInput(
            f"refusing to listen on {ip} without keys: whoever reaches it, including any account of this host, could run "
            "commands on every slave; give it keys (--key, --authorized), or allow this with --insecure"
        )
    if not 0 <= options.port < 65536:
        raise BadInput(f"{options.port} is not a port; choose one from 0 to 65535")
    return f"{TCP}{HostPort(ip, options.port)}"
