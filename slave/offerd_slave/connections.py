"""One executor's path socket, and whoever is connected to it: bytes in and out, all of them bounded.

The socket lies in a directory of its own that only the container's user may enter, and only that user (and root) may connect:
the kernel says who did (SO_PEERCRED). Which of that user's processes is the executor, its token says (`offerd_slave.endpoint`).
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
from offerd_slave.zmtp import HELLO, NotZMTP, Parser, frame

READ_BYTES = 256 << 10
"""One read: more than the kernel holds of what an executor has written."""
READS = 4
"""Of one connection in one turn."""
MAX_UNSENT_BYTES = 64 << 20
"""What waits for an executor that does not read, before it counts as one that never will."""
MAX_PATH_BYTES = 107
"""Of a path socket's name (sun_path)."""
BACKLOG = 8


def listen(path: Path, uid: int, gid: int) -> socket.socket:
    """A socket there, in a directory for it alone; both are made anew where an earlier run has left them, as somebody may have
    the directory mounted. Raises `OSError`."""
    directory = path.parent
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    # Ours, so that nobody else can put anything in there; its user's group may pass through.
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
    """A listening socket of this name."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        server.bind(os.fspath(path))
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def remove(path: Path) -> None:
    """The socket and its directory, as far as they are there."""
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def check_length(path: Path) -> None:
    """Raises `BadInput` if the kernel takes no path of that length."""
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise BadInput(
            f"the path of an executor's socket, as {path}, is longer than {MAX_PATH_BYTES} bytes; "
            "choose a shorter work directory"
        )


def peer_uid(connected: socket.socket) -> int:
    """Who connected it, as the kernel noted it then."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


class Connection:
    """One peer. `epoll` is told what we wait for of it; the messages that it has sent wait in `inbox`."""

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
        self.send_bytes([HELLO])
        self._watch()

    def receive(self, codec: Codec[Any]) -> None:
        """Read what is there into `inbox`, up to some bytes. Raises `NotZMTP` and `BadMessage`."""
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
            ):  # what waits for it to read will tell it as well that we are there
                self.send_bytes([answer])
            self._decode(codec, messages)
            if self.inbox:
                return

    def _decode(self, codec: Codec[Any], messages: list[bytes]) -> None:
        for message in messages:
            self.inbox.extend(codec.decode(message)[1])

    def send(self, frames: Iterable[bytes]) -> bool:
        """False if it does not read, or is gone."""
        return self.send_bytes(map(frame, frames))

    def send_bytes(self, chunks: Iterable[bytes]) -> bool:
        for chunk in chunks:
            self._unsent.append(chunk)
            self._unsent_bytes += len(chunk)
        return self.write()

    def write(self) -> bool:
        """What the kernel takes of it; the rest waits. False if it does not read, or is gone."""
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
        """Whether it is read at all."""
        self.is_heard = is_heard
        self._watch()

    def _watch(self) -> None:
        wanted = (select.EPOLLIN if self.is_heard else 0) | (select.EPOLLOUT if self._unsent else 0)
        if wanted == self._watched:
            return
        if not wanted:
            # Not watched for nothing: a peer that has gone would be told of again and again.
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
