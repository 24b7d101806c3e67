"""A TCP proxy that can cut connections, drop the data of one direction, and be slow."""

from __future__ import annotations

import selectors
import socket
import threading
import time

PIECE_BYTES = 64 << 10


class _Flow:
    """One direction of one connection."""

    def __init__(self, reader: socket.socket, writer: socket.socket, upwards: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.upwards = upwards


class Proxy:
    """Listens on `ip` and a free `port`, and carries everything to `target`. A thread of its own until closed."""

    def __init__(self, target: tuple[str, int], ip: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self._listener = socket.create_server((ip, port), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_out, self._wake_in = socket.socketpair()
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._stalled_until = {True: 0.0, False: 0.0}
        self._cutting = False
        self._closing = False
        self._flows: dict[socket.socket, _Flow] = {}
        self._thread = threading.Thread(target=self._work, name="proxy", daemon=True)
        self._thread.start()

    # -- faults ---------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break all connections that stand; new ones may be made."""
        self._cutting = True
        self._wake()

    def stall(self, upwards: bool, seconds: float) -> None:
        """Carry nothing in this direction (upwards: to the target) for so long: neither side's connection breaks."""
        self._stalled_until[upwards] = time.monotonic() + seconds
        self._wake()

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._wake_in.send(b"!")

    def _work(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_out:
                    self._wake_out.recv(4096)
                elif isinstance(key.fileobj, socket.socket) and (flow := self._flows.get(key.fileobj)):
                    self._carry(flow)
            if self._cutting:
                self._cutting = False
                for reader in list(self._flows):
                    self._break(reader)
            self._watch_what_is_not_stalled()
        for reader in list(self._flows):
            self._break(reader)
        self._selector.close()
        for each in (self._listener, self._wake_in, self._wake_out):
            each.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(self.target, timeout=1.0)
        except OSError:  # nothing listens there, and the client should see that, too
            client.close()
            return
        for flow in (_Flow(client, server, True), _Flow(server, client, False)):
            flow.reader.settimeout(5.0)
            self._flows[flow.reader] = flow
            self._selector.register(flow.reader, selectors.EVENT_READ)

    def _carry(self, flow: _Flow) -> None:
        try:
            piece = flow.reader.recv(PIECE_BYTES)
            if piece:
                flow.writer.sendall(piece)
        except OSError:
            piece = b""
        if not piece:
            self._break(flow.reader)

    def _watch_what_is_not_stalled(self) -> None:
        """A stalled direction is not read: TCP holds back whoever sends there."""
        now = time.monotonic()
        watched = {key.fileobj for key in self._selector.get_map().values()}
        for reader, flow in self._flows.items():
            is_stalled = now < self._stalled_until[flow.upwards]
            if is_stalled and reader in watched:
                self._selector.unregister(reader)
            elif not is_stalled and reader not in watched:
                self._selector.register(reader, selectors.EVENT_READ)

    def _break(self, reader: socket.socket) -> None:
        flow = self._flows.get(reader)
        if flow is None:
            return
        watched = {key.fileobj for key in self._selector.get_map().values()}
        for each in (flow.reader, flow.writer):
            if self._flows.pop(each, None) is not None:
                if each in watched:
                    self._selector.unregister(each)
                each.close()
