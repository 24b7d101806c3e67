"""Sockets: nonsense is reported with its sender, slow readers are reported, and other peers go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from offerd.errors import BadInput, BadMessage, MessageTooLarge
from offerd.ids import ExecutorID, FrameworkID, OfferID, PeerID, SlaveID
from offerd.messages import FrameworkMessage, Message, Ping, Pong, RescindOffer, SlaveUsage
from offerd.wire import codec, transport
from offerd.wire.codec import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_SENT_BYTES
from offerd.wire.transport import Client, Server, ipc, new_context

ToMaster = Server[codec.ToMaster]
ToScheduler = Client[codec.ToScheduler]


class Sockets:
    """Makes sockets, and closes them all at the test's end."""

    def __init__(self) -> None:
        self.context = new_context()
        self._made: list[ToMaster | ToScheduler] = []

    def server(self) -> ToMaster:
        made: ToMaster = Server(self.context, "tcp://127.0.0.1:*", codec.to_master)
        self._made.append(made)
        return made

    def client(self, address: str) -> ToScheduler:
        made: ToScheduler = Client(self.context, address, codec.to_scheduler)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()
        self.context.term()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


@pytest.fixture
def server(sockets: Sockets) -> ToMaster:
    return sockets.server()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


def read_one(server: ToMaster) -> tuple[PeerID, list[codec.ToMaster] | BadMessage]:
    assert server.socket.poll(10_000), "nothing came"
    return next(server.drain())


def introduce(server: ToMaster, peer: ToScheduler) -> PeerID:
    """The peer's routing id at the server, which is known once it has sent something."""
    peer.send(Pong())
    peer.flush()
    name, messages = read_one(server)
    assert messages == [Pong()]
    return name


def bulk(size: int) -> FrameworkMessage:
    return FrameworkMessage(FrameworkID("f"), SlaveID("s"), ExecutorID("e"), b"\x00" * size)


def test_messages_go_both_ways_in_batches(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    name = introduce(server, peer)
    messages: list[Message] = [RescindOffer(OfferID(str(number))) for number in range(500)]
    for message in messages:
        server.send(name, message)
    assert server.flush(epoch=9) == []
    assert peer.socket.poll(10_000)
    assert list(peer.drain()) == [(9, messages)]
    assert server.flush() == []


@pytest.mark.parametrize(
    "nonsense",
    [[b"\xff"], [b""], [b"\x92\x00\x91\x91\xa4Ping"], [b"\x92\x00\x90", b"more"], [b"a", b"b", b"c"]],
)
def test_nonsense_is_reported_with_its_sender_and_others_are_unaffected(
    sockets: Sockets, server: ToMaster, nonsense: list[bytes]
) -> None:
    good, bad = sockets.client(server.address), sockets.client(server.address)
    bad.socket.send_multipart(nonsense)
    bad_name, what = read_one(server)
    assert isinstance(what, BadMessage)
    assert len(str(what).splitlines()) == 1
    assert introduce(server, good) != bad_name


def test_many_parts_are_reported_and_cost_one_message(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    peer.socket.send_multipart([b"x"] * 1000)
    _, what = read_one(server)
    assert isinstance(what, BadMessage)
    assert "1000 parts" in str(what)


def test_an_oversized_frame_drops_its_sender_and_nobody_else(sockets: Sockets, server: ToMaster) -> None:
    good, bad = sockets.client(server.address), sockets.client(server.address)
    good_name, bad_name = introduce(server, good), introduce(server, bad)
    bad.socket.send(b"\x00" * (MAX_FRAME_BYTES + 1))

    def is_dropped() -> bool:
        server.send(bad_name, Ping())
        return server.flush() == [bad_name]

    wait_until(is_dropped)
    server.send(good_name, Ping())
    assert server.flush() == []
    assert good.socket.poll(10_000)
    assert next(good.drain()) == (0, [Ping()])
    assert introduce(server, good) == good_name


def test_the_largest_frame_that_we_make_passes(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    message = bulk(MAX_MESSAGE_BYTES - 64)
    peer.send(message)
    assert peer.flush() == 0
    assert read_one(server)[1] == [message]


def test_a_message_too_large_raises_at_its_sender(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    peer.send(bulk(MAX_MESSAGE_BYTES))
    with pytest.raises(MessageTooLarge):
        peer.flush()
    introduce(server, peer)


def test_a_message_too_large_costs_its_client_nothing_of_what_stands_around_it(
    sockets: Sockets, server: ToMaster
) -> None:
    peer = sockets.client(server.address)
    for message in (Pong(), bulk(MAX_MESSAGE_BYTES), Pong()):
        peer.send(message)
    with pytest.raises(MessageTooLarge):
        peer.flush()
    assert read_one(server)[1] == [Pong(), Pong()]


@pytest.mark.parametrize(
    "message", [bulk(MAX_SENT_BYTES), SlaveUsage(1 << 64, 0), RescindOffer(OfferID("\ud800"))]
)
def test_a_message_that_cannot_be_sent_is_left_out_and_counted_and_all_others_go(
    sockets: Sockets, server: ToMaster, message: Message
) -> None:
    first, second = sockets.client(server.address), sockets.client(server.address)
    names = [introduce(server, peer) for peer in (first, second)]
    for name in names:
        for each in (Ping(), message, Ping()):
            server.send(name, each)
    assert server.flush() == []
    assert server.unsent == 2
    faults = server.pop_faults()
    assert [name for name, _ in faults] == names
    assert all(type(message).__name__ in fault and len(fault.splitlines()) == 1 for _, fault in faults)
    assert server.pop_faults() == []
    for peer in (first, second):
        assert peer.socket.poll(10_000)
        assert next(peer.drain()) == (0, [Ping(), Ping()])


def test_a_peer_that_is_gone_is_reported_once(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    name = introduce(server, peer)
    peer.close()

    def is_gone() -> bool:
        for _ in range(3):
            server.send(name, Ping())
        return server.flush() == [name]

    wait_until(is_gone)


def test_a_peer_that_was_never_there_is_reported(server: ToMaster) -> None:
    server.send(PeerID(b"nobody"), Ping())
    assert server.flush() == [b"nobody"]


def test_a_slow_reader_is_reported_and_others_are_served(
    sockets: Sockets, server: ToMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HIGH_WATER_FRAMES", 4)
    few = sockets.server()
    slow, quick = sockets.client(few.address), sockets.client(few.address)
    slow_name, quick_name = introduce(few, slow), introduce(few, quick)
    lost: list[PeerID] = []
    for _ in range(200):  # more than the queues of both ends and the kernel hold
        few.send(slow_name, bulk(500_000))
        if lost := few.flush():
            break
    assert lost == [slow_name]
    few.send(quick_name, Ping())
    assert few.flush() == []
    assert quick.socket.poll(10_000)
    assert next(quick.drain()) == (0, [Ping()])


def test_a_client_counts_the_frames_that_a_slow_server_does_not_take(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HIGH_WATER_FRAMES", 4)
    nobody = sockets.client("tcp://127.0.0.1:9")
    for _ in range(10):
        nobody.send(bulk(500_000))
    assert nobody.flush() == 6


def test_a_client_skips_nonsense_and_counts_it(sockets: Sockets, server: ToMaster) -> None:
    peer = sockets.client(server.address)
    name = introduce(server, peer)
    server.socket.send_multipart([name, b"\xff"])
    server.socket.send_multipart([name, b"\x92\x00\x90", b"more"])
    server.send(name, Ping())
    server.flush()
    wait_until(lambda: list(peer.drain()) == [(0, [Ping()])])
    assert peer.bad_frames == 2
    assert peer.last_bad


def test_one_turn_reads_no_more_than_its_share(
    sockets: Sockets, server: ToMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SERVER_DRAIN_LIMIT", 3)
    peer = sockets.client(server.address)
    for _ in range(5):
        peer.send(Pong())
        peer.flush()
    read = 0
    while read < 5:
        assert server.socket.poll(10_000)
        turn = list(server.drain())
        assert len(turn) <= 3
        read += len(turn)


def test_an_address_in_use_and_one_that_cannot_be_are_bad_input(sockets: Sockets, server: ToMaster) -> None:
    with pytest.raises(BadInput, match="cannot listen"):
        Server(sockets.context, server.address, codec.to_master)
    with pytest.raises(BadInput, match="cannot connect"):
        Client(sockets.context, "nonsense", codec.to_scheduler)


def test_a_path_too_long_for_a_socket_is_bad_input() -> None:
    assert ipc("/run/x") == "ipc:///run/x"
    with pytest.raises(BadInput, match="shorter"):
        ipc("/" + "x" * 107)
