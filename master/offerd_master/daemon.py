"""The master's daemon: one socket, one loop, and the core that decides everything.

A turn of the loop reads what has come, lets the core handle it, lets it offer what became free, and writes each peer's
messages in as few frames as fit.
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
from offerd.daemons.failures import describe
from offerd.daemons.log_limits import LogLimits
from offerd.daemons.recorder import Recorder, Written
from offerd.errors import BadInput, BadMessage, OfferdError
from offerd.ids import PeerID
from offerd.masters.leader import ZooKeeperAddress, describe_master
from offerd.masters.routes import FAR, FAR_6, address_towards
from offerd.masters.zookeeper_access import derived_access
from offerd.messages import Message, NotLeading, RegisterSlave
from offerd.wire import codec
from offerd.wire.pacing import Pacer
from offerd.wire.screen_text import printable
from offerd.wire.transport import Server, new_context
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.choose import load_allocator
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
from offerd_master.options import MasterOptions
from offerd_master.principals import NOBODY

MAX_DROPPED_PEERS = 10_000
"""Routing ids not listened to. A peer that connects again has a new one, so old ones need not be kept for ever."""
MAX_LINE = 500
BACKLOG_AGAIN_S = 0.005
"""How soon a peer that took no more is sent to again."""

STRANGERS = "peers without a key of ours"
"""Whom lines of the log are counted for that nobody of a name has caused."""

log = logging.getLogger("offerd.master")


class Master:
    """A master bound to its address. Raises `BadInput` on options that cannot be."""

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
        recordings = (options.state_dir or default_state_dir()) / "recordings"
        self._recorder = Recorder("master", lambda: self.core, recordings)
        self._must_record = False
        if options.zookeeper is None:
            # Later masters should have later epochs: milliseconds, as a restart takes longer than one. If the clock was
            # set back meanwhile, the first slave or scheduler to come back tells (`LaterEpochSeen`).
            self._lead(int(time.time() * 1000))
        else:
            self._election = self._stand(options, options.zookeeper)

    @property
    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`: what is written here ends the loop's wait."""
        return self._wake_out.fileno()

    def stop(self) -> None:
        """End `run` after the turn it is in; may be called from a signal handler or another thread."""
        self._stopping = True
        self._wake()

    def record(self) -> None:
        """Write what is recorded, after the turn it is in; may be called from a signal handler."""
        self._must_record = True
        self._wake()

    def crashed(self, error: Exception) -> None:
        """`run` has ended by an error that nobody foresaw: write what led to it."""
        self._recorder.crashed(error, time.monotonic())

    def reread_terms(self) -> None:
        """Do so after the turn it is in, also while it stands by; may be called from a signal handler."""
        self._terms_are_old = True
        self._wake()

    def run(self) -> None:
        """Serve until `stop`; first stand by until elected, where that is to be. Raises `Deposed`: then nothing more was
        said by us than what was said while we led.
        """
        if self._election is not None:
            self._stand_by(self._election)
        while not self._stopping:
            deadline = min(
                self.core.next_deadline(), self._cuts.next_deadline(), self._recorder.next_deadline()
            )
            wait_s = min(deadline - time.monotonic(), self._lease_until - lease_clock())
            if self._inbox:
                wait_s = 0.0
            elif self._server.has_backlog:
                wait_s = min(wait_s, BACKLOG_AGAIN_S)
            ready = self._poller.poll(max(0, math.ceil(wait_s * 1000)))
            if any(readable == self._wake_in.fileno() for readable, _ in ready):
                self._sleep_off_wakes()
            if self._election is not None:
                self._look_at_place(self._election)
            if self._terms_are_old and self._reread():
                self._handle(TermsChanged(self._settings, self._allocator))
            self._pacer.collect(self.core.cluster.tasks_running, self.core.cluster.tasks_ended)
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

    # -- leading --------------------------------------------------------------------------------------------------------

    def _knows_keys(self) -> bool:
        """Whether all is known that a leader before us has promised of keys."""
        return self._keys is None or self._keys.read_before_leading()

    def _lead(self, epoch: int) -> None:
        self.epoch = epoch
        master_id = f"M-{epoch:x}"
        registry = None if self._keys is None else self._keys.hand_over()
        self.core = MasterCore(self._settings, master_id, epoch, self._allocator, time.monotonic(), registry)
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
                "without keys whoever reaches ZooKeeper may write at %s, and say who leads", zookeeper
            )
        return Election(zookeeper, node, options.session_timeout_s, self._wake, access)

    def _stand_by(self, election: Election) -> None:
        """Until we lead (or are stopped): send whoever comes to the leader."""
        log.info("standing for election at %s", election.address)
        told = ""
        # Slaves and schedulers may learn a little before us that we lead, and they come at once.
        held = Held()
        while not self._stopping:
            if self._terms_are_old:
                # Not only once we lead: who comes then is let in by the keys that are read now.
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
            if place.leader != told:
                told = place.leader
                log.info("standing by: %s leads", told.removeprefix("tcp://"))
            if not told or (self._keys is not None and not self._keys.is_read):
                # Perhaps we are about to lead: whoever comes now has not come in vain. And nobody is refused for being
                # unknown as long as we know nobody: he would not try again.
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
                self._server.send(peer, NotLeading(told))
            self._server.flush()
            self._lines.tell(now)

    def _look_at_place(self, election: Election) -> None:
        """Raises `Deposed` unless we certainly lead. Before anything is read: we may just have been asleep."""
        self._look_at_lease(election)
        place = election.place
        if isinstance(place, Leading) and place.epoch != self.epoch:
            self._raise_epoch(place.epoch)

    def _look_at_lease(self, election: Election) -> None:
        """Raises `Deposed` if it is over."""
        place = election.place
        if isinstance(place, Leading):
            self._lease_until = place.until
        if isinstance(place, Out):
            raise Deposed(f"this master leads no more: {place.why}; ending")
        if lease_clock() >= self._lease_until:
            raise Deposed(
                "this master cannot be sure to lead any more: ZooKeeper has not answered in time; ending"
            )

    def _later_epoch(self, seen: int) -> None:
        if self._election is not None:
            self._election.raise_epoch(seen)
        else:
            self._raise_epoch(seen + 1)
            log.warning(
                "a slave or scheduler has obeyed a later master (was the clock set back?): going on after that"
            )

    def _raise_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self._handle(EpochRaised(epoch))

    def _reread(self) -> bool:
        """Keys, and terms: True if there are new terms. What cannot be read changes nothing."""
        self._terms_are_old = False
        if self._keys is not None:
            try:
                for event in self._keys.reread():
                    self._handle(event)
                if text := self._keys.registry.shadows():
                    log.warning("%s", printable(text, MAX_LINE))
            except BadInput as error:
                log.warning("the old keys are still authorized: %s", printable(str(error), MAX_LINE))
        if self._read_policy is None:
            return False
        try:
            settings = replace(self._settings, policy=self._read_policy())
            allocator = load_allocator(settings.allocator, settings.policy)
        except BadInput as error:
            log.warning("the old terms still hold: %s", printable(str(error), MAX_LINE))
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
        # Some may have been let in again meanwhile.
        cut = self._server.peers_of(keys - self._keys.registry.principals.keys())
        for peer in cut:
            self._inbox.forget(peer)
            self._server.disconnect(peer)
        if cut:
            log.info("ended %d connections of keys that are authorized no more", len(cut))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
            self._wake_out.send(b"\0")

    def _sleep_off_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    # -- a turn ---------------------------------------------------------------------------------------------------------

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
        self._tick()
        self._lines.tell(time.monotonic())
        while gone := self._flush():
            for peer in gone:
                self._inbox.forget(peer)
                self._hang_up.append(peer)
                self._handle(PeerLost(peer))

    def _tick(self) -> None:
        """What time alone brings about. An error is not the end: what a peer has left in us would end each master after us."""
        now = time.monotonic()
        self._recorder.note(now, None)
        try:
            actions = self.core.tick(now)
        except Exception as error:  # marked: see above
            self._failed("a turn", error, None, is_tick=True)
            return
        self._perform(actions)

    def _flush(self) -> list[PeerID]:
        """Say what is to be said, to whom it reaches; returns the others. We may have slept through much of this turn."""
        if self._election is not None:
            self._look_at_lease(self._election)
        gone = self._server.flush(self.epoch)
        while self._hang_up:
            # After what there was to say to it.
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
        """Handle one message; returns whether its sender is to be heard further. What goes wrong with it costs him alone."""
        ip = self._server.ip_of(peer) if type(message) is RegisterSlave else ""
        event: Received | Signed = Received(peer, message, ip)
        if self._keys is not None:
            event = Signed(peer, message, self._keys.registry.principals.get(key, NOBODY), ip)
        source = self._name(peer, key)
        if not self._handle(event, source, message):
            self._drop(
                peer,
                "what it sent could not be handled, a fault of the master's that its log tells of",
                source,
            )
        return peer not in self._dropped

    def _handle(self, event: Event, source: Hashable = None, message: Message | None = None) -> bool:
        """Have the core handle it. False if that found an error of ours: it costs this event alone, and who said it."""
        now = time.monotonic()
        self._recorder.note(now, event)
        try:
            actions = self.core.handle(event, now)
        except Exception as error:  # marked: no peer is to end the master, by what it says or by its going
            self._failed(event if message is None else message, error, source)
            return False
        self._perform(actions, source)
        return True

    def _failed(self, cause: object, error: Exception, source: Hashable, *, is_tick: bool = False) -> None:
        """Have an error that nobody foresaw counted, and log it."""
        failed, now = HandlingFailed(is_tick), time.monotonic()
        self._recorder.failed(error, now)
        self._recorder.note(now, failed)
        self._perform(self.core.handle(failed, now), source)
        self._write(source, logging.ERROR, f"a fault of the master's: {describe(cause, error)}")

    def _refuse(self, peer: PeerID, fault: BadMessage, key: str) -> bool:
        why = f"it sent what is no message of offerd {__version__}: {fault}"
        self._drop(peer, why, self._name(peer, key))
        return False

    def _name(self, peer: PeerID, key: str) -> Hashable:
        """Whom the log's limits are counted for."""
        who = self._keys.registry.principals.get(key) if self._keys is not None else None
        return peer if who is None else who.name

    def _perform(self, actions: Iterable[Action], source: Hashable = None) -> None:
        """`source`: who has caused them, for whom lines of the log are counted; None is time."""
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
                assert self._keys is not None, "a master without keys keeps none"
                self._keys.keep(action, self.epoch)
            elif type(action) is CutOff:
                self._cut_keys(action.keys)
            elif type(action) is Record:
                self._record(action)

    def _record(self, action: Record) -> None:
        def written(made: Written) -> None:
            host = socket.gethostname()
            self._handle(RecordingWritten(action.ticket, host, str(made.path), made.is_whole, made.fault))

        self._recorder.record(action.for_s, "an operator asked for it", time.monotonic(), written)

    def _write(self, source: Hashable, level: int, text: str) -> None:
        """A line in the log that somebody else had a part in."""
        self._lines.log(source, level, printable(text, MAX_LINE), time.monotonic())

    def _drop(self, peer: PeerID, why: str, source: Hashable) -> None:
        """Listen to this peer no more, and tell it why. It is logged once, as nothing of it is heard from now on."""
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
    """The address by which this host reaches others, one of those that we listen on; loopback if it reaches none."""
    return address_towards(FAR) or (address_towards(FAR_6) if listening == ANY_6 else "") or LOOPBACK


def _zmq_address(options: MasterOptions) -> str:
    ip = listening_ip(options.ip)
    if options.advertise_ip:
        listening_ip(options.advertise_ip, "--advertise-ip")
    if not options.insecure and not options.secret:
        raise BadInput(
            f"refusing to listen on {ip} without keys: whoever reaches it, any account of this host at least, may run commands "
            "on every slave; give it keys (--key, --authorized), or say --insecure"
        )
    if not 0 <= options.port < 65536:
        raise BadInput(f"{options.port} is no port; choose one from 0 to 65535")
    return f"{TCP}{HostPort(ip, options.port)}"
