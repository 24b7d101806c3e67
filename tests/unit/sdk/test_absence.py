"""A master that does not answer: why, and when that is logged."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from helpers.cli import wait_until
from offerd.driver import Scheduler, SchedulerDriver
from offerd.masters.absence import ANOTHER_KEY, Absence, MasterWatch, Peer, why_away
from offerd.masters.leader import unreachable
from offerd.messages import FrameworkInfo


def peer(address: str, *, has_keys: bool = False, is_linked: bool = False) -> Peer:
    return Peer(address, "" if address.startswith("zk:") else address, has_keys, is_linked)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_an_absence_is_logged_soon_then_rarely_and_when_its_reason_changes() -> None:
    absence, said = Absence(0.0), []
    for second in range(2000):
        if absence.turn(is_there=False, now=float(second)):
            why = "nothing listens" if second < 1000 else "no name"
            if line := absence.found(why, float(second)):
                said.append((second, line))
    assert [second for second, _ in said[:3]] == [1, 61, 361]
    assert said[0][1] == "no master for 1 s: nothing listens; still trying"
    assert next(second for second, line in said if "no name" in line) <= 1010
    assert len(said) < 10


def test_a_reason_that_may_pass_is_logged_when_it_is_found_twice() -> None:
    """A master that has just started accepts connections before ours is made with its key."""
    absence, why = Absence(0.0), f"the server at a:1 {ANOTHER_KEY}"
    assert absence.turn(is_there=False, now=1.0)
    assert absence.found(why, 1.0) == ""
    assert absence.next_deadline() == 3.0
    assert not absence.turn(is_there=True, now=2.0)
    assert not absence.turn(is_there=False, now=10.0)
    assert absence.turn(is_there=False, now=11.0)
    assert absence.found(why, 11.0) == ""
    assert absence.turn(is_there=False, now=13.0)
    assert absence.found(why, 13.0) == f"no master for 3 s: {why}; still trying"


def test_a_return_is_logged_if_the_absence_was() -> None:
    absence = Absence(0.0)
    assert absence.back(0.5) == ""
    assert not absence.turn(is_there=True, now=0.5)
    assert not absence.turn(is_there=False, now=10.0)
    assert absence.turn(is_there=False, now=11.0)
    assert absence.found("x", 11.5)
    assert absence.back(25.0) == "a master answers, after 15 s"


def test_a_reason_found_after_the_return_is_not_logged() -> None:
    absence = Absence(0.0)
    assert absence.turn(is_there=False, now=1.0)
    assert not absence.turn(is_there=True, now=1.5)
    assert absence.found("x", 2.0) == ""


def test_an_unknown_name_and_a_closed_port_are_different_reasons() -> None:
    assert why_away(peer("tcp://nosuch.invalid:5060")).startswith(
        "the name nosuch.invalid cannot be resolved"
    )
    port = free_port()
    assert why_away(peer(f"tcp://127.0.0.1:{port}")) == f"nothing listens at 127.0.0.1:{port}"
    assert "no ZooKeeper server can be reached" in why_away(peer(f"zk://127.0.0.1:{port}/offerd"))
    linked = peer("tcp://127.0.0.1:1", is_linked=True)
    assert why_away(linked) == "127.0.0.1:1 is connected, but does not answer"
    assert why_away(linked._replace(said="stands by; 10.0.0.1:5060 leads")) == (
        "127.0.0.1:1 stands by; 10.0.0.1:5060 leads"
    )


@pytest.mark.parametrize(
    ("mechanism", "has_keys", "why"),
    [
        (b"CURVE", True, "has another key than the one that we know the master by"),
        (b"CURVE", False, "requires a key, and there is none"),
        (b"NULL", True, "uses no keys"),
        (b"", True, "is not an offerd master"),
    ],
)
def test_kinds_of_refused_handshakes_are_different_reasons(
    listener: socket.socket, mechanism: bytes, has_keys: bool, why: str
) -> None:
    def greet() -> None:
        greeting = b"\xff" + bytes(8) + b"\x7f\3\1" + mechanism.ljust(20, b"\0") + bytes(32)
        for _ in range(2):  # whether it takes connections, and what it says
            taken, _ = listener.accept()
            with (
                taken,
                contextlib.suppress(ConnectionError),
            ):  # who only looks whether one is taken hangs up at once
                taken.sendall(greeting if mechanism else b"HTTP/1.1 400 Bad Request\r\n\r\n")
                taken.recv(100)

    server = threading.Thread(target=greet)
    server.start()
    assert why in why_away(peer(f"tcp://127.0.0.1:{listener.getsockname()[1]}", has_keys=has_keys))
    server.join()


def test_a_driver_says_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    driver = SchedulerDriver(Scheduler(), FrameworkInfo("x"), f"127.0.0.1:{port}", connect_timeout_s=60.0)
    with caplog.at_level(logging.WARNING, "offerd.driver"):
        driver.start()
        wait_until(lambda: f"nothing listens at 127.0.0.1:{port}" in caplog.text, "it to say so")
    driver.stop()
    driver.join()


def test_a_watch_says_nothing_of_a_master_that_is_there() -> None:
    watch = MasterWatch(lambda _peer: "away")
    assert watch.turn(True, lambda: peer("tcp://127.0.0.1:1")) == []
    assert watch.next_deadline() == float("inf")


def test_the_advice_is_to_start_one_only_where_it_would_be() -> None:
    assert "offerd local" in unreachable("tcp://localhost:5060")
    assert "offerd local" not in unreachable("tcp://192.0.2.1:5060")
    assert unreachable("tcp://192.0.2.1:5060", "nothing listens at 192.0.2.1:5060").count("192.0.2.1") == 1
