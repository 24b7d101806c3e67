"""Peers that flood a master, do not read, or find a fault in it: they are dropped, and all others are served meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from helpers.running_master import Connection, Running, ask_cluster
from offerd import codec, transport
from offerd import messages as m
from offerd.codec import MAX_FRAME_BYTES, MAX_SENT_BYTES
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd_master.core import offers


@pytest.fixture
def running() -> Iterator[Running]:
    master = Running()
    yield master
    master.end()


def slave_of(running: Running, hostname: str = "host") -> tuple[Connection, SlaveID]:
    slave = running.connect(codec.to_slave)
    slave.send(m.RegisterSlave(m.SlaveInfo(hostname, Resources.parse("cpus=2,mem=1G"))))
    return slave, slave.receive(m.SlaveRegistered).slave_id


def framework_of(running: Running) -> tuple[Connection, FrameworkID]:
    framework = running.connect(codec.to_scheduler)
    info = m.FrameworkInfo("f", executors=[m.ExecutorInfo(ExecutorID("e"), "m")])
    framework.send(m.RegisterFramework(info))
    return framework, framework.receive(m.FrameworkRegistered).framework_id


def slowest_answer_s(operator: Connection, until: threading.Event) -> float:
    slowest = 0.0
    while not until.is_set():
        began = time.monotonic()
        ask_cluster(operator)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def test_a_message_that_fits_a_frame_but_could_not_be_passed_on_ends_its_sender_and_not_the_master(
    running: Running,
) -> None:
    slave, slave_id = slave_of(running)
    framework, framework_id = framework_of(running)
    message = m.FrameworkMessage(framework_id, slave_id, ExecutorID("e"), b"\0" * 1_048_400)
    assert len(codec.encode_message(message)) <= MAX_SENT_BYTES
    (frame,) = codec.frames([message])
    assert len(frame) <= MAX_FRAME_BYTES
    framework.client.socket.send(frame)
    operator = running.connect(codec.to_operator)
    while ask_cluster(operator).dropped_peers == 0:
        pass
    slave.receive(m.Ping)


def test_an_error_out_of_one_message_drops_its_sender_is_counted_and_changes_nothing_else(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave, _ = slave_of(running)
    framework, _ = framework_of(running)
    operator = running.connect(codec.to_operator)
    framework.receive(m.ResourceOffers)

    def fail(*arguments: object) -> None:
        monkeypatch.undo()
        raise OverflowError("too much\nof it")

    monkeypatch.setattr(offers, "forget_refusals", fail)
    framework.send(m.ReviveOffers())
    while (answer := ask_cluster(operator)).failed_messages == 0:
        pass
    assert (answer.failed_messages, answer.dropped_peers, answer.slaves) == (1, 1, 1)
    slave.receive(m.Ping)
    again, _ = framework_of(running)
    again.receive(m.ResourceOffers)


@pytest.mark.parametrize("frames", [40])
def test_a_flood_of_small_messages_costs_its_sender_the_connection_and_others_no_100_ms(
    running: Running, frames: int
) -> None:
    operator, flooder = running.connect(codec.to_operator), running.connect(codec.to_scheduler)
    ask_cluster(operator)
    frame = next(codec.frames([m.Pong()])).replace(b"\xdd\0\0\0\1\x91\xa4Pong", b"")
    count = 173_000
    flood = frame + b"\xdd" + count.to_bytes(4, "big") + b"\x91\xa4Pong" * count
    assert len(codec.to_master.decode(flood)[1]) == count
    is_over = threading.Event()
    slowest: list[float] = []
    asking = threading.Thread(target=lambda: slowest.append(slowest_answer_s(operator, is_over)))
    asking.start()
    for _ in range(frames):
        flooder.client.socket.send(flood)
    time.sleep(1.5)
    is_over.set()
    asking.join(30)
    assert ask_cluster(operator).dropped_peers == 1
    assert slowest[0] < 0.25  # the machine of the tests has two processors, and others on them


def test_a_peer_that_does_not_read_its_answers_is_dropped_before_they_fill_the_memory(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BACKLOG_BYTES", 4 << 20)
    operator = running.connect(codec.to_operator)
    info = m.FrameworkInfo("deaf")
    question = m.ReconcileTasks([TaskID(f"t{number}") for number in range(4_000)])
    (hello,) = codec.frames([m.RegisterFramework(info)])
    (frame,) = codec.frames([question])
    with running.context.socket(zmq.DEALER) as deaf:
        deaf.linger = 0
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(f"tcp://{running.master.address}")
        deaf.send(hello)
        for _ in range(100):  # the answers are 60 MB
            deaf.send(frame)
        while not any(f.info.name == "deaf" for f in running.master.core.cluster.frameworks.values()):
            time.sleep(0.01)
        framework = next(iter(running.master.core.cluster.frameworks.values()))
        deadline = time.monotonic() + 60
        while framework.peer is not None:
            ask_cluster(operator)
            assert time.monotonic() < deadline
    assert not running.master._server.has_backlog
