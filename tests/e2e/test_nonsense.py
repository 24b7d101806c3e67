"""Nonsense on every socket of a living cluster: the peer is dropped and counted, and nothing else changes."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from helpers.cli import listing, wait_until
from helpers.recorder import COMMAND, Recorder
from offerd import messages as m
from offerd.credentials.keys import Keys, public_of
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd.wire import codec
from offerd_cli.local_cluster import LocalCluster

PACK = msgspec.msgpack.encode


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


@contextlib.contextmanager
def peer(address: str, keys: Keys | None = None) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.setsockopt(zmq.LINGER, 20_000)  # so that messages are sent that a busy master has not read yet
    if keys is not None:
        client.curve_secretkey, client.curve_serverkey = keys.secret.encode(), keys.master.encode()
        client.curve_publickey = public_of(keys.secret).encode()
    client.connect(address)
    try:
        yield client
    finally:
        client.close()
        context.term()


def nonsense(seed: int) -> list[bytes]:
    """Invalid frames: random, cut, flipped, of the wrong shape, deep, huge."""
    chance = random.Random(seed)
    good = next(codec.frames([m.Ping(), m.RegisterFramework(m.FrameworkInfo("f")), m.TeardownFramework()]))
    flipped = bytearray(good)
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return [
        b"",
        chance.randbytes(chance.randrange(1, 400)),
        good[: chance.randrange(1, len(good))],
        bytes(flipped) + b"\xc1",
        PACK([0, [["NoSuchMessage", 1, 2]]]),
        PACK([0, [["RegisterFramework", {"name": "a map"}]]]),
        PACK([0, [["AcceptOffers", ["O-1"], [["t", [{"cpus": -5}, {}, {}], "command"]]]]]),
        PACK([0, [["AcceptOffers", ["O-1"], [["t", [{"cpus": 2**63}, {}, {}], "command"]]]]]),
        PACK([0, [["DeclineOffers", ["O-1"], float("nan")]]]) + b"trailing",
        PACK(["epoch", []]),
        PACK(7),
        b"\x92\x00" + b"\x91" * 100_000 + b"\xc0",
        b"\x92\x00\xdd\xff\xff\xff\xff",
        b"\x92\x00\x91\x92\xa5Bytes\xa2\xff\xfe",
    ]


def assert_works(cluster: LocalCluster) -> None:
    with Recorder(cluster.address) as framework:
        framework.run("t", "echo ok")
        assert framework.wait_end("t").state is TaskState.FINISHED


def dropped(cluster: LocalCluster) -> int:
    with cluster.ask() as client:
        return client.cluster().dropped_peers


@pytest.mark.parametrize("seed", range(3))
def test_master_drops_each_peer_that_sends_nonsense_and_serves_the_others(
    cluster: LocalCluster, seed: int
) -> None:
    before = dropped(cluster)
    frames = nonsense(seed)
    for frame in frames:
        with peer(*cluster.connection()[:2]) as client:
            client.send(frame)
            client.send(next(codec.frames([m.RegisterFramework(m.FrameworkInfo("too late"))])))
    wait_until(lambda: dropped(cluster) >= before + len(frames), "all of them to be dropped and counted")
    assert [f["name"] for f in listing(cluster, "frameworks")["frameworks"] if f["name"] == "too late"] == []
    assert_works(cluster)


def test_a_master_refuses_too_large_frames_and_second_parts(cluster: LocalCluster) -> None:
    with peer(*cluster.connection()[:2]) as client:
        client.send(b"x" * (codec.MAX_FRAME_BYTES + 1))
        client.send_multipart([b"\x92\x00\x90", b"\x92\x00\x90", b"\x92\x00\x90"])
    assert_works(cluster)


def test_well_formed_but_wrong_messages_change_nothing(cluster: LocalCluster) -> None:
    """From unregistered peers, and from a registered framework that asks for what is not its own."""
    task = m.TaskInfo(TaskID("stolen"), Resources.of(cpus=1, mem="16M"), COMMAND.executor_id)
    wrong: list[m.Message] = [
        m.AcceptOffers([OfferID("O-1")], [task]),
        m.KillTask(FrameworkID("F-1"), TaskID("victim")),
        m.Acknowledge(FrameworkID("F-1"), SlaveID("S-1"), [(TaskID("victim"), 1)]),
        m.StatusUpdate(FrameworkID("F-1"), m.TaskStatus(TaskID("victim"), TaskState.KILLED, 9)),
        m.FrameworkMessage(FrameworkID("F-1"), SlaveID("S-1"), ExecutorID("command"), b"x"),
        m.UnregisterSlave(),
        m.TeardownFramework(),
    ]
    with Recorder(cluster.address) as framework:
        framework.run("victim", "sleep 1; exit 5")
        running = framework.wait("victim", TaskState.RUNNING)
        for message in wrong:
            with peer(*cluster.connection()[:2]) as stranger:
                stranger.send(next(codec.frames([message])))
                assert isinstance(codec.to_scheduler.decode(stranger.recv())[1][0], m.NotRegistered)
        forged = m.KillTask(framework.driver.framework_id, TaskID("victim"), running.slave_id)
        with peer(*cluster.connection()[:2]) as rogue:
            rogue.send(next(codec.frames([m.RegisterFramework(m.FrameworkInfo("rogue"))])))
            assert isinstance(codec.to_scheduler.decode(rogue.recv())[1][0], m.FrameworkRegistered)
            rogue.send(next(codec.frames([forged])))
        ended = framework.wait_end("victim")
        assert (ended.state, ended.exit_status) == (TaskState.FAILED, 5)


def test_a_slave_drops_nonsense_and_forged_registrations_on_an_executors_socket(
    cluster: LocalCluster,
) -> None:
    path = cluster.slaves[0].work_dir
    assert path is not None
    with Recorder(cluster.address) as framework:
        framework.run("victim", "sleep 1; exit 6")
        running = framework.wait("victim", TaskState.RUNNING)
        address = f"ipc://{path}/sockets/{running.container_id}/s"
        for frame in nonsense(7):
            with peer(address) as client:
                client.send(frame)
        forged = [
            m.RegisterExecutor(running.container_id, "a guess"),
            m.ExecutorUpdate(99, m.TaskStatus(TaskID("victim"), TaskState.FINISHED, 99)),
        ]
        for container_id in (running.container_id, ContainerID("../../etc")):
            with peer(address) as client:
                client.send(next(codec.frames([m.RegisterExecutor(container_id, ""), *forged])))
        ended = framework.wait_end("victim")
        assert (ended.state, ended.exit_status) == (TaskState.FAILED, 6)
    log = cluster.slaves[0].log.read_text()
    assert "dropped a peer: it claims to be container" in log
    assert "Traceback" not in log


def test_file_server_answers_nonsense_with_one_line_and_goes_on(cluster: LocalCluster) -> None:
    with cluster.ask() as asked:
        (slave,) = asked.slaves()
    host, _, port = slave.info.files_address.rpartition(":")
    for request in (
        b"\x00\xff\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(request)
            client.settimeout(5)
            answer = client.recv(4096)
            assert b"root:" not in answer
            assert b" 200 " not in answer.split(b"\r\n")[0]
    assert_works(cluster)


def test_a_message_of_very_many_parts_costs_the_master_little_memory(cluster: LocalCluster) -> None:
    """libzmq delivers nothing before the last part: without a bound it would hold six hundred megabytes."""
    status = Path(f"/proc/{cluster.master.pid}/status")

    def bytes_of(name: str) -> int:
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])
            << 10
        )

    before = bytes_of("VmRSS")
    Path(f"/proc/{cluster.master.pid}/clear_refs").write_text("5")  # VmHWM, the most it had, begins anew
    with peer(*cluster.connection()[:2]) as client:
        link = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        for _ in range(600):
            client.send(b"x" * 1_000_000, zmq.SNDMORE)
        client.send(b"the end")
        assert link.poll(20_000), "the master hangs up"
        client.disable_monitor()
        link.close()
    assert bytes_of("VmHWM") - before < 50 << 20
    assert_works(cluster)
