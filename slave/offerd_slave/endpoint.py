"""Where executors connect: a path socket for each container, and how the executor is recognized among its peers.

Only processes of the container's user can connect, as the kernel attests (`offerd_slave.connections`). The executor proves
that it is not one of its tasks by the token that was put into its environment at the launch: only a registration with the
token is accepted. Executors that were launched by an older version of the slave connect to one shared socket, which is made
for them.
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
from offerd.values.screen_text import printable
from offerd.wire import codec
from offerd_slave import connections
from offerd_slave.connections import Connection
from offerd_slave.zmtp import NotZMTP

SOCKET = "s"
"""Name of a container's socket. It is short, to leave most of the 107 bytes of its path to the work directory."""
SHARED_SOCKET = "executors.sock"
LONGEST_ID = ContainerID("0" * 16)
REGISTER_WITHIN_S = 10.0
"""How long a peer may take to register after it has connected: executors may be slow when a slave is restarted under load."""
MOST_UNREGISTERED = 4
"""The most unregistered connections to one socket. They are all of the container's user, so they only hinder each other."""
MESSAGES_A_TURN = 2000
"""The most messages of one executor in one turn. The others wait for the next turn, so that all executors have their turn."""
LAST_READS = 4
"""Reads from the connection of an ended executor: enough for all that the kernel buffers."""
ACCEPT_AGAIN_S = 1.0
"""How long no connection is accepted after the descriptors ran out."""

Heard = tuple[ContainerID, Any, str]
"""A message of a container's executor, and an empty text; or None and what was wrong with it, whereupon the connection is
closed. (A class of its own would cost more time than everything else that is done here for a message.)
"""


@dataclass(slots=True)
class _Listener:
    """A listening socket, and the users that may connect."""

    server: socket.socket
    path: Path
    uids: set[int]
    container_id: ContainerID | None  # None: the shared socket for executors of an older slave
    unregistered: list[Connection] = field(default_factory=list)


class Endpoint:
    """The slave's side of all its executors' connections."""

    def __init__(self, directory: Path, lines: LogLimits) -> None:
        """Raises `BadInput` if the directory's path is too long. `lines`: the slave's log, limited for each container."""
        connections.check_length(directory / LONGEST_ID / SOCKET)
        self._directory = directory
        self._lines = lines
        self._epoll = select.epoll()
        self._tokens: dict[ContainerID, str] = {}
        self._listeners: dict[ContainerID | None, _Listener] = {}
        self._at_shared: set[ContainerID] = set()
        self._by_fd: dict[int, _Listener | Connection] = {}
        self._unregistered: dict[int, _Listener] = {}  # connections that have not registered
        self._executors: dict[ContainerID, Connection] = {}
        self._ids: dict[int, ContainerID] = {}
        self._outgoing: dict[ContainerID, list[Message]] = {}
        self._busy: dict[int, Connection] = {}  # with received messages that are not handled yet
        self._faults: list[Heard] = []
        self._accept_again_at: float | None = None
        self.dropped_peers = 0
        self.received_bytes = 0
        (directory / SHARED_SOCKET).unlink(missing_ok=True)

    def fileno(self) -> int:
        """Readable when `drain` has something to do, unless `has_more` says so."""
        return self._epoll.fileno()

    @property
    def has_more(self) -> bool:
        """Whether `drain` has something to do even if no more data comes."""
        return bool(self._busy or self._faults)

    # -- containers -----------------------------------------------------------------------------------------------------

    def address(self, container_id: ContainerID) -> str:
        """The address to which its executor connects."""
        return f"ipc://{self._directory / container_id / SOCKET}"

    def expect(self, container_id: ContainerID, token: str, uid: int, gid: int) -> None:
        """Listen for a container's executor, which runs as this user and has this token. Raises `OSError`."""
        path = self._directory / container_id / SOCKET
        self._open(_Listener(connections.listen(path, uid, gid), path, {uid, 0}, container_id))
        self._tokens[container_id] = token

    def expect_at_shared(self, container_id: ContainerID, token: str, uid: int) -> None:
        """The same for an executor of an older slave, at the shared socket. Raises `OSError`."""
        listener = self._listeners.get(None)
        if listener is None:
            path = self._directory / SHARED_SOCKET
            listener = _Listener(connections.bound(path), path, {0}, None)
            path.chmod(0o666)
            self._open(listener)
        listener.uids.add(uid)
        self._at_shared.add(container_id)
        self._tokens[container_id] = token

    def _open(self, listener: _Listener) -> None:
        self._listeners[listener.container_id] = listener
        self._by_fd[listener.server.fileno()] = listener
        self._epoll.register(listener.server, select.EPOLLIN)

    def forget(self, container_id: ContainerID) -> None:
        """Remove a container that is gone."""
        self._tokens.pop(container_id, None)
        self._hang_up(container_id)
        if container_id in self._at_shared:
            self._at_shared.discard(container_id)
            if not self._at_shared:
                listener = self._listeners.pop(None)
                self._close_listener(listener)
                listener.path.unlink(missing_ok=True)
        elif (known := self._listeners.pop(container_id, None)) is not None:
            self._close_listener(known)
            connections.remove(known.path)

    def _close_listener(self, listener: _Listener) -> None:
        for connection in list(listener.unregistered):
            self._close(connection)
        self._epoll.unregister(listener.server)
        del self._by_fd[listener.server.fileno()]
        listener.server.close()

    def sweep(self) -> None:
        """Remove the sockets of containers that are gone."""
        for directory in self._directory.iterdir():
            if directory.is_dir() and ContainerID(directory.name) not in self._listeners:
                connections.remove(directory / SOCKET)

    # -- out ------------------------------------------------------------------------------------------------------------

    def send(self, container_id: ContainerID, message: Message) -> None:
        """Queue a message for the next `flush`. It is dropped if the executor is not connected; it will register again."""
        if container_id in self._executors:
            self._outgoing.setdefault(container_id, []).append(message)

    def flush(self) -> list[ContainerID]:
        """Send the queued messages; returns the containers whose executor is gone or does not read."""
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
                self._faults.append((container_id, None, f"cannot be sent a message: {error}"))
                written = False
            if not written:
                lost.append(container_id)
                self._hang_up(container_id)
        return lost

    def hear(self, container_id: ContainerID, is_heard: bool) -> None:
        """Read its messages, or leave them in the kernel, so that the executor has to wait."""
        connection = self._executors.get(container_id)
        if connection is not None:
            connection.hear(is_heard)
            if connection.inbox and is_heard:
                self._busy[connection.fd] = connection
            else:
                self._busy.pop(connection.fd, None)

    # -- in -------------------------------------------------------------------------------------------------------------

    def drain(self) -> Iterator[Heard]:
        """Read and yield messages of executors, and what was wrong with them."""
        faults, self._faults = self._faults, []
        yield from faults
        busy = list(self._busy.values())
        for connection in busy:
            yield from self._heard(connection)
        for fd, events in self._epoll.poll(0):
            found = self._by_fd.get(fd)
            if isinstance(found, _Listener):
                self._accept(found)
            elif found is not None and not found.inbox:
                if events & select.EPOLLOUT and not found.write():
                    self._close(found)
                elif events & ~select.EPOLLOUT:
                    yield from self._read(found)

    def last_messages(self, container_id: ContainerID) -> Iterator[Heard]:
        """Its executor has ended: all of its messages that are not handled yet."""
        connection = self._executors.get(container_id)
        if connection is None:
            return
        yield from self._heard(connection, None)
        for _ in range(LAST_READS):
            # Its children may hold the socket open: then the stream does not end, but there is nothing more to read.
            if connection.fd not in self._ids or not (found := list(self._read(connection, None))):
                return
            yield from found

    def tick(self, now: float) -> None:
        """Close connections that did not register in time; accept again if that was paused."""
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            for listener in self._listeners.values():
                self._epoll.modify(listener.server, select.EPOLLIN)
        for fd in [fd for fd in self._unregistered if self._since(fd) + REGISTER_WITHIN_S <= now]:
            self._close(self._connection(fd))

    def next_deadline(self) -> float | None:
        first = min((self._since(fd) + REGISTER_WITHIN_S for fd in self._unregistered), default=None)
        again = self._accept_again_at
        return first if again is None else again if first is None else min(first, again)

    def _connection(self, fd: int) -> Connection:
        found = self._by_fd[fd]
        assert isinstance(found, Connection)
        return found

    def _since(self, fd: int) -> float:
        return self._connection(fd).since

    def _accept(self, listener: _Listener) -> None:
        """Accept one connection, so that a peer that connects again and again does not keep others waiting."""
        try:
            connected, _ = listener.server.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            line = f"cannot accept an executor's connection: {error.strerror}"
            self._lines.log(None, logging.ERROR, line, time.monotonic())
            self._accept_again_at = time.monotonic() + ACCEPT_AGAIN_S
            for each in self._listeners.values():
                self._epoll.modify(each.server, 0)
            return
        uid = connections.peer_uid(connected)
        if uid not in listener.uids:
            self.dropped_peers += 1
            self._complain(listener, f"refused a connection of uid {uid}")
            connected.close()
            return
        connection = Connection(connected, self._epoll, time.monotonic())
        self._by_fd[connection.fd] = connection
        self._unregistered[connection.fd] = listener
        listener.unregistered.append(connection)
        if len(listener.unregistered) > MOST_UNREGISTERED:
            self._close(listener.unregistered[0])

    def _read(self, connection: Connection, most: int | None = MESSAGES_A_TURN) -> Iterator[Heard]:
        before = connection.received_bytes
        try:
            connection.receive(codec.from_executor)
        except (NotZMTP, BadMessage) as error:
            yield from self._heard(connection, None)  # earlier messages
            yield from self._fault(
                connection, f"sent something that is not a message of offerd: {printable(str(error))}"
            )
            return
        self.received_bytes += connection.received_bytes - before
        yield from self._heard(connection, None if connection.is_at_end else most)
        if connection.is_at_end:
            self._close(connection)

    def _heard(self, connection: Connection, most: int | None = MESSAGES_A_TURN) -> Iterator[Heard]:
        """Yield its messages, at most `most` of them; the rest follows later."""
        inbox = connection.inbox
        container_id = self._ids.get(connection.fd)
        if container_id is None and inbox:
            registration = inbox.popleft()
            if type(registration) is not RegisterExecutor:
                # It may believe that it is still connected to an earlier slave process.
                inbox.clear()
                connection.send(codec.frames([NotRegistered()]))
                return
            if complaint := self._admit(connection, registration):
                yield from self._fault(connection, complaint)
                return
            container_id = registration.container_id
            yield container_id, registration, ""
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
                yield from self._fault(connection, "registered twice")
                return
            yield container_id, message, ""
        # The connection may have been closed meanwhile, and its descriptor used again.
        if inbox and connection.is_heard and self._by_fd.get(connection.fd) is connection:
            self._busy[connection.fd] = connection
        else:
            self._busy.pop(connection.fd, None)

    def _admit(self, connection: Connection, registration: RegisterExecutor) -> str:
        listener = self._unregistered[connection.fd]
        token = self._tokens.get(registration.container_id)
        is_here = listener.container_id == registration.container_id or (
            listener.container_id is None and registration.container_id in self._at_shared
        )
        if (
            not is_here
            or token is None
            or not hmac.compare_digest(token.encode(), registration.token.encode())
        ):
            return f"claims to be container {printable(registration.container_id, 40)} without its token"
        if registration.protocol < OLDEST_PROTOCOL:
            return f"uses protocol {registration.protocol}; the oldest that is supported is {OLDEST_PROTOCOL}"
        self._hang_up(registration.container_id)
        listener.unregistered.remove(connection)
        del self._unregistered[connection.fd]
        self._executors[registration.container_id] = connection
        self._ids[connection.fd] = registration.container_id
        return ""

    def _fault(self, connection: Connection, complaint: str) -> Iterator[Heard]:
        self.dropped_peers += 1
        container_id = self._ids.get(connection.fd)
        listener = self._unregistered.get(connection.fd)
        self._close(connection)
        if container_id is not None:
            yield container_id, None, complaint
        elif listener is not None:
            self._complain(listener, f"dropped a peer: it {complaint}")

    def _complain(self, listener: _Listener, text: str) -> None:
        name = listener.container_id or SHARED_SOCKET
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
        if (listener := self._unregistered.pop(connection.fd, None)) is not None:
            listener.unregistered.remove(connection)
        connection.close()

    def close(self) -> None:
        """Stop listening, and remove the sockets. Their directories stay, as containers have them mounted."""
        for container_id in list(self._executors):
            self._hang_up(container_id)
        for listener in list(self._listeners.values()):
            self._close_listener(listener)
            listener.path.unlink(missing_ok=True)
        self._epoll.close()
