"""A hostile executor: `python -m helpers.hostile_executor WHAT`, started by a slave like any other.

It uses plain sockets, so that it can send what the SDK would not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

import zmq

from offerd import messages as m
from offerd.ids import ContainerID, TaskID
from offerd.wire import codec

MIB = 1 << 20


class Slave:
    """The connection, from the executor's side."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.connect()

    def connect(self) -> None:
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.connect(os.environ["OFFERD_SLAVE_SOCKET"])

    def send(self, *messages: m.Message) -> None:
        for message in messages:
            for frame in codec.frames([message]):
                self.socket.send(frame)

    def register(self, task_ids: list[TaskID] | None = None) -> None:
        self.send(self.registration(task_ids or []))

    def registration(self, task_ids: list[TaskID]) -> m.RegisterExecutor:
        container_id = ContainerID(os.environ["OFFERD_CONTAINER_ID"])
        return m.RegisterExecutor(container_id, os.environ["OFFERD_TOKEN"], [], task_ids)

    def task(self) -> m.TaskInfo:
        """The first task that is launched."""
        while True:
            for message in codec.to_executor.decode(self.socket.recv())[1]:
                if isinstance(message, m.LaunchTask):
                    return message.task


def status(task: m.TaskInfo, state: m.TaskState, sequence: int, data: bytes = b"") -> m.TaskStatus:
    return m.TaskStatus(task.task_id, state, sequence, data=data)


def poison(slave: Slave) -> None:
    """Send a status with an impossible number, and end."""
    slave.register()
    task = slave.task()
    slave.send(m.ExecutorUpdate(1, status(task, m.TaskState.RUNNING, 2**64 - 1)))
    slave.socket.close()


def parts(slave: Slave) -> None:
    """Send a message of very many parts without a last one; without libzmq, which sends no part before it has the last."""
    slave.register()
    task = slave.task()
    slave.socket.close()
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(os.environ["OFFERD_SLAVE_SOCKET"].removeprefix("ipc://"))
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32))
    raw.sendall(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER")
    (frame,) = codec.frames([slave.registration([task.task_id])])
    raw.sendall(b"\x02" + len(frame).to_bytes(8, "big") + frame)
    part = b"\x03" + MIB.to_bytes(8, "big") + bytes(MIB)
    with contextlib.suppress(OSError):
        for _ in range(300):
            raw.sendall(part)
    time.sleep(600)


def unheard(slave: Slave) -> None:
    """Send as many statuses as there is time for, each of the largest size."""
    slave.register()
    task = slave.task()
    sequence = 0
    while True:
        sequence += 1
        slave.send(m.ExecutorUpdate(sequence, status(task, m.TaskState.RUNNING, sequence, bytes(MIB // 2))))


def names(slave: Slave) -> None:
    """Registrations that name tens of thousands of tasks that never existed."""
    slave.register()
    slave.task()
    for number_of_times in range(4):
        slave.socket.close()
        slave.connect()
        slave.register([TaskID(f"never-{number_of_times}-{number}") for number in range(16_000)])
        slave.socket.recv()
    time.sleep(600)


def main() -> None:
    globals()[sys.argv[1]](Slave())


if __name__ == "__main__":
    main()
