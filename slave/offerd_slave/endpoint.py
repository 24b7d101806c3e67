"""Where executors connect: a path socket for each container, and which of its peers is the executor.

The kernel says which user a peer is, and only the container's gets that far (`offerd_slave.connections`). What proves that it
is the executor and not one of its tasks is the token that was put into its environment when it was launched: only a hello
with it is believed. Executors that an older slave has left look for the one socket that all had then: it is there for them.
"""

from __future__ import annotations

import hmac
import logging
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from offerd.daemons.log_limits import LogLimits
from offerd.errors import BadMessage
from offerd.ids import ContainerID
from offerd.messages import OLDEST_PROTOCOL, Message, NotRegistered, RegisterExecutor
from offerd.wire import codec
from offerd.wire.screen_text import printable
from offerd_slave import connections
from offerd_slave.connections import Connection
from offerd_slave.zmtp import NotZMTP

SOCKET = "s"
"""Name of a container's socket: of the 107 bytes that its path may have, the work directory is to have the most."""
SHARED_SOCKET = "executors.sock"
LONGEST_ID = ContainerID("0" * 16)
HELLO_WITHIN_S = 10.0
"""After it has connected. The executor of a slave that was restarted under load may be slow."""
MOST_STRANGERS = 4
"""Connections to one socket that have not said hello: of the container's user, so they can only be in each other's way."""
MESSAGES_A_TURN = 2000
"""Of one executor; what more there is waits for the next turn, so that none keeps the others waiting."""
LAST_READS = 4
"""What the kernel holds of an executor that has ended takes no more."""
ACCEPT_AGAIN_S = 1.0
"""After the kernel had no descriptor for us."""

Heard = tuple[ContainerID, Any, str]
"""A message of a container's executor; or, in words, what was wrong with one: that connection is closed. (A class of its own
would cost more than all else that is done for a message here.)
"""


@dataclass(slots=True)
class _Door:
    """A listening socket, and who may come in."""

    server: socket.socket
    path: Path
    uids: set[int]
    container_id: ContainerID | None  # None: of all that were there before
    strangers: list[Connection] = field(default_factory=list)


class Endpoint:
    """The slave's side of all its executors' connections."""

    def __init__(self, directory: Path, lines: LogLimits) -> None:
        """Raises `BadInput` if the directory's name is too long. `lines`: to the slave's log, of a container or socket."""
        connections.check_length(directory / LONGEST_ID / SOCKET)
        self._directory = directory
        self._lines = lines
        self._epoll = select.epoll()
        self._tokens: dict[ContainerID, str] = {}
        self._doors: dict[ContainerID | None, _Door] = {}
        self._of_before: set[ContainerID] = set()
        self._by_fd: dict[int, _Door | Connection] = {}
        self._at_door: dict[int, _Door] = {}  # connections that have not said hello
        self._executors: dict[ContainerID, Connection] = {}
        self._ids: dict[int, ContainerID] = {}
        self._outgoing: dict[ContainerID, list[Message]] = {}
        self._busy: dict[int, Connection] = {}  # with messages that have been read and not heard
        self._faults: list[Heard] = []
        self._accept_again_at: float | None = None
        self.dropped_peers = 0
        self.received_bytes = 0
        (directory / SHARED_SOCKET).unlink(missing_ok=True)

    def fileno(self) -> int:
        """Readable when `drain` has something to do."""
        return self._epoll.fileno()

    @property
    def has_more(self) -> bool:
        """Whether it has something to do though nothing more comes."""
        return bool(self._busy or self._faults)

    # -- containers -----------------------------------------------------------------------------------------------------

    def address(self, container_id: ContainerID) -> str:
        """Where its executor is to connect."""
        return f"ipc://{self._directory / container_id / SOCKET}"

    def expect(self, container_id: ContainerID, token: str, uid: int, gid: int) -> None:
        """A container of this user will connect, with this token. Raises `OSError`."""
        path = self._directory / container_id / SOCKET
        self._open(_Door(connections.listen(path, uid, gid), path, {uid, 0}, container_id))
        self._tokens[container_id] = token

    def expect_at_shared(self, container_id: ContainerID, token: str, uid: int) -> None:
        """The same for one whose executor looks for the socket that all had. Raises `OSError`."""
        door = self._doors.get(None)
        if door is None:
            path = self._directory / SHARED_SOCKET
            door = _Door(connections.bound(path), path, {0}, None)
            path.chmod(0o666)
            self._open(door)
        door.uids.add(uid)
        self._of_before.add(container_id)
        self._tokens[container_id] = token

    def _open(self, door: _Door) -> None:
        self._doors[door.container_id] = door
        self._by_fd[door.server.fileno()] = door
        self._epoll.register(door.server, select.EPOLLIN)

    def forget(self, container_id: ContainerID) -> None:
        """It is gone."""
        self._tokens.pop(container_id, None)
        self._hang_up(container_id)
        if container_id in self._of_before:
            self._of_before.discard(container_id)
            if not self._of_before:
                door = self._doors.pop(None)
                self._shut(door)
                door.path.unlink(missing_ok=True)
        elif (known := self._doors.pop(container_id, None)) is not None:
            self._shut(known)
            connections.remove(known.path)

    def _shut(self, door: _Door) -> None:
        for connection in list(door.strangers):
            self._close(connection)
        self._epoll.unregister(door.server)
        del self._by_fd[door.server.fileno()]
        door.server.close()

    def sweep(self) -> None:
        """Directories of containers that are gone."""
        for directory in self._directory.iterdir():
            if directory.is_dir() and ContainerID(directory.name) not in self._doors:
                connections.remove(directory / SOCKET)

    # -- out ------------------------------------------------------------------------------------------------------------

    def send(self, container_id: ContainerID, message: Message) -> None:
        """Queue for the next `flush`; lost if the executor is not connected (it will say hello when it is)."""
        if container_id in self._executors:
            self._outgoing.setdefault(container_id, []).append(message)

    def flush(self) -> list[ContainerID]:
        """Write what is queued; returns the containers whose executor is gone or does not read."""
        if not self._outgoing:
            return []
        outgoing, self._outgoing = self._outgoing, {}
        lost = []
        for container_id, messages in outgoing.items():
            connection = self._executors.get(container_id)
            if connection is None:
                continue
            try:
                written = connection.send(codec.frames(messages))
            except codec.UNENCODABLE as error:
                self._faults.append((container_id, None, f"cannot be told something: {error}"))
                written = False
            if not written:
                lost.append(container_id)
                self._hang_up(container_id)
        return lost

    def hear(self, container_id: ContainerID, is_heard: bool) -> None:
        """Read what it says, or leave it in the kernel, where it has to wait."""
        connection = self._executors.get(container_id)
        if connection is not None:
            connection.hear(is_heard)
            if connection.inbox and is_heard:
                self._busy[connection.fd] = connection
            else:
                self._busy.pop(connection.fd, None)

    # -- in -------------------------------------------------------------------------------------------------------------

    def drain(self) -> Iterator[Heard]:
        """What executors have said, and what was wrong with one."""
        faults, self._faults = self._faults, []
        yield from faults
        busy = list(self._busy.values())
        for connection in busy:
            yield from self._heard(connection)
        for fd, events in self._epoll.poll(0):
            found = self._by_fd.get(fd)
            if isinstance(found, _Door):
                self._accept(found)
            elif found is not None and not found.inbox:
                if events & select.EPOLLOUT and not found.write():
                    self._close(found)
                elif events & ~select.EPOLLOUT:
                    yield from self._read(found)

    def last_words(self, container_id: ContainerID) -> Iterator[Heard]:
        """Its executor has ended: all that it has said and that has not been heard."""
        connection = self._executors.get(container_id)
        if connection is None:
            return
        yield from self._heard(connection, None)
        for _ in range(LAST_READS):
            # Its children may hold the socket open: then there is no end to wait for, but nothing more either.
            if connection.fd not in self._ids or not (said := list(self._read(connection, None))):
                return
            yield from said

    def tick(self, now: float) -> None:
        """Hang up on those that do not say hello; accept again."""
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            for door in self._doors.values():
                self._epoll.modify(door.server, select.EPOLLIN)
        for fd in [fd for fd in self._at_door if self._since(fd) + HELLO_WITHIN_S <= now]:
            self._close(self._connection(fd))

    def next_deadline(self) -> float | None:
        first = min((self._since(fd) + HELLO_WITHIN_S for fd in self._at_door), default=None)
        again = self._accept_again_at
        return first if again is None else again if first is None else min(first, again)

    def _connection(self, fd: int) -> Connection:
        found = self._by_fd[fd]
        assert isinstance(found, Connection)
        return found

    def _since(self, fd: int) -> float:
        return self._connection(fd).since

    def _accept(self, door: _Door) -> None:
        """One, so that who connects again and again keeps nobody waiting."""
        try:
            connected, _ = door.server.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            line = f"cannot accept an executor's connection: {error.strerror}"
            self._lines.log(None, logging.ERROR, line, time.monotonic())
            self._accept_again_at = time.monotonic() + ACCEPT_AGAIN_S
            for each in self._doors.values():
                self._epoll.modify(each.server, 0)
            return
        uid = connections.peer_uid(connected)
        if uid not in door.uids:
            self.dropped_peers += 1
            self._complain(door, f"refused a connection of uid {uid}")
            connected.close()
            return
        connection = Connection(connected, self._epoll, time.monotonic())
        self._by_fd[connection.fd] = connection
        self._at_door[connection.fd] = door
        door.strangers.append(connection)
        if len(door.strangers) > MOST_STRANGERS:
            self._close(door.strangers[0])

    def _read(self, connection: Connection, most: int | None = MESSAGES_A_TURN) -> Iterator[Heard]:
        before = connection.received_bytes
        try:
            connection.receive(codec.from_executor)
        except (NotZMTP, BadMessage) as error:
            yield from self._heard(connection, None)  # what it said before that
            yield from self._fault(connection, f"sent what is no message: {printable(str(error))}")
            return
        self.received_bytes += connection.received_bytes - before
        yield from self._heard(connection, None if connection.is_at_end else most)
        if connection.is_at_end:
            self._close(connection)

    def _heard(self, connection: Connection, most: int | None = MESSAGES_A_TURN) -> Iterator[Heard]:
        """Its messages, `most` of them; the rest later."""
        inbox = connection.inbox
        container_id = self._ids.get(connection.fd)
        if container_id is None and inbox:
            hello = inbox.popleft()
            if type(hello) is not RegisterExecutor:
                # It may think that it is still connected to the slave before us, or the last that it knew.
                inbox.clear()
                connection.send(codec.frames([NotRegistered()]))
                return
            if complaint := self._admit(connection, hello):
                yield from self._fault(connection, complaint)
                return
            container_id = hello.container_id
            yield container_id, hello, ""
        if container_id is None:
            return
        batch = list(inbox) if most is None or len(inbox) <= most else list(islice(inbox, most))
        if len(batch) == len(inbox):
            inbox.clear()
        else:
            for _ in batch:
                inbox.popleft()
        for message in batch:
            if type(message) is RegisterExecutor:
                yield from self._fault(connection, "said hello twice")
                return
            yield container_id, message, ""
        # By now it may be closed, and its number another one's.
        if inbox and connection.is_heard and self._by_fd.get(connection.fd) is connection:
            self._busy[connection.fd] = connection
        else:
            self._busy.pop(connection.fd, None)

    def _admit(self, connection: Connection, hello: RegisterExecutor) -> str:
        door = self._at_door[connection.fd]
        token = self._tokens.get(hello.container_id)
        is_here = door.container_id == hello.container_id or (
            door.container_id is None and hello.container_id in self._of_before
        )
        if not is_here or token is None or not hmac.compare_digest(token.encode(), hello.token.encode()):
            return f"claims to be container {printable(hello.container_id, 40)} without its token"
        if hello.protocol < OLDEST_PROTOCOL:
            return f"speaks protocol {hello.protocol}, the oldest we know is {OLDEST_PROTOCOL}"
        self._hang_up(hello.container_id)
        door.strangers.remove(connection)
        del self._at_door[connection.fd]
        self._executors[hello.container_id] = connection
        self._ids[connection.fd] = hello.container_id
        return ""

    def _fault(self, connection: Connection, complaint: str) -> Iterator[Heard]:
        self.dropped_peers += 1
        container_id = self._ids.get(connection.fd)
        door = self._at_door.get(connection.fd)
        self._close(connection)
        if container_id is not None:
            yield container_id, None, complaint
        elif door is not None:
            self._complain(door, f"dropped a peer: it {complaint}")

    def _complain(self, door: _Door, text: str) -> None:
        name = door.container_id or SHARED_SOCKET
        self._lines.log(name, logging.WARNING, f"the socket of {name}: {text}", time.monotonic())

    def _hang_up(self, container_id: ContainerID) -> None:
        if (connection := self._executors.get(container_id)) is not None:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._by_fd.pop(connection.fd, None) is None:
            return
        self._busy.pop(connection.fd, None)
        container_id = self._ids.pop(connection.fd, None)
        if container_id is not None:
            del self._executors[container_id]
            self._outgoing.pop(container_id, None)
        if (door := self._at_door.pop(connection.fd, None)) is not None:
            door.strangers.remove(connection)
        connection.close()

    def close(self) -> None:
        """Stop listening; the names go, so that nobody connects to nothing. Directories stay: containers have them mounted."""
        for container_id in list(self._executors):
            self._hang_up(container_id)
        for door in list(self._doors.values()):
            self._shut(door)
            door.path.unlink(missing_ok=True)
        self._epoll.close()
