"""ZeroMQ sockets with our settings, and the two kinds of peers that exchange frames over them.

ZeroMQ's defaults do not suit us: no limit on messages, no heartbeats, a `LINGER` that hangs at exit, no reconnect back-off.
Sockets are read and written in batches: `send` queues a message, and one `flush` at the end of a loop's turn puts each peer's
messages into as few frames as fit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

import zmq

from offerd.addresses import TCP, canonical, parse
from offerd.credentials.keys import Keys, public_of
from offerd.errors import BadInput, BadMessage, MessageTooLarge
from offerd.ids import PeerID
from offerd.messages import Message
from offerd.wire.codec import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, Codec, frames
from offerd.wire.connections import Connection, ConnectionGuard, hang_up, other_end
from offerd.wire.link import LinkMonitor
from offerd.wire.routes import interface_fault, over_ipv6

M = TypeVar("M")

HIGH_WATER_FRAMES = 10_000
"""A peer with so many frames queued counts as too slow."""
HEARTBEAT_INTERVAL_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000
BACKLOG = 4096
"""Connections that wait to be accepted: thousands come at once after a fail-over. One that finds no room retries a second
later.
"""
RECONNECT_MS = 20
RECONNECT_MAX_MS = 1_000
DRAIN_LIMIT = 256
"""Most frames read from a socket in one turn, so that one busy socket delays neither the others nor the timers."""
SERVER_DRAIN_LIMIT = 1024
"""The same for a server: so many of its peers may come before one that has a single frame to send."""
DRAIN_BYTES = 16 << 20
"""The same in bytes, give or take a frame."""
SERVER_FRAMES = 32
"""Frames, of up to a mebibyte, that libzmq holds for each peer in each direction. More waits in the kernel and at the peer."""
MAX_BACKLOG_BYTES = 16 << 20
"""A peer counts as too slow when more than this waits for it here, beyond those frames."""
MAX_BACKLOG_BYTES_IN_ALL = 128 << 20
MAX_CONNECTIONS_NOTED = 20_000
"""Most peers whose connections are known by their descriptors, so that they can be ended."""
MAX_FAULTS_LISTED = 100
"""Most messages left out in one flush that are reported one by one; all are counted."""
HANDSHAKE_MS = 10_000
"""Time for the handshake of a connection to a server. Thousands come at once after a fail-over, so it cannot be much shorter.
"""


def _configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_FRAMES)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_FRAMES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context with one IO thread, for many sockets."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 8192)
    return context


def scatter_routing_ids() -> None:
    """Make the routing ids that ROUTER sockets choose unpredictable. libzmq counts them up from `rand()`, which it never seeds,
    so they would be the same in every process. A peer may choose any of them as its own, and libzmq aborts the process when it
    comes to assign one that is taken.
    """
    import ctypes  # here, as executors would pay for it in time and memory and never need it

    ctypes.CDLL(None).srand(int.from_bytes(os.urandom(4), "little"))


class Client(Generic[M]):
    """A DEALER that connects to one server: schedulers, slaves and executors use it.

    `codec` decodes what the server sends. Frames that are not messages of ours are counted in `bad_frames` and skipped: a
    client has one peer, which it chose.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        codec: Codec[M],
        *,
        monitored: bool = False,
        keys: Keys | None = None,
    ) -> None:
        """Connect; with an empty address, to nothing yet. `monitored`: `link` reports the connection's changes, from the first
        one on. With `keys`, connect only to a server that has the secret key to their `master`.
        """
        self._context = context
        self._keys = keys
        self._is_monitored = monitored
        self._codec = codec
        self._outgoing: list[Message] = []
        self.received_bytes = 0
        self.bad_frames = 0
        self.last_bad = ""
        self._open(address)

    def _open(self, address: str) -> None:
        self.address = address
        self.socket = self._context.socket(zmq.DEALER)
        _configure(self.socket)
        if self._keys is not None:
            secret, server = self._keys
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, public_of(secret).encode())
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server.encode())
        # Before the connect: on loopback, the connection may stand before the next line runs.
        has_keys = self._keys is not None
        self._link = LinkMonitor(self.socket, address, has_keys) if self._is_monitored else None
        if not address:
            return
        try:
            connect(self.socket, address)
        except BadInput:
            self._shut()
            raise

    def move(self, address: str) -> None:
        """Leave this server for another: `socket` and `link` are replaced, and what was under way is lost."""
        self._shut()
        self._outgoing.clear()
        self._open(address)

    @property
    def link(self) -> LinkMonitor:
        """The monitor of the current socket."""
        assert self._link is not None, "this client was made without a monitor"
        return self._link

    def send(self, message: Message) -> None:
        """Queue for the next `flush`."""
        self._outgoing.append(message)

    def flush(self, leave_out: Callable[[Message, str], None] | None = None) -> int:
        """Write what is queued; returns how many frames were dropped because the server reads too slowly.

        A message that does not fit into a frame, or cannot be encoded, is left out, and `leave_out` called with it and a line
        that says why. Without `leave_out`, the first such message raises `MessageTooLarge` after all others have been sent.
        """
        if not self._outgoing:
            return 0
        outgoing, self._outgoing = self._outgoing, []
        dropped = 0
        if not self.address:
            return 0
        self.try_on()
        faults: list[str] = []
        leave_out = leave_out or (lambda _message, why: faults.append(why))
        for frame in frames(outgoing, leave_out=leave_out, max_bytes=MAX_MESSAGE_BYTES):
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                dropped += 1
        if faults:
            raise MessageTooLarge(faults[0])
        return dropped

    def try_on(self) -> None:
        """Connect anew if ZeroMQ has given up: something else may have listened at the address for a while, and our server may
        be back. To be called whenever something is to be sent and `flush` is not called for lack of a connection; `flush`
        does it by itself.
        """
        if self.address and self._link is not None and self._link.is_given_up:
            self._link.is_given_up = False
            self.socket.disconnect(self.address)
            self.socket.connect(self.address)

    def drain(self) -> Iterator[tuple[int, list[M]]]:
        """`(epoch, messages)` of every frame that is there now."""
        for _ in range(DRAIN_LIMIT):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if len(parts) != 1:
                    raise BadMessage(f"{len(parts)} parts where there should be one frame")
                self.received_bytes += len(parts[0])
                decoded = self._codec.decode(parts[0])
            except BadMessage as error:
                self.bad_frames += 1
                self.last_bad = str(error)
                continue
            yield decoded

    def close(self) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._link is not None:
            self._link.close()
        self.socket.close()


class Server(Generic[M]):
    """A ROUTER that peers connect to: a master's, and each slave's for its executors."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, codec: Codec[M], secret: str = ""
    ) -> None:
        """Bind. With a `secret` key only peers with keys are heard; a ZAP handler in `context`, which must exist already,
        decides which. Raises `BadInput` with one line if the address is taken or invalid.
        """
        self._codec = codec
        self._has_key = bool(secret)
        self.key = ""
        """The verified public key of the sender of what `drain` yielded last; empty if this server has no keys."""
        scatter_routing_ids()
        self.socket = context.socket(zmq.ROUTER)
        _configure(self.socket)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self.socket.setsockopt(zmq.SNDHWM, SERVER_FRAMES)
        self.socket.setsockopt(zmq.RCVHWM, SERVER_FRAMES)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.BACKLOG, BACKLOG)
        self.socket.setsockopt(zmq.IPV6, address.startswith(f"{TCP}["))
        if secret:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
            self.socket.setsockopt(zmq.ZAP_DOMAIN, b"offerd")
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.socket.close()
            in_use = error.errno == zmq.EADDRINUSE
            hint = (
                "stop what listens there, or choose another --port"
                if in_use
                else "choose another address or port"
            )
            raise BadInput(
                f"cannot listen on {address.removeprefix(TCP)}: {zmq.strerror(error.errno or 0)}; {hint}"
            ) from None
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._outgoing: dict[PeerID, list[Message]] = {}
        self.sent = 0
        """Messages that `flush` has taken, those that were left out or did not arrive among them."""
        self.unsent = 0
        """Messages that were left out because they did not fit into a frame or could not be encoded."""
        self._faults: list[tuple[PeerID, str]] = []
        self._backlog: dict[PeerID, deque[bytes]] = {}
        self._backlog_bytes: dict[PeerID, int] = {}
        self._connections: dict[PeerID, Connection] = {}
        self._by_descriptor: dict[int, Connection] = {}
        self._guard: ConnectionGuard | None = None

    def guard(self) -> ConnectionGuard:
        """From now on, end connections whose messages never end, and the oldest of many that never send anything."""
        if self._guard is None:
            self._guard = ConnectionGuard(parse(self.address).port, self._by_descriptor)
        return self._guard

    def ip_of(self, peer: PeerID) -> str:
        """The address of the other end of this peer's connection; empty if that is a path socket, or was not noted."""
        connection = self._connections.get(peer)
        return canonical(connection.name[0]) if connection is not None and connection.name else ""

    def is_gone(self, peer: PeerID) -> bool:
        """Whether the peer's connection has ended. A peer whose connection was not noted counts as there."""
        connection = self._connections.get(peer)
        return connection is not None and other_end(connection.descriptor) != connection.name

    def send(self, peer: PeerID, message: Message) -> None:
        """Queue for the next `flush`."""
        queue = self._outgoing.get(peer)
        if queue is None:
            self._outgoing[peer] = [message]
        else:
            queue.append(message)

    def flush(self, epoch: int = 0) -> list[PeerID]:
        """Write what is queued. Returns the peers that are gone or read too slowly: nothing more will reach them.

        What a peer does not take now waits here, up to `MAX_BACKLOG_BYTES`; call again soon if `has_backlog`. A message that
        cannot be sent is left out, and reported by `pop_faults`.
        """
        if not self._outgoing and not self._backlog:
            return []
        outgoing, self._outgoing = self._outgoing, {}
        lost = dict.fromkeys(peer for peer in list(self._backlog) if not self._send_backlog(peer))
        for peer, queue in outgoing.items():
            self.sent += len(queue)
            made = frames(queue, epoch, partial(self._note, peer))
            try:
                if peer not in self._backlog:
                    for frame in made:
                        self.socket.send(peer, zmq.SNDMORE | zmq.NOBLOCK)
                        self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                self._backlog[peer] = deque([frame])
                self._backlog_bytes[peer] = len(frame)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                lost[peer] = None
                continue
            if peer in self._backlog and not self._keep(peer, made):
                lost[peer] = None
        return list(lost)

    @property
    def connections(self) -> int:
        """How many connections there are, some seconds ago at most; 0 without `guard`."""
        return 0 if self._guard is None else self._guard.there

    @property
    def peers_with_backlog(self) -> int:
        """How many peers something waits for that they do not read."""
        return len(self._backlog)

    @property
    def has_backlog(self) -> bool:
        """Whether something waits for a peer to read it."""
        return bool(self._backlog)

    def _keep(self, peer: PeerID, made: Iterable[bytes]) -> bool:
        """Queue these behind what waits already. If that is too much, drop all that waits and return False."""
        for frame in made:
            self._backlog[peer].append(frame)
            self._backlog_bytes[peer] += len(frame)
            if self._backlog_bytes[peer] > MAX_BACKLOG_BYTES:
                self._forget_backlog(peer)
                return False
        if sum(self._backlog_bytes.values()) > MAX_BACKLOG_BYTES_IN_ALL:
            # The peer with the most is dropped. If it is another one, the next send to it reports that.
            worst = max(self._backlog_bytes, key=self._backlog_bytes.__getitem__)
            self._forget_backlog(worst)
            self.disconnect(worst)
            return worst != peer
        return True

    def _send_backlog(self, peer: PeerID) -> bool:
        """False if the peer is gone."""
        waiting = self._backlog[peer]
        try:
            while waiting:
                self.socket.send(peer, zmq.SNDMORE | zmq.NOBLOCK)
                self.socket.send(waiting[0], zmq.NOBLOCK)
                self._backlog_bytes[peer] -= len(waiting.popleft())
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._forget_backlog(peer)
            return False
        self._forget_backlog(peer)
        return True

    def _forget_backlog(self, peer: PeerID) -> None:
        self._backlog.pop(peer, None)
        self._backlog_bytes.pop(peer, None)

    def _note(self, peer: PeerID, _message: Message, fault: str) -> None:
        self.unsent += 1
        if len(self._faults) < MAX_FAULTS_LISTED:
            self._faults.append((peer, fault))

    def pop_faults(self) -> list[tuple[PeerID, str]]:
        """What was left out since the last call: for which peer, and a line that says why."""
        faults, self._faults = self._faults, []
        return faults

    def drain(self) -> Iterator[tuple[PeerID, list[M] | BadMessage]]:
        """Every frame that is there now: its sender, and its messages or what is wrong with it."""
        decode = self._codec.decode
        for peer, frame in self.receive():
            if isinstance(frame, BadMessage):
                yield peer, frame
                continue
            try:
                yield peer, decode(frame)[1]
            except BadMessage as error:
                yield peer, error

    def receive(self) -> Iterator[tuple[PeerID, bytes | BadMessage]]:
        """The same, not decoded yet. Peers take turns; a turn's frames and bytes are limited."""
        recv, has_key = self.socket.recv, self._has_key
        left_bytes = DRAIN_BYTES
        for _ in range(SERVER_DRAIN_LIMIT):
            try:
                peer = PeerID(recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            # The parts of one message come together. recv_multipart would make four times as many calls on the socket.
            frame = recv(zmq.NOBLOCK, copy=False)
            if has_key:
                self.key = str(frame.get("User-Id"))
            connection = self._connections.get(peer)
            if connection is None:
                connection = self._note_connection(peer, frame)
            connection.frames += 1
            if frame.more:
                parts = 1 + len(self.socket.recv_multipart(zmq.NOBLOCK))
                yield peer, BadMessage(f"{parts} parts where there should be one frame")
                continue
            whole = frame.bytes
            yield peer, whole
            left_bytes -= len(whole)
            if left_bytes <= 0:
                return

    def _note_connection(self, peer: PeerID, frame: zmq.Frame) -> Connection:
        descriptor = int(frame.get(zmq.SRCFD))
        connection = Connection(descriptor, other_end(descriptor), self.key)
        self._connections[peer] = self._by_descriptor[descriptor] = connection
        if len(self._connections) > MAX_CONNECTIONS_NOTED:
            del self._connections[next(iter(self._connections))]
        return connection

    def peers_of(self, keys: frozenset[str]) -> list[PeerID]:
        """The peers that have sent something over a connection with one of these public keys."""
        return [peer for peer, connection in self._connections.items() if connection.key in keys]

    def disconnect(self, peer: PeerID) -> None:
        """End the peer's connection. A well-behaved peer connects again, and registers as a new peer."""
        self._outgoing.pop(peer, None)
        self._forget_backlog(peer)
        connection = self._connections.pop(peer, None)
        if connection is not None:
            hang_up(connection.descriptor, connection.name)

    def close(self) -> None:
        if self._guard is not None:
            self._guard.close()
        self.socket.close()


def connect(socket: zmq.Socket[bytes], address: str) -> None:
    """Connect this socket to `tcp://HOST:PORT`, over IPv6 if necessary, or to a path socket. Raises `BadInput` with one line. A
    name is looked up to decide on the IP version, which may take seconds.
    """
    try:
        if address.startswith(TCP):
            place = parse(address)
            if fault := interface_fault(place.host):
                raise BadInput(f"cannot connect to {place}: {fault}")
            socket.setsockopt(zmq.IPV6, over_ipv6(place))
        socket.connect(address)
    except zmq.ZMQError as error:
        raise BadInput(f"cannot connect to {address}: {error.strerror}; write it as HOST:PORT") from None


def ipc(path: str | os.PathLike[str]) -> str:
    """A path socket's ZeroMQ address. Raises `BadInput` if the path is too long for the kernel (sun_path, 107 bytes)."""
    name = os.fspath(path)
    if len(os.fsencode(name)) > 107:
        raise BadInput(f"the socket's path {name} is longer than 107 bytes; choose a shorter work directory")
    return f"ipc://{name}"
