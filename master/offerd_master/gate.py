"""The gate of a master with keys: it admits connections by the key that the peer has proved (ZeroMQ's ZAP, RFC 27).

libzmq asks it over a socket of its own, in the master's loop. Each admitted frame carries its peer's public key (`Server.key`).
What the owner of a key may send is decided by the core (`offerd_master.core.authorization`).
"""

from __future__ import annotations

import time
import tomllib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from offerd.addresses import canonical
from offerd.credentials.trusted_files import read_trusted
from offerd.errors import BadInput
from offerd_master.core.events import HandshakeRefused
from offerd_master.core.registry import Registry
from offerd_master.principals import Principals, parse_principals

MAX_NAMED = 10_000
"""How many refused strangers are remembered as logged. Beyond that they are counted, and logged again."""
CONNECTIONS_AT_ONCE = 1_000
"""Connections of one key before it must wait; then `CONNECTIONS_A_SECOND`. libzmq numbers its connections, peers may choose
their own names, and libzmq aborts when both are the same: so the number of a key's attempts is bounded.
"""
CONNECTIONS_A_SECOND = 50.0


def read_principals(path: Path) -> Principals:
    """Read the `--authorized` file. Raises `BadInput` with one line."""
    try:
        return parse_principals(tomllib.loads(read_trusted(path, "the file").decode()))
    except OSError as error:
        raise BadInput(f"--authorized {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, BadInput) as error:
        raise BadInput(f"--authorized {path}: {error}") from None


class Paces:
    """How often each key may connect. `takes(key, now)` returns whether it may now, and counts it if so."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # (connections left, time of counting), in the order of times

    def takes(self, key: str, now: float) -> bool:
        left, since = self._left.pop(key, (float(CONNECTIONS_AT_ONCE), now))
        left = min(left + (now - since) * CONNECTIONS_A_SECOND, CONNECTIONS_AT_ONCE)
        may = left >= 1.0
        self._left[key] = (left - may, now)
        if len(self._left) > MAX_NAMED:
            self._left.popitem(last=False)
        return may


class Gate:
    """Open it before the server that it guards, in the same context: without a gate libzmq admits any key."""

    def __init__(self, context: zmq.Context[Any], registry: Registry) -> None:
        self.registry = registry
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self._monitor: zmq.Socket[Any] | None = None
        self._watched: zmq.Socket[Any] | None = None
        self._named: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._paces = Paces()

    def watch(self, server: zmq.Socket[Any]) -> None:
        """Also notice peers that come to this socket without any key, or with another master's: libzmq does not ask about them.

        Both ends notice the mismatch. If the peer is first it hangs up, and here the handshake has merely broken off.
        """
        self._watched = server
        self._monitor = server.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )

    def sockets(self) -> Iterator[zmq.Socket[Any]]:
        """The sockets to poll for reading; then call `turn`."""
        yield self.socket
        if self._monitor is not None:
            yield self._monitor

    def turn(self) -> Iterator[HandshakeRefused]:
        """Answer libzmq. Yields each refused handshake; its line is empty if it was yielded before."""
        while self.socket.poll(0):
            version, request, _, address, _, mechanism, *credentials = self.socket.recv_multipart()
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
            now = time.monotonic()
            cause, why = self.registry.refusal(key, now)
            answer = [b"400", b"not authorized", b""] if why else [b"200", b"", key.encode()]
            if not why and not self._paces.takes(key, now):
                why = "its key connects too often"
                answer = [
                    b"300",
                    b"too often",
                    b"",
                ]  # RFC 27: a temporary refusal; the peer tries again by itself
            self.socket.send_multipart([version, request, *answer, b""])
            if why:
                yield HandshakeRefused(
                    self._once(_shown(address.decode("ascii", "replace")), key, why), cause
                )
        while self._monitor is not None and self._monitor.poll(0):
            self._monitor.recv_multipart()
            yield HandshakeRefused(
                self._once("", "", "peers without a key, or with the key of another master")
            )

    def _once(self, address: str, key: str, why: str) -> str:
        if (address, key) in self._named:
            return ""
        self._named[address, key] = None
        if len(self._named) > MAX_NAMED:
            self._named.popitem(last=False)
        return f"a peer at {address}: {why}" if key else why

    def name_again(self) -> None:
        """The admitted keys have changed: log each refused peer again."""
        self._named.clear()

    def close(self) -> None:
        if self._monitor is not None and self._watched is not None:
            self._watched.disable_monitor()
            self._monitor.close()
        self.socket.close()


def _shown(address: str) -> str:
    """A peer's address as people write it: a server for IPv6 and IPv4 sees `10.0.0.1` as `::ffff:10.0.0.1`."""
    try:
        return canonical(address)
    except ValueError:
        return address
