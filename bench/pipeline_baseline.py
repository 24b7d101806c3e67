"""The baseline: a bare pipeline of scheduler, master, slave and two executors, over the sockets that offerd uses.

    python bench/pipeline_baseline.py [TASKS]

Every hop decodes and encodes typed messages, and does nothing else: no state, no offers, no checkpoints. The difference to
offerd is the cost of its state machines. Messages travel many to a frame, as in offerd, or each in its own frame.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Generic, Literal, TypeVar

import msgspec
import zmq

from children import child, receive
from offerd.ids import ContainerID, ExecutorID, SlaveID, TaskID
from offerd.messages import TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources

M = TypeVar("M")
Shape = Literal["batches", "one frame each"]

IN_FLIGHT = 200
"""Tasks in flight: as many as the slots of the cluster that is measured beside it."""
DEADLINE_S = 60.0

_RESOURCES = Resources.of(cpus="0.02", mem="1M")
_EXECUTORS = (ExecutorID("executor-0"), ExecutorID("executor-1"))
_SLAVE = SlaveID("S-0000018f-0001")
_CONTAINER = ContainerID("c-0000018f-000001")
_CALL = b"x" * 60
_RESULT = b"x" * 8


def _task(number: int) -> TaskInfo:
    """A task as `ClusterExecutor` sends it for a trivial call."""
    return TaskInfo(
        TaskID(f"noop-{number}"), _RESOURCES, _EXECUTORS[number % 2], None, _CALL, 60.0, None, "noop"
    )


def _status(task: TaskInfo) -> TaskStatus:
    """The status that is returned for it."""
    return TaskStatus(
        task.task_id,
        TaskState.FINISHED,
        1,
        source="executor",
        data=_RESULT,
        slave_id=_SLAVE,
        executor_id=task.executor_id,
        container_id=_CONTAINER,
    )


class Wire(Generic[M]):
    """One socket: reads lists of `kind` and writes lists of anything, in as few frames as `shape` allows."""

    def __init__(self, socket: zmq.Socket[bytes], shape: Shape, kind: type[M]) -> None:
        self.socket = socket
        self._batches = shape == "batches"
        self._decode = msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._encode = msgspec.msgpack.Encoder().encode

    def read(self) -> list[tuple[bytes, list[M]]]:
        """`(peer, messages)` of all frames that are there; the peer of a DEALER is empty."""
        frames = []
        with contextlib.suppress(zmq.Again):
            for _ in range(256):
                *peer, frame = self.socket.recv_multipart(zmq.NOBLOCK)
                frames.append((peer[0] if peer else b"", self._decode(frame)))
        return frames

    def write(self, peer: bytes, messages: Sequence[object]) -> None:
        for part in [messages] if self._batches else [[message] for message in messages]:
            frame = self._encode(part)
            self.socket.send_multipart([peer, frame] if peer else [frame])


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket


def _dealer(context: zmq.Context[zmq.Socket[bytes]], address: str, identity: bytes) -> zmq.Socket[bytes]:
    socket = _socket(context, zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, identity)
    socket.connect(address)
    return socket


def _hop(down: Wire[TaskInfo], up: Wire[TaskStatus], route: Callable[[TaskInfo], bytes]) -> None:
    """Pass tasks from `down` to the peer on `up` that `route` names, and statuses back."""
    poller = zmq.Poller()
    poller.register(down.socket, zmq.POLLIN)
    poller.register(up.socket, zmq.POLLIN)
    asker = b""
    while True:
        ready = dict(poller.poll())
        if down.socket in ready:
            outgoing: dict[bytes, list[TaskInfo]] = {}
            for peer, tasks in down.read():
                asker = peer
                for task in tasks:
                    outgoing.setdefault(route(task), []).append(task)
            for peer, tasks in outgoing.items():
                up.write(peer, tasks)
        if up.socket in ready:
            statuses = [status for _, some in up.read() for status in some]
            if statuses:
                down.write(asker, statuses)


def _master(pipe: Connection, shape: Shape) -> None:
    context = zmq.Context()
    schedulers, slaves = _socket(context, zmq.ROUTER), _socket(context, zmq.ROUTER)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (schedulers, slaves)]
    pipe.send(ports)
    _hop(Wire(schedulers, shape, TaskInfo), Wire(slaves, shape, TaskStatus), lambda task: b"slave")


def _slave(pipe: Connection, shape: Shape, base: str, port: int) -> None:
    context = zmq.Context()
    executors = _socket(context, zmq.ROUTER)
    executors.bind(f"ipc://{base}/executors")
    master = _dealer(context, f"tcp://127.0.0.1:{port}", b"slave")
    _hop(
        Wire(master, shape, TaskInfo),
        Wire(executors, shape, TaskStatus),
        lambda task: task.executor_id.encode(),
    )


def _executor(pipe: Connection, shape: Shape, base: str, number: int) -> None:
    socket = _dealer(zmq.Context(), f"ipc://{base}/executors", _EXECUTORS[number].encode())
    slave = Wire(socket, shape, TaskInfo)
    while True:
        slave.socket.poll()
        for _, tasks in slave.read():
            slave.write(b"", [_status(task) for task in tasks])


class Pipeline:
    """Five processes; this one is the scheduler. A context manager: the others end with it."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Pipeline:
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(tempfile.TemporaryDirectory(prefix="offerd-bench-"))
            pipe = stack.enter_context(child(_master, self._shape))
            ports = receive(pipe, "the bare pipeline's master")
            assert isinstance(ports, list)
            scheduler_port, slave_port = ports
            stack.enter_context(child(_slave, self._shape, base, slave_port))
            for number in (0, 1):
                stack.enter_context(child(_executor, self._shape, base, number))
            context = stack.enter_context(zmq.Context())
            socket = _dealer(context, f"tcp://127.0.0.1:{scheduler_port}", b"scheduler")
            stack.callback(socket.close)
            self._wire = Wire(socket, self._shape, TaskStatus)
            self._wait_until_connected()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _wait_until_connected(self) -> None:
        """A ROUTER drops messages to a peer that is not connected yet, so ask until both executors answer."""
        give_up_at = time.monotonic() + DEADLINE_S
        answered: set[str] = set()
        while len(answered) < 2:
            if time.monotonic() > give_up_at:
                raise TimeoutError("the bare pipeline does not connect")
            self._wire.write(b"", list(self._tasks(2)))
            while self._wire.socket.poll(100):
                for _, statuses in self._wire.read():
                    answered |= {status.executor_id for status in statuses}

    def rate(self, tasks: int, in_flight: int = IN_FLIGHT) -> float:
        """Tasks per second with `in_flight` tasks at once."""
        wire, left, flying = self._wire, tasks, 0
        started = time.perf_counter()
        while left or flying:
            number = min(left, in_flight - flying)
            if number:
                wire.write(b"", list(self._tasks(number)))
                left -= number
                flying += number
            if not wire.socket.poll(int(DEADLINE_S * 1000)):
                raise TimeoutError(f"the bare pipeline has lost {flying} tasks")
            flying -= sum(len(statuses) for _, statuses in wire.read())
        return tasks / (time.perf_counter() - started)

    def round_trips_ms(self, count: int, rest_s: float = 0.0) -> list[float]:
        """One task at a time, with a pause of `rest_s` after each."""
        times = []
        for _ in range(count):
            time.sleep(rest_s)
            started = time.perf_counter()
            self._wire.write(b"", list(self._tasks(1)))
            if not self._wire.socket.poll(int(DEADLINE_S * 1000)):
                raise TimeoutError("the bare pipeline has lost a task")
            self._wire.read()
            times.append((time.perf_counter() - started) * 1e3)
        return times

    def _tasks(self, number: int) -> Iterator[TaskInfo]:
        return (_task(next(self._numbers)) for _ in range(number))


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    shapes: tuple[Shape, ...] = ("batches", "one frame each")
    for shape in shapes:
        with Pipeline(shape) as pipeline:
            pipeline.rate(tasks // 10)
            times = sorted(pipeline.round_trips_ms(500))
            print(f"{shape:15} {pipeline.rate(tasks):8,.0f} tasks/s, round trip p50 {times[250]:.2f} ms")


if __name__ == "__main__":
    main()
