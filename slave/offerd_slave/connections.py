"""An executor's path socket and its connections: bytes in and out, all of them bounded.

The socket lies in a directory of its own that only the container's user may enter, and only that user (or root) may connect,
which the kernel attests (SO_PEERCRED). The executor proves by its token which of that user's processes it is
(`offerd_slave.endpoint`).
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from offerd.errors import BadInput
from offerd.wire.codec import Codec
from offerd_slave.zmtp import OPENING, NotZMTP, Parser, frame

READ_BYTES = 256 << 10
"""Size of one read: more than the kernel buffers of an executor's output."""
READS = 4
"""Reads from one connection in one turn."""
MAX_UNSENT_BYTES = 64 << 20
"""How much may wait for an executor that does not read, before its connection is closed."""
MAX_PATH_BYTES = 107
"""The longest path of a path socket (sun_path)."""
BACKLOG = 8


def listen(path: Path, uid: int, gid: int) -> socket.socket:
    """A listening socket at this path, in a directory of its own. The socket is made anew, but an existing directory is kept,
    as a container may have it mounted. Raises `OSError`."""
    directory = path.parent
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    # It belongs to the slave, so that only the slave can create files in it; its user's group may pass through.
    directory.chmod(0o700)
    path.unlink(missing_ok=True)
    server = bound(path)
    if os.geteuid() == 0:
        os.chown(path, uid, gid)
        os.chown(directory, 0, gid)
        directory.chmod(0o710)
    path.chmod(0o600)
    return server


def bound(path: Path) -> socket.socket:
    """A listening socket at this path. Raises `OSError`."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        server.bind(os.fspath(path))
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def remove(path: Path) -> None:
    """Remove the socket and its directory, if they exist."""
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def check_length(path: Path) -> None:
    """Raise `BadInput` if the path is too long for a socket."""
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise BadInput(
            f"the path of an executor's socket, as {path}, is longer than {MAX_PATH_BYTES} bytes; "
            "choose a shorter work directory"
        )


def peer_uid(connected: socket.socket) -> int:
    """The uid of the process that connected, as the kernel recorded it."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


class Connection:
    """The connection of one peer. It registers itself with `epoll`; received messages wait in `inbox`."""

    def __init__(self, connected: socket.socket, epoll: select.epoll, now: float) -> None:
        connected.setblocking(False)
        self.since = now
        self.fd = connected.fileno()
        self.inbox: deque[Any] = deque()
        self.is_heard = True
        self.is_at_end = False
        self._socket = connected
        self._epoll = epoll
        self._parser = Parser()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._watched = 0
        self.received_bytes = 0
        self.send_bytes([OPENING])
        self._watch()

    def receive(self, codec: Codec[Any]) -> None:
        """Read available messages into `inbox`, up to a limit. Raises `NotZMTP` and `BadMessage`."""
        for _ in range(READS):
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self.is_at_end = True
                return
            self.received_bytes += len(data)
            try:
                messages, answer = self._parser.feed(data)
            except NotZMTP as error:
                self._decode(codec, error.messages)
                raise
            if (
                answer and not self._unsent
            ):  # data that waits to be sent is as good a sign of life as an answer to a heartbeat
                self.send_bytes([answer])
            self._decode(codec, messages)
            if self.inbox:
                return

    def _decode(self, codec: Codec[Any], messages: list[bytes]) -> None:
        for message in messages:
            self.inbox.extend(codec.decode(message)[1])

    def send(self, frames: Iterable[bytes]) -> bool:
        """Send these frames. False if the peer does not read, or is gone."""
        return self.send_bytes(map(frame, frames))

    def send_bytes(self, chunks: Iterable[bytes]) -> bool:
        for chunk in chunks:
            self._unsent.append(chunk)
            self._unsent_bytes += len(chunk)
        return self.write()

    def write(self) -> bool:
        """Write as much as the kernel takes; the rest waits. False if the peer does not read, or is gone."""
        try:
            while self._unsent:
                sent = self._socket.send(chunk := self._unsent[0])
                self._unsent_bytes -= sent
                if sent < len(chunk):
                    self._unsent[0] = chunk[sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            return False
        self._watch()
        return self._unsent_bytes <= MAX_UNSENT_BYTES

    def hear(self, is_heard: bool) -> None:
        """Read the peer's messages from now on, or stop reading them."""
        self.is_heard = is_heard
        self._watch()

    def _watch(self) -> None:
        wanted = (select.EPOLLIN if self.is_heard else 0) | (select.EPOLLOUT if self._unsent else 0)
        if wanted == self._watched:
            return
        if not wanted:
            # Unregistered, as epoll reports a hang-up even if nothing is waited for, again and again.
            self._epoll.unregister(self.fd)
        elif self._watched:
            self._epoll.modify(self.fd, wanted)
        else:
            self._epoll.register(self.fd, wanted)
        self._watched = wanted

    def close(self) -> None:
        if self._watched:
            self._epoll.unregister(self.fd)
        self._socket.close()
