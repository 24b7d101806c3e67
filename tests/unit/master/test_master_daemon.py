"""The daemon: one socket on loopback, garbage, addresses, and a clean end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.running_master import Connection, Running, ask_cluster
from offerd import messages as m
from offerd import operator_messages as om
from offerd.credentials.keys import new_key, read_secret
from offerd.errors import BadInput
from offerd.ids import ExecutorID, TaskID
from offerd.protocol.change_messages import Changes, FollowChanges
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import new_context
from offerd_master.daemon import Master
from offerd_master.measuring import MEASURE_S
from offerd_master.options import MasterOptions
from offerd_master.process import write_address


@pytest.fixture
def running() -> Iterator[Running]:
    master = Running()
    yield master
    master.end()


def test_a_task_goes_to_its_slave_and_its_end_comes_back(running: Running) -> None:
    slave, framework = running.connect(codec.to_slave), running.connect(codec.to_scheduler)
    slave.send(m.RegisterSlave(m.SlaveInfo("host", Resources.parse("cpus=2,mem=1G"))))
    slave_id = slave.receive(m.SlaveRegistered).slave_id
    executor = m.ExecutorInfo(ExecutorID("e"), "module")
    framework.send(m.RegisterFramework(m.FrameworkInfo("f", executors=[executor])))
    framework_id = framework.receive(m.FrameworkRegistered).framework_id
    (offer,) = framework.receive(m.ResourceOffers).offers
    info = m.TaskInfo(TaskID("t"), Resources.parse("cpus=1"), executor.executor_id, time_limit_s=1.0)
    framework.send(m.AcceptOffers([offer.offer_id], [info]))
    assert slave.receive(m.RunTasks).tasks == [info]
    slave.send(m.StatusUpdate(framework_id, m.TaskStatus(info.task_id, m.TaskState.FINISHED, 1)))
    assert framework.receive(m.StatusUpdate).status.state is m.TaskState.FINISHED
    framework.send(m.Acknowledge(framework_id, slave_id, [(info.task_id, 1)]))
    assert slave.receive(m.Acknowledge).updates == [("t", 1)]
    slave.receive(m.Ping)


def test_a_follower_is_sent_what_the_daemon_measures_of_itself(running: Running) -> None:
    follower = running.connect(codec.to_operator)
    follower.send(FollowChanges())
    first = follower.receive(Changes)
    follower.send(FollowChanges(first.origin, first.after, first.ended_after, wait_s=MEASURE_S + 0.1))
    later = follower.receive(Changes).master
    tick, lag = later.timings["tick"], later.timings["loop_lag"]
    assert sum(tick.counts) > sum(first.master.timings["tick"].counts), "ticks have been done since"
    assert 0 < tick.sum_s < 5
    assert sum(lag.counts) > 0
    assert later.counts["messages_sent"] > first.master.counts["messages_sent"]
    assert later.gauges.keys() >= {"connections", "peers_waiting", "bytes_waiting", "peers_with_backlog"}


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"\x92\x00",
        b"\x92\x00\x91\x91\xa7Unknown",
        b"\xc1" * 1000,
        b"\x91" * 100_000,
        b"\x92\x00\xdd\xff\xff\xff\xff",
        codec.encode_message([0, [["RegisterFramework", ["name", 5]]]]),
    ],
)
def test_a_peer_that_sends_garbage_is_dropped_and_counted_and_nothing_else_changes(
    running: Running, garbage: bytes
) -> None:
    slave, operator, bad = (running.connect(x) for x in (codec.to_slave, codec.to_operator, codec.to_slave))
    slave.send(m.RegisterSlave(m.SlaveInfo("host", Resources.parse("cpus=2,mem=1G"))))
    slave.receive(m.SlaveRegistered)
    bad.client.socket.send(garbage)
    bad.client.socket.send(garbage)
    bad.send(m.RegisterSlave(m.SlaveInfo("bad", Resources.parse("cpus=2,mem=1G"))))
    while (answer := ask_cluster(operator)).dropped_peers == 0:
        pass
    assert (answer.dropped_peers, answer.slaves) == (1, 1)
    slave.receive(m.Ping)


def test_a_message_of_too_many_parts_is_garbage(running: Running) -> None:
    operator, bad = running.connect(codec.to_operator), running.connect(codec.to_slave)
    bad.client.socket.send_multipart([b"a", b"b", b"c"])
    while ask_cluster(operator).dropped_peers == 0:
        pass


def test_a_frame_larger_than_allowed_ends_that_connection_only(running: Running) -> None:
    operator, bad = running.connect(codec.to_operator), running.connect(codec.to_slave)
    bad.client.socket.send(b"x" * (codec.MAX_FRAME_BYTES + 1))
    assert ask_cluster(operator).slaves == 0


def test_a_scheduler_that_is_gone_is_noticed_at_the_next_ping(running: Running) -> None:
    framework, operator = running.connect(codec.to_scheduler), running.connect(codec.to_operator)
    framework.send(m.RegisterFramework(m.FrameworkInfo("f")))
    framework.receive(m.FrameworkRegistered)
    framework.client.close()
    deadline = time.monotonic() + 10
    while True:
        operator.send(om.GetFrameworks())
        (summary,) = operator.receive(om.Frameworks).frameworks
        if summary.state == "disconnected":
            return
        assert time.monotonic() < deadline


@pytest.mark.parametrize("ip", ["0.0.0.0", "127.0.0.1"])
def test_without_keys_a_master_starts_nowhere_unless_insecure(ip: str) -> None:
    with pytest.raises(BadInput, match=f"refusing to listen on {ip} without keys: .*--insecure"):
        Master(MasterOptions(ip=ip, port=0))
    master = Master(MasterOptions(ip=ip, port=0, insecure=True))
    assert master.address.startswith(f"{ip}:")
    master.close()


def test_with_keys_no_insecure_is_needed(tmp_path: Path) -> None:
    secret, _ = new_key("master", tmp_path)
    master = Master(MasterOptions(ip="0.0.0.0", port=0, secret=read_secret(secret)))
    assert master.address.startswith("0.0.0.0:")
    master.close()


@pytest.mark.parametrize(
    "options", [MasterOptions(ip="nonsense", port=0, insecure=True), MasterOptions(port=70000, insecure=True)]
)
def test_an_address_that_cannot_be_used_is_one_line(options: MasterOptions) -> None:
    with pytest.raises(BadInput) as caught:
        Master(options)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_one_line(running: Running) -> None:
    port = int(running.master.address.rpartition(":")[2])
    with pytest.raises(
        BadInput, match=r"cannot listen on .*; stop what listens there, or choose another --port"
    ):
        Master(MasterOptions(port=port, insecure=True))


def test_an_address_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot write the address file"):
        write_address(tmp_path / "missing" / "address", "127.0.0.1:1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "address"
    program = (
        "import sys; from offerd_master.process import run_master; from offerd_master.options import MasterOptions; "
        "sys.exit(run_master(MasterOptions(port=0, insecure=True, address_file=sys.argv[1])))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listens on 127.0.0.1:" in line
        assert line.rstrip().endswith(file.read_text().strip())
        os.kill(process.pid, number)
        _, rest = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert rest.rstrip().endswith("INFO master stopped")


def test_idle_connections_beyond_the_soft_limit_keep_nobody_out(tmp_path: Path) -> None:
    address_file = tmp_path / "address"
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "from offerd_master.process import run_master\n"
        "from offerd_master.options import MasterOptions\n"
        f"run_master(MasterOptions(port=0, insecure=True, address_file={str(address_file)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    context = new_context()
    with contextlib.ExitStack() as idle:
        try:
            while not address_file.exists():
                assert process.poll() is None
                time.sleep(0.02)
            address = address_file.read_text().strip()
            host, _, port = address.rpartition(":")
            for _ in range(200):
                idle.enter_context(socket.create_connection((host, int(port))))
            operator = Connection(context, address, codec.to_operator)
            idle.callback(context.term)
            idle.callback(operator.client.close)
            assert ask_cluster(operator).slaves == 0
        finally:
            process.terminate()
            process.wait()
