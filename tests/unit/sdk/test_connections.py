"""Connections that burden a server without saying anything: endless messages, and silence."""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import zmq

from helpers.cli import wait_until
from offerd import messages as m
from offerd.ids import ExecutorID, FrameworkID, SlaveID
from offerd.wire import codec, connections
from offerd.wire.connections import ConnectionGuard
from offerd.wire.transport import Server, new_context

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
READY = b"\x04" + bytes([len(_READY)]) + _READY
PART = b"\x03" + struct.pack(">Q", 1 << 20) + b"x" * (1 << 20)
"""A part of a mebibyte, and more to come."""


class Site:
    """A server without keys, a guard that checks only when a test calls it, and clients."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.context = new_context()
        self.server: Server[codec.ToMaster] = Server(self.context, "tcp://127.0.0.1:*", codec.to_master)
        self.guard = ConnectionGuard(self.port, self.server._by_descriptor)
        self.guard.close()  # its thread: the test says when to look
        self.usual = 100 << 20
        self.guard.look(self.usual, 0.0)

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    def raw(self) -> socket.socket:
        """A connection that has shaken hands by itself."""
        client = self.stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 5))
        client.sendall(GREETING + READY)
        answer = b""
        while b"READY" not in answer:
            answer += client.recv(4096)
        return client

    def grown(self, by: int, now: float) -> int:
        """Look, with memory grown by so much; how many were ended so far."""
        self.guard.look(self.usual + by, now)
        return self.guard.ended


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        made = Site(stack)
        try:
            yield made
        finally:
            stack.close()
            made.server.close()
            made.context.term()


def is_ended(client: socket.socket) -> bool:
    """Whether the other side has closed the connection; what it had sent is read and dropped."""
    client.settimeout(0.05)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_a_message_that_never_ends_ends_its_connection_and_no_other(site: Site) -> None:
    honest = site.stack.enter_context(site.context.socket(zmq.DEALER))
    honest.connect(site.server.address)
    honest.send(next(codec.frames([m.Pong()])))
    wait_until(lambda: list(site.server.receive()), "the honest one's message")
    endless = site.raw()
    site.grown(connections.GROWTH_BYTES + 1, 1.0)
    for _ in range(20):
        endless.sendall(PART)
    wait_until(lambda: site.grown(64 << 20, 2.0), "the endless one to be ended")
    wait_until(lambda: is_ended(endless), "it to notice")
    honest.send(next(codec.frames([m.Pong()])))
    wait_until(lambda: list(site.server.receive()), "the honest one to be heard still")
    assert site.guard.ended == 1


def test_many_connections_with_a_little_each_are_ended_while_memory_grows(site: Site) -> None:
    clients = [site.raw() for _ in range(3)]
    site.grown(connections.GROWTH_BYTES + 1, 1.0)
    for client in clients:
        for _ in range(4):
            client.sendall(PART)
    wait_until(lambda: site.grown(64 << 20, 2.0) == 3, "all of them to be ended")


def test_a_peer_that_sends_much_and_is_read_is_left_alone(site: Site) -> None:
    client = site.stack.enter_context(site.context.socket(zmq.DEALER))
    client.connect(site.server.address)
    frame = next(
        codec.frames([m.FrameworkMessage(FrameworkID("F"), SlaveID("S"), ExecutorID("e"), b"x" * 500_000)])
    )
    for number in range(60):
        client.send(frame)
        wait_until(lambda: list(site.server.receive()), "its message")
        site.grown(64 << 20, 1.0 + number)
    assert site.guard.ended == 0


def test_memory_growth_without_a_guilty_connection_becomes_the_new_normal(site: Site) -> None:
    quiet = site.raw()
    for number in range(10):
        site.grown(64 << 20, 1.0 + number)
    assert site.guard.ended == 0
    assert not is_ended(quiet)


def test_the_oldest_of_too_many_silent_connections_are_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_SILENT", 2)
    talker = site.stack.enter_context(site.context.socket(zmq.DEALER))
    talker.connect(site.server.address)
    talker.send(next(codec.frames([m.Pong()])))
    wait_until(lambda: list(site.server.receive()), "the talker's message")
    first = [site.raw() for _ in range(2)]
    site.guard.look(site.usual, 10.0)
    later = [site.raw() for _ in range(2)]
    site.guard.look(site.usual, 13.0)
    site.guard.look(site.usual, 19.0)
    assert site.guard.ended == 0, "none is silent for long enough to be too many"
    site.guard.look(site.usual, 10.0 + connections.SILENT_S + 4.0)
    wait_until(lambda: all(map(is_ended, first)), "the older two to be ended")
    assert not any(map(is_ended, later))
    assert site.guard.ended == 2


def test_it_guards_also_when_no_descriptor_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_SILENT", 2)
    monkeypatch.setattr(connections, "SILENT_S", 0.1)
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)
    clients = [site.raw() for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    guard = None
    try:
        guard = ConnectionGuard(site.port, site.server._by_descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        with suppress(OSError):
            while True:
                held.append(os.dup(0))
        wait_until(lambda: sum(map(is_ended, clients)) == 3, "all but two to be ended")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
        if guard is not None:
            guard.close()
