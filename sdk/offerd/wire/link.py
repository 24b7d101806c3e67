"""Reports when the connection to a master breaks and when it stands again, or why none can be made.

ZeroMQ reconnects silently. But the peer at the other end may then be one that does not know us: a new master would stay silent
until we register, and we would notice its silence only after three missed pings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import zmq

from offerd.addresses import parse
from offerd.credentials.keys import no_key
from offerd.errors import BadInput, KeyRefused, NoKey
from offerd.wire.closing import Closing

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_GREETING_BEGINS = b"\xff\0\0\0\0\0\0\0\1\x7f\3"
"""Signature and version. The server then sends its whole greeting, before ours can give it a reason to close the connection."""
_GREETING_BYTES = 64
_MECHANISM = slice(12, 32)
_LOOK_TIMEOUT_S = 0.3


class LinkMonitor(Closing):
    """Watches the connection of one client socket. Close it before the socket.

    `address`: where the socket connects to; `has_keys`: whether it uses keys.
    """

    def __init__(self, watched: zmq.Socket[bytes], address: str = "", has_keys: bool = False) -> None:
        self._watched, self._address, self._has_keys = watched, address, has_keys
        self._failures = 0
        self.is_given_up = False
        """ZeroMQ does not try again, because the server broke the handshake's rules: the socket must be connected anew."""
        self.is_up = False
        """Whether there is a connection (with keys, if we have them), as of the last call of `changes`."""
        self.socket: zmq.Socket[bytes] = watched.get_monitor_socket(_EVENTS)
        """To be polled for reading."""
        # Its descriptor reports nothing until the socket was read once.
        self.socket.poll(0)

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close()  # otherwise the context would wait for it for ever

    def changes(self) -> Iterator[bool]:
        """The changes since the last call: True for each connection made, False for each one lost.

        Raises `KeyRefused` if the server does not accept our key (ZeroMQ does not try again then), and `NoKey` if it requires
        a key and we have none.
        """
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            # The event number is the first 16 bits. `zmq.utils.monitor` would import asyncio to read it.
            event = int.from_bytes(parts[0][:2], sys.byteorder)
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise KeyRefused(
                    f"the master does not know our key; have the operator of the cluster{self._at()} authorize its public "
                    "part, which `offerd cluster list` shows"
                )
            if event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                self._failed(is_final=event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
                continue
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._failures = 0
            self.is_up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            yield self.is_up

    def _failed(self, *, is_final: bool) -> None:
        self._failures += 1
        self.is_given_up |= is_final
        if not self._has_keys and mechanism_at(self._address) == "CURVE":
            raise NoKey(no_key(self._address.removeprefix("tcp://")))

    def fault(self) -> str:
        """One line on why the handshake with the server failed; empty if it did not."""
        if not self._failures or not self._has_keys:
            return ""
        return {
            "NULL": f"the server{self._at()} uses no keys, but we have one for it; is it the right one?",
            "CURVE": f"the server{self._at()} does not have the key that we know the master by; is it the right one?",
        }.get(mechanism_at(self._address), "")

    def _at(self) -> str:
        return f" at {self._address.removeprefix('tcp://')}" if self._address else ""


def mechanism_at(address: str) -> str:
    """How a ZeroMQ server at `tcp://HOST:PORT` secures its connections (NULL, CURVE); empty if there is none.

    ZeroMQ's own event does not show this: the first to notice a difference closes the connection, which looks like any other
    end from the other side.
    """
    import socket  # rarely needed: most handshakes succeed

    got = b""
    try:
        with socket.create_connection(parse(address), _LOOK_TIMEOUT_S) as link:
            link.settimeout(_LOOK_TIMEOUT_S)
            link.sendall(_GREETING_BEGINS)
            while len(got) < _GREETING_BYTES and (piece := link.recv(_GREETING_BYTES - len(got))):
                got += piece
    except (OSError, ValueError, BadInput):
        return ""
    return got[_MECHANISM].rstrip(b"\0").decode("ascii", "replace") if got.startswith(b"\xff") else ""
