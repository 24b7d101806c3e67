"""Sockets over IPv6: which host is reached, over which IP version, and what errors say."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import zmq

from helpers.cli import wait_until
from helpers.ipv6 import NO_IPV6, has_ipv6
from offerd.addresses import HostPort, parse
from offerd.errors import BadInput
from offerd.ids import PeerID
from offerd.masters import absence
from offerd.messages import Ping, Pong
from offerd.wire import codec, connections
from offerd.wire.connections import ConnectionGuard
from offerd.wire.link import mechanism_at
from offerd.wire.routes import address_towards, bound, is_here, over_ipv6
from offerd.wire.transport import Client, Server, new_context

pytestmark = pytest.mark.skipif(not has_ipv6(), reason=NO_IPV6)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made = new_context()
    yield made
    made.term()


@pytest.mark.parametrize(
    ("listening", "towards", "seen"),
    [("[::1]", "[::1]", "::1"), ("[::]", "[::1]", "::1"), ("[::]", "127.0.0.1", "127.0.0.1")],
)
def test_messages_go_both_ways_and_the_peers_address_is_known(
    context: zmq.Context[Any], listening: str, towards: str, seen: str
) -> None:
    server: Server[Any] = Server(context, f"tcp://{listening}:*", codec.to_master)
    client: Client[Any] = Client(
        context, f"tcp://{towards}:{parse(server.address).port}", codec.to_scheduler, monitored=True
    )
    with ExitStack() as stack:
        stack.callback(server.close)
        stack.callback(client.close)
        client.send(Pong())
        client.flush()
        heard: list[tuple[PeerID, Any]] = []

        def is_heard() -> bool:
            heard.extend(server.drain())
            return bool(heard)

        wait_until(is_heard, "the client's message")
        peer = heard[0][0]
        assert server.ip_of(peer) == seen
        server.send(peer, Ping())
        server.flush()
        wait_until(lambda: list(client.drain()), "the answer")
        assert mechanism_at(client.address) == "NULL"
        assert absence.why_no_answer(client.address, has_keys=False).endswith(
            "accepts connections, but does not answer"
        )


def test_silent_connections_are_counted_and_ended_as_those_of_ipv4_are(
    context: zmq.Context[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_SILENT", 1)
    server: Server[Any] = Server(context, "tcp://[::1]:*", codec.to_master)
    place = parse(server.address)
    guard = ConnectionGuard(place.port, server._by_descriptor)
    guard.close()  # its thread: the test says when to look
    with ExitStack() as stack:
        stack.callback(server.close)
        links = [stack.enter_context(socket.create_connection(place, 5)) for _ in range(2)]
        for link in links:
            assert link.recv(1), "it greets: the connection is libzmq's by now"
        guard.look(0, 10.0)
        guard.look(0, 10.0 + connections.SILENT_S + connections.SWEEP_S + 1)
        assert guard.ended == 1


def test_an_unusable_address_is_an_error_of_one_line(context: zmq.Context[Any]) -> None:
    for address in ("tcp://[2001:db8::1]:*", "tcp://[::1%nope]:*"):
        with pytest.raises(BadInput, match="cannot listen on"):
            Server(context, address, codec.to_master)
    with pytest.raises(BadInput, match="does not say on which interface"):
        Client(context, "tcp://[fe80::1]:5060", codec.to_scheduler)
    with pytest.raises(BadInput, match="this host has no interface nope"):
        Client(context, "tcp://[fe80::1%nope]:5060", codec.to_scheduler)


def test_over_which_ip_an_address_is_reached_is_plain() -> None:
    assert [over_ipv6(HostPort(host, 1)) for host in ("::1", "fe80::1%lo", "127.0.0.1")] == [
        True,
        True,
        False,
    ]
    assert over_ipv6(HostPort("no-such-name.invalid", 1)), "libzmq takes IPv4 addresses then, too"


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name lead to these."""

    def resolved(_name: str, *more: Any, **kind: Any) -> list[Any]:
        return [each for ip in addresses for each in real(ip, *more, **kind)]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.parametrize(
    ("listening", "said"),
    [
        ("127.0.0.1", "both.example:{port} accepts connections, but does not answer"),
        ("", "nothing listens at both.example:{port}"),
        (
            "::1",
            "both.example accepts connections only at [::1]:{port}, and a name with an IPv4 address is always reached "
            "over IPv4; write [::1]:{port} instead",
        ),
    ],
)
def test_a_name_of_both_kinds_is_reached_over_ipv4_and_it_is_said_where_that_is_in_vain(
    context: zmq.Context[Any], monkeypatch: pytest.MonkeyPatch, listening: str, said: str
) -> None:
    with ExitStack() as stack:
        if listening:
            ip = f"[{listening}]" if ":" in listening else listening
            server: Server[Any] = Server(context, f"tcp://{ip}:*", codec.to_master)
            stack.callback(server.close)
            port = parse(server.address).port
        else:
            port = stack.enter_context(bound("127.0.0.1", 0)).getsockname()[1]
        names(monkeypatch, "::1", "127.0.0.1")
        assert not over_ipv6(HostPort("both.example", port))
        found = absence.why_no_answer(f"tcp://both.example:{port}", has_keys=False)
        assert found == said.format(port=port)


@pytest.mark.parametrize(("ip", "expected"), [("2001:db8::1", True), ("192.0.2.1", False)])
def test_a_name_of_one_kind_is_reached_over_that(
    monkeypatch: pytest.MonkeyPatch, ip: str, expected: bool
) -> None:
    names(monkeypatch, ip)
    assert over_ipv6(HostPort("one.example", 1)) == expected


def test_our_own_addresses_are_known_as_such() -> None:
    assert [is_here(host) for host in ("::1", "127.0.0.1", "localhost", socket.gethostname())] == [True] * 4
    assert [is_here(host) for host in ("2001:db8::1", "192.0.2.1", "no-such-name.invalid")] == [False] * 3
    assert (address_towards("::1"), address_towards("127.0.0.1")) == ("::1", "127.0.0.1")
    assert (address_towards("::1", ipv6=False), address_towards("no-such-name.invalid")) == ("", "")


def test_a_socket_for_all_addresses_takes_those_of_ipv4_too() -> None:
    with bound("::", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        for ip in ("127.0.0.1", "::1"):
            socket.create_connection((ip, port), 5).close()
    with suppress(OSError), bound("192.0.2.1", 0):
        pytest.fail("an address of somebody else's was bound to")
