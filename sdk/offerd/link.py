"""Tells a driver when the connection to its master breaks and when it stands again.

ZeroMQ mends connections by itself and says nothing. But whoever listens on the other end after that knows nothing of us:
without a word from us a new master would stay silent, and its silence would be noticed only after three missed pings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import zmq

from offerd.errors import KeyRefused

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class LinkMonitor:
    """The changes of one client socket's connection. Close it before the socket."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self._watched = watched
        self.socket: zmq.Socket[bytes] = watched.get_monitor_socket(_EVENTS)
        """To be polled for reading."""
        # Its descriptor tells of nothing before the first look.
        self.socket.poll(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close()  # or the context waits for it for ever

    def changes(self) -> Iterator[bool]:
        """What happened since the last look: True for each connection made, False for each lost.

        Raises `KeyRefused` if the server does not authorize our key: ZeroMQ does not try again then.
        """
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            # 16 bits of event number come first. `zmq.utils.monitor` would import asyncio for them.
            event = int.from_bytes(parts[0][:2], sys.byteorder)
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise KeyRefused(
                    "the master does not know our key; an operator writes it into its --authorized file"
                )
            yield event == zmq.EVENT_HANDSHAKE_SUCCEEDED
