"""Peers that flood a master, do not read, or cause an error in it: they are dropped, and all others are served meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
import zmq

from helpers.cli import wait_until
from helpers.running_master import Connection, Running, ask_cluster
from offerd import __version__
from offerd import messages as m
from offerd import operator_messages as om
from offerd.addresses import tcp
from offerd.errors import OfferdError
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.masters.clusters import Connection as Connected
from offerd.operator import OperatorClient
from offerd.resources import Resources
from offerd.wire import codec, transport
from offerd.wire.codec import MAX_FRAME_BYTES, MAX_SENT_BYTES
from offerd_master.core import failover, master, offers, slaves


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


@pytest.mark.parametrize("who", ["scheduler", "slave", "operator"])
def test_a_dropped_peer_is_sent_the_reason_once_and_may_come_again_a_moment_later(
    running: Running, who: str
) -> None:
    if who == "scheduler":
        peer, _ = framework_of(running)
        registration: m.Message = m.RegisterFramework(m.FrameworkInfo("again"))
        welcome: type[m.Message] = m.FrameworkRegistered
    elif who == "slave":
        peer, _ = slave_of(running)
        registration = m.RegisterSlave(m.SlaveInfo("again", Resources.parse("cpus=2,mem=1G")))
        welcome = m.SlaveRegistered
    else:
        peer, registration, welcome = running.connect(codec.to_operator), om.GetCluster(), om.Cluster
    for _ in range(20):
        peer.client.socket.send(b"nonsense\x1b[2J")
    why = peer.receive(m.Dropped).why
    assert f"not a message of offerd {__version__}: 12 bytes" in why
    assert why.isprintable()

    def is_welcome() -> bool:
        peer.send(registration)
        peer.inbox += [message for _, messages in peer.client.drain() for message in messages]
        return any(isinstance(message, welcome) for message in peer.inbox)

    wait_until(is_welcome, "the peer to be let in again")
    assert not [message for message in peer.inbox if isinstance(message, m.Dropped)]
    assert ask_cluster(running.connect(codec.to_operator)).dropped_peers == 1


def test_an_operator_whose_question_raises_an_error_is_answered_so_and_may_ask_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("what it asks for")

    monkeypatch.setitem(master.QUESTIONS, om.GetCluster, fail)
    with OperatorClient(Connected(tcp(running.master.address, 0), None)) as client:
        with pytest.raises(OfferdError, match="hung up on this question: its message could not be handled"):
            client.cluster()
        monkeypatch.undo()
        assert client.cluster().failed_messages == 1


def test_an_error_in_a_tick_does_not_end_the_master_is_counted_and_not_repeated_without_a_pause(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave, _ = slave_of(running)
    operator = running.connect(codec.to_operator)
    calls: list[str] = []

    def fail(*arguments: object) -> None:
        calls.append("offers")
        raise KeyError("what a peer has left behind")

    monkeypatch.setattr(master, "OFFER_AGAIN_S", 3600.0)
    monkeypatch.setattr(offers, "_taker", fail)
    framework, _ = framework_of(running)
    while ask_cluster(operator).failed_messages == 0:
        pass
    for _ in range(10):
        ask_cluster(operator)
    assert calls == ["offers"]
    answer = ask_cluster(operator)
    assert (answer.failed_messages, answer.dropped_peers, answer.slaves) == (1, 0, 1)
    monkeypatch.undo()

    pinged = slaves.ping_slaves

    def fail_once(*arguments: object) -> None:
        monkeypatch.setattr(slaves, "ping_slaves", pinged)
        raise KeyError("something else")

    monkeypatch.setattr(slaves, "ping_slaves", fail_once)
    while ask_cluster(operator).failed_messages == 1:
        pass
    slave.inbox.clear()
    slave.receive(m.Ping)
    running.master.core.cluster.hold_until = 0.0
    framework.receive(m.ResourceOffers)


def test_a_peer_whose_leaving_raises_an_error_in_the_master_harms_nobody_else(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework, _ = framework_of(running)
    operator = running.connect(codec.to_operator)

    def fail(*arguments: object) -> None:
        monkeypatch.undo()
        raise KeyError("what it has left behind")

    monkeypatch.setattr(failover, "disconnect", fail)
    framework.client.close()  # the next ping does not reach it
    while ask_cluster(operator).failed_messages == 0:
        pass
    assert ask_cluster(operator).failed_messages == 1


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Keep the garbage collector out of the measured time: it would go through all that thousands of tests have left."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_flood_of_small_messages_costs_its_sender_the_connection_and_others_no_100_ms_of_the_masters_time(
    running: Running, uncollected: None
) -> None:
    """Time of its thread on a processor: others want the processors of the tests, too."""
    assert running.thread.ident is not None
    clock = time.pthread_getcpuclockid(running.thread.ident)
    operator, flooder = running.connect(codec.to_operator), running.connect(codec.to_scheduler)
    ask_cluster(operator)
    frame = next(codec.frames([m.Pong()])).replace(b"\xdd\0\0\0\1\x91\xa4Pong", b"")
    count = 173_000
    flood = frame + b"\xdd" + count.to_bytes(4, "big") + b"\x91\xa4Pong" * count
    assert len(codec.to_master.decode(flood)[1]) == count
    for _ in range(40):
        flooder.client.socket.send(flood)
    slowest = 0.0
    is_dropped = False
    while not is_dropped:
        began = time.clock_gettime(clock)
        is_dropped = ask_cluster(operator).dropped_peers > 0
        slowest = max(slowest, time.clock_gettime(clock) - began)
    assert slowest < 0.1


TASKS = 5_000


@pytest.mark.parametrize(
    "question",
    [
        om.GetTasks(),
        om.GetFrameworks(),
        om.GetCluster(),
        om.GetSlaves(),
        m.ReconcileTasks([]),
        m.ReviveOffers(),
    ],
    ids=lambda question: type(question).__name__,
)
def test_a_flood_of_questions_that_take_long_costs_others_no_100_ms_of_the_masters_time(
    running: Running, uncollected: None, question: m.Message
) -> None:
    """As above. A second of such messages fits into a frame of a few kilobytes."""
    assert running.thread.ident is not None
    clock = time.pthread_getcpuclockid(running.thread.ident)
    operator = running.connect(codec.to_operator)
    slave = running.connect(codec.to_slave)
    slave.send(m.RegisterSlave(m.SlaveInfo("host", Resources.parse("cpus=1000000,mem=1000T"))))
    framework, _ = framework_of(running)
    (offer,) = framework.receive(m.ResourceOffers).offers
    each = Resources.parse("cpus=0.001,mem=1M")
    tasks = [m.TaskInfo(f"t{number}", each, "e", time_limit_s=1.0) for number in range(TASKS)]
    framework.send(m.AcceptOffers([offer.offer_id], tasks))
    while ask_cluster(operator).tasks.get("TASK_STAGING") != TASKS:
        pass
    for frame in codec.frames([question] * 300):
        framework.client.socket.send(frame)
    slowest = 0.0
    for _ in range(30):
        began = time.clock_gettime(clock)
        ask_cluster(operator)
        slowest = max(slowest, time.clock_gettime(clock) - began)
    assert slowest < 0.1


def test_a_peer_that_does_not_read_its_answers_is_dropped_before_they_fill_the_memory(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BACKLOG_BYTES", 4 << 20)
    operator = running.connect(codec.to_operator)
    info = m.FrameworkInfo("silent")
    question = m.ReconcileTasks([TaskID(f"t{number}") for number in range(4_000)])
    (registration,) = codec.frames([m.RegisterFramework(info)])
    (frame,) = codec.frames([question])
    with running.context.socket(zmq.DEALER) as silent:
        silent.linger = 0
        silent.setsockopt(zmq.RCVHWM, 1)
        silent.connect(f"tcp://{running.master.address}")
        silent.send(registration)
        for _ in range(100):  # the answers are 60 MB
            silent.send(frame)
        while not any(f.info.name == "silent" for f in running.master.core.cluster.frameworks.values()):
            time.sleep(0.01)
        framework = next(iter(running.master.core.cluster.frameworks.values()))
        deadline = time.monotonic() + 60
        while framework.peer is not None:
            ask_cluster(operator)
            assert time.monotonic() < deadline
    assert not running.master._server.has_backlog
