"""The TCP connections of a server as the kernel sees them, and a guard that ends those which cost more than they say.

libzmq hands a message on when all its parts have arrived, and does not limit what comes before: a peer whose message never ends
would fill our memory, and one that never sends anything would hold a descriptor. The socket shows neither. But the kernel
counts the bytes received on each connection (`tcpi_bytes_received`, linux/tcp.h), and we count the frames. Neither kind of peer
wakes the loop, so a separate thread checks: often and cheaply whether our memory grows, and only if it does, each connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from offerd.wire.descriptors import descriptors

LOOK_S = 0.02
"""Time between two checks of our memory."""
GROWTH_BYTES = 8 << 20
"""Connections are checked when memory has grown by this."""
UNFINISHED_BYTES = 16 << 20
"""Most bytes that a connection may bring without a complete frame. A loop that is busy for a while leaves 32 messages unread,
but of a quarter of a mebibyte, rarely more.
"""
TIGHT_BYTES = 16 << 20
"""If memory has grown by so much for `TIGHT_LOOKS` checks, the connection with the most unfinished bytes is ended, if those are
more than `SMALL_BYTES`: many peers may bring a little each.
"""
TIGHT_LOOKS = 5
SMALL_BYTES = 2 << 20
SWEEP_S = 2.0
"""Time between two counts of silent connections."""
SILENT_S = 10.0
"""A connection counts as silent after this time: every peer registers as soon as it is connected."""
MAX_SILENT = 256
"""Most silent connections; beyond that the oldest are ended."""

_BYTES_RECEIVED = 128
"""Offset of the field in the kernel's `struct tcp_info`."""
_OF_IP = (socket.AF_INET, socket.AF_INET6)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Connection:
    """A peer's connection. `key`: its verified public key; empty if the server has no keys. `frames`: received over it."""

    __slots__ = ("descriptor", "frames", "key", "name")

    def __init__(self, descriptor: int, name: Any, key: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.key = key
        self.frames = 0


@contextlib.contextmanager
def borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket that libzmq owns, for reading its state. Needs no new descriptor: there may be none. Raises `OSError`."""
    held = socket.socket(fileno=descriptor)
    try:
        yield held
    finally:
        held.detach()


def other_end(descriptor: int) -> Any:
    """The address of the other end; None if the connection is gone."""
    try:
        with borrowed(descriptor) as held:
            return held.getpeername()
    except OSError:
        return None


def hang_up(descriptor: int, name: Any) -> None:
    """End the connection with this other end; libzmq closes it when it notices. If libzmq has closed it already, the number may
    belong to another connection by now, and nothing happens.
    """
    try:
        ours = os.dup(descriptor)  # so that libzmq does not close it between the check and the end
    except OSError:
        ours = -1  # no free descriptor, or it is closed already
    try:
        with contextlib.suppress(OSError), borrowed(descriptor if ours < 0 else ours) as held:
            if held.getpeername() == name:
                held.shutdown(socket.SHUT_RDWR)
    finally:
        if ours >= 0:
            os.close(ours)


class _Seen:
    """A connection when it was last checked after new frames had come over it."""

    __slots__ = ("frames", "name", "received", "since")

    def __init__(self, name: Any, since: float, frames: int, received: int) -> None:
        self.name = name
        self.since = since
        self.frames = frames
        self.received = received


class ConnectionGuard:
    """Guards the connections accepted at this port until `close`. `heard` maps descriptors to connections over which frames
    have come; the guard's thread reads it.
    """

    def __init__(self, port: int, heard: Mapping[int, Connection]) -> None:
        self._port = port
        self._heard = heard
        self._seen: dict[int, _Seen] = {}
        self.ended = 0
        """Connections ended so far."""
        self.there = 0
        """Connections accepted and still there, when they were counted last (`SWEEP_S`)."""
        # All that the guard needs is opened now, as it must work when descriptors have run out.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._usual_bytes = self._resident_bytes()
        self._tight_looks = 0
        self._sweep_at = 0.0
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="connections", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._is_closing = True
        self._thread.join()
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def _work(self) -> None:
        # Not an event's wait, which takes a third more of a processor: at rest this thread is most of what a master uses.
        time.sleep(LOOK_S)
        while not self._is_closing:
            self.look(self._resident_bytes(), time.monotonic())
            time.sleep(LOOK_S)

    def _resident_bytes(self) -> int:
        return int(os.pread(self._statm, 200, 0).split()[1]) * _PAGE_BYTES

    def look(self, resident_bytes: int, now: float) -> None:
        """One check; the thread calls this again and again."""
        self._usual_bytes = min(self._usual_bytes, resident_bytes)
        grown = resident_bytes - self._usual_bytes
        if grown > GROWTH_BYTES:
            unfinished = self._unfinished(now)
            for descriptor, pending in unfinished.items():
                if pending > UNFINISHED_BYTES:
                    self._end(descriptor)
            self._tight_looks = self._tight_looks + 1 if grown > TIGHT_BYTES else 0
            if self._tight_looks > TIGHT_LOOKS and unfinished:
                worst = max(unfinished, key=lambda descriptor: unfinished[descriptor])
                if unfinished[worst] > SMALL_BYTES:
                    self._end(worst)
            if all(pending <= SMALL_BYTES for pending in unfinished.values()):
                self._usual_bytes = resident_bytes  # something else has grown
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._sweep(now)

    def _unfinished(self, now: float) -> dict[int, int]:
        """For each descriptor, the bytes that have come since the last frame, or since the first check."""
        found: dict[int, int] = {}
        for descriptor, held in self._accepted():
            received = _bytes_received(held)
            seen = self._note(descriptor, held, received, now)
            if seen is not None:
                found[descriptor] = received - seen.received
        return found

    def _sweep(self, now: float) -> None:
        """Forget closed connections, and end the oldest silent ones if there are too many."""
        there = set()
        silent = []
        for descriptor, held in self._accepted():
            there.add(descriptor)
            seen = self._note(descriptor, held, 0, now)
            if seen is not None and self._frames(descriptor, seen.name) < 0 and now - seen.since > SILENT_S:
                silent.append((seen.since, descriptor))
        self.there = len(there)
        for gone in self._seen.keys() - there:
            del self._seen[gone]
        for _, descriptor in sorted(silent)[: max(0, len(silent) - MAX_SILENT)]:
            self._end(descriptor)

    def _note(self, descriptor: int, held: socket.socket, received: int, now: float) -> _Seen | None:
        """The connection at its last frame; None if it has just gone."""
        try:
            name = held.getpeername()
        except OSError:
            return None
        frames = self._frames(descriptor, name)
        seen = self._seen.get(descriptor)
        if seen is None or seen.name != name:
            seen = self._seen[descriptor] = _Seen(name, now, frames, received)
        elif frames != seen.frames or (received and not seen.received):
            seen.frames, seen.received = frames, received
        return seen

    def _frames(self, descriptor: int, name: Any) -> int:
        """How many frames have come over it; -1 if none."""
        connection = self._heard.get(descriptor)
        return connection.frames if connection is not None and connection.name == name else -1

    def _accepted(self) -> Iterator[tuple[int, socket.socket]]:
        """The connections at our port, each with the descriptor number that libzmq has for it."""
        for descriptor in _descriptors_in_use():
            try:
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    continue
                with borrowed(descriptor) as held:
                    is_stream = held.family in _OF_IP and held.type == socket.SOCK_STREAM
                    if is_stream and held.getsockname()[1] == self._port and held.getpeername() is not None:
                        yield descriptor, held
            except OSError:
                continue  # closed meanwhile, or the one that listens

    def _end(self, descriptor: int) -> None:
        seen = self._seen.pop(descriptor, None)
        if seen is not None:
            self.ended += 1
            hang_up(descriptor, seen.name)


def _descriptors_in_use() -> Iterable[int]:
    """The descriptors in use. If none is left to list them with, then all numbers, as all are in use."""
    try:
        return map(int, os.listdir("/proc/self/fd"))
    except OSError:
        return range(descriptors())


def _bytes_received(held: socket.socket) -> int:
    try:
        info = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
    except OSError:
        return 0
    return int.from_bytes(info[_BYTES_RECEIVED:], "little") if len(info) == _BYTES_RECEIVED + 8 else 0
