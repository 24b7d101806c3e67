"""ZeroMQ sockets with our settings, and the two ends that speak frames over them.

ZeroMQ's defaults are not ours: unlimited messages, no heartbeat, a `LINGER` that hangs at exit, no reconnect back-off.
Sockets are drained in batches and written in batches: messages are queued with `send`, and one `flush` at the end of a
loop's turn puts each peer's messages into as few frames as fit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Generic, TypeVar

import zmq

from offerd.codec import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, Codec, frames
from offerd.errors import BadInput, BadMessage, MessageTooLarge
from offerd.ids import PeerID
from offerd.keys import Keys, public_of
from offerd.link import LinkMonitor
from offerd.messages import Message

M = TypeVar("M")

HIGH_WATER_FRAMES = 10_000
"""Frames queued for one peer before it counts as too slow."""
HEARTBEAT_INTERVAL_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000
BACKLOG = 4096
"""Connections not accepted yet: after a fail-over thousands come at once; one that finds no room tries again a second later."""
RECONNECT_MS = 20
RECONNECT_MAX_MS = 1_000
DRAIN_LIMIT = 256
_PORT = re.compile(r"[0-9]{1,5}")
"""Frames read from a socket in one turn, so that one busy socket starves neither the others nor the timers."""
MAX_FAULTS_TOLD = 100
"""Messages left out that one flush tells of one by one; all are counted."""
HANDSHAKE_MS = 10_000
"""What a server gives a connection to say who it is. Thousands come at once after a fail-over, so not much less."""


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
    """A context of one IO thread whose sockets may be many."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 8192)
    return context


def scatter_routing_ids() -> None:
    """libzmq counts the routing ids that a ROUTER gives up from `rand()` and never seeds it: they would be the same in every
    process. A peer may name itself by any of them, and libzmq aborts the process when it comes to give a name that is taken.
    """
    import ctypes  # not above: executors never get here, and would pay for it in time and memory

    ctypes.CDLL(None).srand(int.from_bytes(os.urandom(4), "little"))


class Client(Generic[M]):
    """A DEALER that connects to one server: what schedulers, slaves and executors speak through.

    `codec` decodes what the server sends. Frames that are no messages of ours are counted in `bad_frames` and passed over:
    a client has one peer, which it chose.
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
        """Connect; to nobody yet if the address is empty. `monitored`: `link` tells of the connection, from the very
        first one on. With `keys` only to who has the secret to their `master`.
        """
        self._context = context
        self._keys = keys
        self._is_monitored = monitored
        self._codec = codec
        self._outgoing: list[Message] = []
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
        # Before the connect: on loopback the connection may stand before this line's successor runs.
        has_keys = self._keys is not None
        self._link = LinkMonitor(self.socket, address, has_keys) if self._is_monitored else None
        if not address:
            return
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self._shut()
            raise BadInput(f"cannot connect to {address}: {error.strerror}; write it as HOST:PORT") from None

    def move(self, address: str) -> None:
        """Leave this server for another: `socket` and `link` are other ones, what was under way is lost."""
        self._shut()
        self._outgoing.clear()
        self._open(address)

    @property
    def link(self) -> LinkMonitor:
        """Of the present socket."""
        assert self._link is not None, "this client was made without a monitor"
        return self._link

    def send(self, message: Message) -> None:
        """Queue for the next `flush`."""
        self._outgoing.append(message)

    def flush(self) -> int:
        """Write what is queued; returns the number of frames dropped because the server reads too slowly.

        Raises `MessageTooLarge` for a message that no frame could hold, or that is none, when all others have been sent.
        """
        if not self._outgoing:
            return 0
        outgoing, self._outgoing = self._outgoing, []
        dropped = 0
        if not self.address:
            return 0
        if self._link is not None and self._link.is_given_up:
            self._connect_anew(self._link)
        faults: list[str] = []
        for frame in frames(outgoing, leave_out=faults.append, max_bytes=MAX_MESSAGE_BYTES):
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                dropped += 1
        if faults:
            raise MessageTooLarge(faults[0])
        return dropped

    def _connect_anew(self, link: LinkMonitor) -> None:
        """Where something else listened for a while, perhaps our server does again. As often as there is something to say."""
        link.is_given_up = False
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
    """A ROUTER that peers connect to: the master's, and each slave's for its executors."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, codec: Codec[M], secret: str = ""
    ) -> None:
        """Bind. With a `secret` key only peers with keys are heard; which, whoever answers ZAP in `context` decides: be there
        before. Raises `BadInput` with one line if the address is taken or cannot be.
        """
        self._codec = codec
        self._has_key = bool(secret)
        self.key = ""
        """Proven public key of who sent what `drain` gave last; empty if this server has none."""
        scatter_routing_ids()
        self.socket = context.socket(zmq.ROUTER)
        _configure(self.socket)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.BACKLOG, BACKLOG)
        if secret:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
            self.socket.setsockopt(zmq.ZAP_DOMAIN, b"offerd")
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.socket.close()
            raise BadInput(
                f"cannot listen on {address}: {error.strerror}; stop what listens there or choose another"
            ) from None
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._outgoing: dict[PeerID, list[Message]] = {}
        self.unsent = 0
        """Messages of ours that no frame could hold or that could not be encoded: left out, and all others sent."""
        self._faults: list[tuple[PeerID, str]] = []
        self._frame: zmq.Frame | None = None

    @property
    def ip(self) -> str:
        """The other end's address, of the connection over which what `drain` gave last has come."""
        return str(self._frame.get("Peer-Address")) if self._frame is not None else ""

    def send(self, peer: PeerID, message: Message) -> None:
        """Queue for the next `flush`."""
        queue = self._outgoing.get(peer)
        if queue is None:
            self._outgoing[peer] = [message]
        else:
            queue.append(message)

    def flush(self, epoch: int = 0) -> list[PeerID]:
        """Write what is queued. Returns the peers that are gone or read too slowly: nothing more will reach them.

        A message that cannot be sent is left out: `pop_faults` tells of it.
        """
        if not self._outgoing:
            return []
        outgoing, self._outgoing = self._outgoing, {}
        lost: list[PeerID] = []
        for peer, queue in outgoing.items():
            try:
                for frame in frames(queue, epoch, partial(self._note, peer)):
                    self.socket.send(peer, zmq.SNDMORE | zmq.NOBLOCK)
                    self.socket.send(frame, zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                lost.append(peer)
        return lost

    def _note(self, peer: PeerID, fault: str) -> None:
        self.unsent += 1
        if len(self._faults) < MAX_FAULTS_TOLD:
            self._faults.append((peer, fault))

    def pop_faults(self) -> list[tuple[PeerID, str]]:
        """What was left out since the last call: for whom, and a line on why."""
        faults, self._faults = self._faults, []
        return faults

    def drain(self) -> Iterator[tuple[PeerID, list[M] | BadMessage]]:
        """Every frame that is there now: its sender, and its messages or what is wrong with it."""
        recv, decode, has_key = self.socket.recv, self._codec.decode, self._has_key
        for _ in range(DRAIN_LIMIT):
            try:
                peer = PeerID(recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            # The parts of one message come together. Not recv_multipart: it asks the socket four times as much.
            frame = self._frame = recv(zmq.NOBLOCK, copy=False)
            if has_key:
                self.key = str(frame.get("User-Id"))
            if frame.more:
                parts = 1 + len(self.socket.recv_multipart(zmq.NOBLOCK))
                yield peer, BadMessage(f"{parts} parts where there should be one frame")
                continue
            try:
                yield peer, decode(frame.bytes)[1]
            except BadMessage as error:
                yield peer, error

    def close(self) -> None:
        self.socket.close()


def tcp(address: str, default_port: int) -> str:
    """`HOST`, `HOST:PORT` or `tcp://HOST:PORT` as a ZeroMQ address. Raises `BadInput` on a bad port."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon:
        host, port = port, str(default_port)
    if not host or not _PORT.fullmatch(port) or not 0 <= int(port) < 65536:
        raise BadInput(f"{address!r} is no address; write HOST:PORT, as in 127.0.0.1:{default_port}")
    return f"tcp://{host}:{port}"


def ipc(path: str | os.PathLike[str]) -> str:
    """A path socket's ZeroMQ address. Raises `BadInput` if the path is too long for the kernel (sun_path, 107 bytes)."""
    name = os.fspath(path)
    if len(os.fsencode(name)) > 107:
        raise BadInput(f"the socket's path {name} is longer than 107 bytes; choose a shorter work directory")
    return f"ipc://{name}"
