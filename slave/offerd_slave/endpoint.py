"""Where executors connect: a ROUTER on a path socket, and who is behind each of its peers.

A routing id is chosen by its owner and proves nothing. What proves a container's identity is the token that was put into
its environment when it was launched: only a hello with it binds the peer to the container.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from offerd import codec
from offerd.errors import BadMessage
from offerd.ids import ContainerID, PeerID
from offerd.messages import OLDEST_PROTOCOL, Message, NotRegistered, RegisterExecutor
from offerd.transport import Server, ipc

MAX_DROPPED = 1024
"""Peers remembered as dropped; each is a process of this host, and reconnecting gives it a new routing id anyway."""


class Endpoint:
    """The slave's side of all its executors' connections."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path) -> None:
        """Bind. Raises `BadInput` if the path is too long or the directory cannot be written."""
        path.unlink(missing_ok=True)
        self._server: Server[Any] = Server(context, ipc(path), codec.from_executor)
        self._path = path
        path.chmod(0o666)  # the directory says who may come in; the token says who it is
        self.socket = self._server.socket
        self._tokens: dict[ContainerID, str] = {}
        self._peers: dict[PeerID, ContainerID] = {}
        self._addresses: dict[ContainerID, PeerID] = {}
        self._dropped: set[PeerID] = set()
        self.dropped_peers = 0

    def expect(self, container_id: ContainerID, token: str) -> None:
        """A container with this token may say hello."""
        self._tokens[container_id] = token

    def forget(self, container_id: ContainerID) -> None:
        """Its container is gone."""
        self._tokens.pop(container_id, None)
        peer = self._addresses.pop(container_id, None)
        if peer is not None:
            self._peers.pop(peer, None)

    def send(self, container_id: ContainerID, message: Message) -> None:
        """Queue for the next `flush`; lost if the executor is not connected (it will say hello when it is)."""
        peer = self._addresses.get(container_id)
        if peer is not None:
            self._server.send(peer, message)

    def flush(self) -> list[ContainerID]:
        """Write what is queued; returns the containers whose executor is gone or does not read."""
        lost = [self._peers.pop(peer) for peer in self._server.flush() if peer in self._peers]
        for container_id in lost:
            self._addresses.pop(container_id, None)
        return lost

    def drain(self) -> Iterator[tuple[ContainerID, Any, str]]:
        """`(container, message, "")` of all that is there; `("", None, complaint)` where a peer was dropped."""
        for peer, messages in self._server.drain():
            if peer in self._dropped:
                continue
            if isinstance(messages, BadMessage):
                yield ContainerID(""), None, self._drop(peer, str(messages))
                continue
            container_id = self._peers.get(peer)
            for message in messages:
                if type(message) is RegisterExecutor:
                    complaint = self._admit(peer, message)
                    if complaint:
                        yield ContainerID(""), None, self._drop(peer, complaint)
                        break
                    container_id = message.container_id
                elif container_id is None:
                    # We may have been restarted: whoever has the token will say hello again.
                    self._server.send(peer, NotRegistered())
                    break
                yield container_id, message, ""

    def _admit(self, peer: PeerID, hello: RegisterExecutor) -> str:
        token = self._tokens.get(hello.container_id)
        if token is None or not hmac.compare_digest(token.encode(), hello.token.encode()):
            return f"it claims to be container {hello.container_id} without its token"
        if hello.protocol < OLDEST_PROTOCOL:
            return f"it speaks protocol {hello.protocol}, the oldest we know is {OLDEST_PROTOCOL}"
        before = self._addresses.get(hello.container_id)
        if before is not None:
            self._peers.pop(before, None)
        self._peers[peer] = hello.container_id
        self._addresses[hello.container_id] = peer
        return ""

    def _drop(self, peer: PeerID, complaint: str) -> str:
        if len(self._dropped) >= MAX_DROPPED:
            self._dropped.clear()
        self._dropped.add(peer)
        self.dropped_peers += 1
        container_id = self._peers.pop(peer, None)
        if container_id is not None:
            self._addresses.pop(container_id, None)
        return f"dropped a peer of the executors' socket ({container_id or 'unknown'}): {complaint}"

    def close(self) -> None:
        """Stop listening; the path goes, so that nobody connects to nothing."""
        self._server.close()
        self._path.unlink(missing_ok=True)
