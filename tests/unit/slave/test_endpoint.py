"""Executors' sockets: who may connect, what is received, and what a peer can make the slave keep."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import zmq

from helpers.proc import wait_until
from offerd import messages as m
from offerd.daemons.log_limits import LogLimits
from offerd.errors import BadInput
from offerd.ids import ContainerID, ExecutorID, TaskID
from offerd.resources import NOTHING
from offerd.wire import codec
from offerd_slave.endpoint import MESSAGES_A_TURN, MOST_UNREGISTERED, REGISTER_WITHIN_S, Endpoint
from offerd_slave.zmtp import MAX_COMMANDS, OPENING, NotZMTP, Parser, command, frame

ID = ContainerID("c.1")
DEALER = OPENING.replace(b"ROUTER", b"DEALER")
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a process of another user")


class Heard(NamedTuple):
    """A message or fault from an endpoint."""

    container_id: ContainerID
    message: Any
    fault: str


class Slave:
    """An endpoint, the messages received, and its log."""

    def __init__(self, directory: Path) -> None:
        self.lines: list[str] = []
        self.endpoint = Endpoint(directory, LogLimits(lambda level, line: self.lines.append(line)))
        self.heard: list[Heard] = []

    def turn(self) -> list[Heard]:
        now = [Heard(*each) for each in self.endpoint.drain()]
        self.heard += now
        return now

    def until(self, condition: Callable[[], object], what: str = "the slave") -> None:
        def turned() -> bool:
            self.turn()
            self.endpoint.flush()
            return bool(condition())

        wait_until(turned, what)

    def messages(self, kind: type[m.Message]) -> list[Any]:
        return [each.message for each in self.heard if isinstance(each.message, kind)]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="offerd-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def slave(directory: Path) -> Iterator[Slave]:
    made = Slave(directory)
    made.endpoint.expect(ID, "token", os.geteuid(), os.getegid())
    yield made
    made.endpoint.close()


class Executor:
    """A DEALER, as the SDK's driver has one."""

    def __init__(self, slave: Slave, container_id: ContainerID = ID, address: str = "") -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address or slave.endpoint.address(container_id))

    def send(self, *messages: m.Message) -> None:
        for each in codec.frames(messages):
            self.socket.send(each)

    def register(self, token: str = "token", container_id: ContainerID = ID) -> None:
        self.send(m.RegisterExecutor(container_id, token))

    def receive(self) -> list[Any]:
        return codec.to_executor.decode(self.socket.recv())[1]

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def executor(slave: Slave) -> Iterator[Executor]:
    made = Executor(slave)
    yield made
    made.close()


def raw(slave: Slave, *data: bytes) -> socket.socket:
    """A connection that sends just these bytes."""
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(slave.endpoint.address(ID).removeprefix("ipc://"))
    for each in data:
        connected.sendall(each)
    return connected


def registration_frame(token: str = "token") -> bytes:
    return frame(next(codec.frames([m.RegisterExecutor(ID, token)])))


def update(number: int) -> m.ExecutorUpdate:
    return m.ExecutorUpdate(number, m.TaskStatus(TaskID("t"), m.TaskState.RUNNING, number))


# -- who may connect ----------------------------------------------------------------------------------------------------


def test_each_container_has_a_socket_of_its_own_in_a_directory_of_its_own(
    slave: Slave, directory: Path
) -> None:
    path = directory / ID / "s"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o007 == 0
    assert os.listdir(directory) == [ID]
    slave.endpoint.forget(ID)
    assert os.listdir(directory) == []


@needs_root
def test_only_the_containers_user_can_connect_as_the_kernel_attests(slave: Slave, directory: Path) -> None:
    theirs = ContainerID("c.2")
    slave.endpoint.expect(theirs, "token", NOBODY, NOBODY)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid({0}); os.setuid({0}); "
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )

    def connect(uid: int, container_id: ContainerID) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code.format(uid), str(directory / container_id / "s")],
            capture_output=True,
            text=True,
        )
        return done.stderr

    assert "PermissionError" in connect(NOBODY, ID)
    assert "PermissionError" in connect(1, theirs)
    assert connect(NOBODY, theirs) == ""
    # Even with wrong modes the peer's uid is checked.
    (directory / ID).chmod(0o711)
    (directory / ID / "s").chmod(0o666)
    assert connect(NOBODY, ID) == ""
    slave.until(lambda: slave.lines, "the refusal")
    assert slave.lines == [f"the socket of {ID}: refused a connection of uid {NOBODY}"]


def test_a_work_directory_whose_name_leaves_no_room_for_sockets_is_refused(directory: Path) -> None:
    long = directory / ("x" * 80)
    long.mkdir()
    with pytest.raises(BadInput, match="shorter work directory"):
        Endpoint(long, LogLimits(lambda level, line: None))


def test_another_containers_token_is_refused(slave: Slave, executor: Executor) -> None:
    other = ContainerID("c.2")
    slave.endpoint.expect(other, "another", os.geteuid(), os.getegid())
    executor.register("another", other)
    slave.until(lambda: slave.lines, "the refusal")
    assert slave.heard == []
    executor.register("a guess")
    slave.until(lambda: len(slave.lines) > 1, "the refusal")
    assert slave.heard == []


def test_a_forged_id_in_a_registration_makes_no_line_of_its_own_in_the_log(
    slave: Slave, executor: Executor
) -> None:
    executor.register("x", ContainerID("x\n2026-11-30 09:00:00,000 INFO master 10.0.0.9:5060 leads"))
    slave.until(lambda: slave.lines, "the refusal")
    assert "\n" not in slave.lines[0]


# -- messages -----------------------------------------------------------------------------------------------------------


def test_an_executor_with_libzmq_exchanges_large_messages(slave: Slave, executor: Executor) -> None:
    executor.register()
    slave.until(lambda: slave.heard)
    task = m.TaskInfo(TaskID("t"), NOTHING, ExecutorID("e"), data=bytes(800_000))
    for _ in range(8):
        slave.endpoint.send(ID, m.LaunchTask(task))
    launched: list[m.LaunchTask] = []

    def all_there() -> bool:
        while executor.socket.poll(0):
            launched.extend(executor.receive())
        return len(launched) == 8

    slave.until(all_there, "the tasks to arrive")
    for number in range(1, 50):
        executor.send(update(number))
    slave.until(lambda: len(slave.messages(m.ExecutorUpdate)) == 49)
    assert [each.number for each in slave.messages(m.ExecutorUpdate)] == list(range(1, 50))


def test_a_peer_that_sends_before_it_registers_is_answered_not_registered(
    slave: Slave, executor: Executor
) -> None:
    executor.send(update(1))
    slave.until(lambda: executor.socket.poll(0))
    assert executor.receive() == [m.NotRegistered()]
    executor.register()
    slave.until(lambda: slave.heard)
    assert len(slave.heard) == 1


def test_a_new_registration_replaces_the_older_connection(slave: Slave, executor: Executor) -> None:
    executor.register()
    slave.until(lambda: slave.heard)
    again = Executor(slave)
    again.register()
    slave.until(lambda: len(slave.heard) == 2)
    slave.endpoint.send(ID, m.UpdatesStored(7))
    slave.endpoint.flush()
    assert again.receive() == [m.UpdatesStored(7)]
    again.close()


def test_messages_of_an_ended_executor_are_still_handled(slave: Slave) -> None:
    many = [update(number) for number in range(1, MESSAGES_A_TURN + 1500)]
    with raw(slave, DEALER, registration_frame(), *map(frame, codec.frames(many))):
        slave.until(lambda: slave.heard)
    slave.heard += [Heard(*each) for each in slave.endpoint.last_messages(ID)]
    assert slave.messages(m.ExecutorUpdate) == many
    assert list(slave.endpoint.last_messages(ID)) == []


def test_one_executor_gets_only_its_share_of_a_turn(slave: Slave) -> None:
    many = [update(number) for number in range(1, MESSAGES_A_TURN + 100)]
    with raw(slave, DEALER, registration_frame(), *map(frame, codec.frames(many))):
        slave.until(lambda: slave.heard)
        while len(slave.messages(m.ExecutorUpdate)) < len(many):
            assert len(slave.turn()) <= MESSAGES_A_TURN


def test_an_executor_that_is_not_read_waits_and_nothing_is_lost(slave: Slave) -> None:
    with raw(slave, DEALER, registration_frame()) as peer:
        slave.until(lambda: slave.heard)
        slave.endpoint.hear(ID, False)
        peer.sendall(frame(next(codec.frames([update(1)]))))
        for _ in range(20):
            slave.turn()
        assert slave.messages(m.ExecutorUpdate) == []
        assert not slave.endpoint.has_more
        slave.endpoint.hear(ID, True)
        slave.until(lambda: slave.messages(m.ExecutorUpdate))


# -- what a peer can make it keep ---------------------------------------------------------------------------------------

PART = b"\x03" + (1 << 20).to_bytes(8, "big")
NONSENSE = {
    "a part that is not the last": (DEALER, PART),
    "a frame larger than any": (DEALER, b"\x02" + (1 << 62).to_bytes(8, "big")),
    "a command larger than any": (DEALER, b"\x06" + (1 << 20).to_bytes(8, "big")),
    "unknown flags": (DEALER, b"\x10\x00"),
    "an unknown command": (DEALER, b"\x04\x04\x03EXE"),
    "a message before READY": (OPENING[:64], b"\x00\x01x"),
    "no ZMTP": (b"GET / HTTP/1.1\r\n\r\n",),
    "ZMTP 2": (b"\xff" + bytes(8) + b"\x7f\x01",),
    "keys": (OPENING[:12] + b"CURVE".ljust(20, b"\0"),),
    "not a message of offerd": (DEALER, frame(b"\xc1")),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_ends_its_connection_and_is_logged_in_one_line(slave: Slave, what: str) -> None:
    with raw(slave, *NONSENSE[what]) as peer:
        slave.until(lambda: slave.lines)
        assert slave.lines[0].startswith(
            f"the socket of {ID}: dropped a peer: it sent something that is not a message of offerd"
        )
        peer.settimeout(5)
        while peer.recv(4096):
            pass
    assert slave.heard == []
    with raw(slave, DEALER, registration_frame()):
        slave.until(lambda: slave.heard)


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_the_containers_fault_after_all_earlier_messages(slave: Slave, what: str) -> None:
    said = NONSENSE[what][1:]
    if not said or not what.startswith(("a part", "a frame", "unknown", "an unknown", "not a message")):
        return
    with raw(slave, DEALER, registration_frame(), *said):
        slave.until(lambda: len(slave.heard) == 2)
    assert isinstance(slave.heard[0].message, m.RegisterExecutor)
    assert slave.heard[1].container_id == ID
    assert "not a message" in slave.heard[1].fault


def test_a_peer_that_never_ends_its_message_makes_the_slave_keep_no_more_than_a_frame(slave: Slave) -> None:
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        with raw(slave, DEALER) as peer:
            peer.setblocking(False)
            size = b"\x02" + ((1 << 20) - 1).to_bytes(8, "big")
            for chunk in (size, *[bytes(64 << 10)] * 32):
                slave.turn()
                try:
                    peer.sendall(chunk)
                except OSError:
                    break
    assert psutil.Process().memory_info().rss - before < 20 << 20


PING, PONG = command(b"PING", bytes(2) + b"context"), command(b"PONG", b"context")


def test_heartbeats_however_many_cost_the_slave_one_answer(slave: Slave) -> None:
    with raw(slave, DEALER, registration_frame(), PING * (MAX_COMMANDS - 1)) as peer:
        slave.until(lambda: slave.heard)
        peer.settimeout(10)
        answered = b""
        while PONG not in answered:
            slave.turn()
            answered += peer.recv(1 << 20)
        assert answered.count(PONG) < 10
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.sendall(PING * 10_000)
        slave.until(lambda: any(each.fault for each in slave.heard))
    assert f"more than {MAX_COMMANDS} commands at once" in slave.heard[-1].fault


def test_a_peer_that_reads_no_answers_to_heartbeats_makes_the_slave_keep_only_one(slave: Slave) -> None:
    with raw(slave, DEALER, registration_frame()) as peer:
        slave.until(lambda: slave.heard)
        connection = slave.endpoint._executors[ID]
        slave.endpoint.send(
            ID, m.LaunchTask(m.TaskInfo(TaskID("t"), NOTHING, ExecutorID("e"), data=bytes(900_000)))
        )
        slave.endpoint.flush()
        before = connection._unsent_bytes
        assert before
        for _ in range(50):
            peer.sendall(PING)
            slave.turn()
        assert connection._unsent_bytes == before


def test_silent_connections_do_not_keep_the_executor_out(
    slave: Slave, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [raw(slave) for _ in range(8)]
    for _ in range(20):
        slave.turn()
    assert len(slave.endpoint._unregistered) == MOST_UNREGISTERED
    with raw(slave, DEALER, registration_frame()):
        slave.until(lambda: slave.heard)
    due = slave.endpoint.next_deadline()
    assert due is not None
    slave.endpoint.tick(due - 0.1)
    assert slave.endpoint._unregistered
    slave.endpoint.tick(due + REGISTER_WITHIN_S)
    assert not slave.endpoint._unregistered
    for each in silent:
        each.close()


def test_a_connection_closed_amid_its_messages_leaves_nothing_to_do(
    slave: Slave,
) -> None:
    endpoint = slave.endpoint
    many = [update(number) for number in range(1, MESSAGES_A_TURN + 100)]
    with raw(slave, DEALER, registration_frame(), *map(frame, codec.frames(many))):
        wait_until(lambda: list(endpoint.drain()) or endpoint._unregistered, "it to connect")
        turn = endpoint.drain()
        assert isinstance(next(turn)[1], m.RegisterExecutor)
        number = endpoint._executors[ID].fd
        endpoint.forget(ID)
        others = (ContainerID(f"c.{number}") for number in range(2, 100))
        while number not in endpoint._by_fd:  # until another socket has its number
            endpoint.expect(next(others), "token", os.geteuid(), os.getegid())
        list(turn)
        slave.turn()
    assert not endpoint.has_more


def test_an_executor_that_does_not_read_is_given_up_before_it_costs_much(slave: Slave) -> None:
    with raw(slave, DEALER, registration_frame()):
        slave.until(lambda: slave.heard)
        lost: list[ContainerID] = []
        task = m.TaskInfo(TaskID("t"), NOTHING, ExecutorID("e"), data=bytes(900_000))
        for _ in range(200):
            slave.endpoint.send(ID, m.LaunchTask(task))
            lost += slave.endpoint.flush()
        assert lost == [ID]


def test_without_descriptors_no_connection_is_accepted_until_there_are_some_again(slave: Slave) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = raw(slave, DEALER, registration_frame())
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        slave.turn()
        assert any("cannot accept" in line for line in slave.lines)
        assert slave.turn() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    due = slave.endpoint.next_deadline()
    assert due is not None
    slave.endpoint.tick(due)
    slave.until(lambda: slave.heard)
    waiting.close()


# -- executors of an older slave ----------------------------------------------------------------------------------------


def test_executors_of_an_older_slave_find_the_shared_socket(slave: Slave, directory: Path) -> None:
    old = ContainerID("old.1")
    shared = directory / "executors.sock"
    assert not shared.exists()
    slave.endpoint.expect_at_shared(old, "old token", os.geteuid())
    executor = Executor(slave, address=f"ipc://{shared}")
    executor.register()
    slave.until(lambda: slave.lines, "a refusal of who has a socket of its own")
    executor.register("old token", old)
    slave.until(lambda: slave.heard)
    slave.endpoint.send(old, m.UpdatesStored(1))
    slave.endpoint.flush()
    assert executor.receive() == [m.UpdatesStored(1)]
    slave.endpoint.forget(old)
    assert not shared.exists()
    executor.close()


def test_sockets_of_containers_that_are_gone_are_swept_and_those_of_adopted_ones_made_anew(
    directory: Path,
) -> None:
    before = Slave(directory)
    for name in (ID, ContainerID("gone.1")):
        before.endpoint.expect(name, "token", os.geteuid(), os.getegid())
    inode = (directory / ID).stat().st_ino
    before.endpoint.close()
    assert (directory / ID).stat().st_ino == inode, "containers have it mounted"
    slave = Slave(directory)
    slave.endpoint.expect(ID, "token", os.geteuid(), os.getegid())
    slave.endpoint.sweep()
    assert os.listdir(directory) == [ID]
    assert (directory / ID).stat().st_ino == inode
    with raw(slave, DEALER, registration_frame()):
        slave.until(lambda: slave.heard)
    slave.endpoint.close()


# -- the parser ---------------------------------------------------------------------------------------------------------


def test_messages_are_the_same_however_the_bytes_are_cut() -> None:
    chance = random.Random(5)
    messages = [chance.randbytes(chance.choice([0, 1, 255, 256, 5000])) for _ in range(60)]
    data = DEALER + b"".join(map(frame, messages)) + b"\x04\x07\x04PING\0\0"
    for _ in range(50):
        parser, found, answers, at = Parser(), [], b"", 0
        while at < len(data):
            step = chance.choice([1, 7, 64, 4000])
            heard, answer = parser.feed(data[at : at + step])
            found += heard
            answers += answer
            at += step
        assert found == messages
        assert answers == b"\x04\x05\x04PONG"


def test_no_bytes_raise_anything_else_or_are_kept_beyond_a_frame() -> None:
    chance = random.Random(6)
    for _ in range(3000):
        parser = Parser()
        data = bytearray(DEALER + frame(chance.randbytes(chance.randrange(300))))
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            parser.feed(bytes(data))
        except NotZMTP:
            continue
        assert len(parser._buffer) <= len(data)
