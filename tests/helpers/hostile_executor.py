"""An executor that wishes its slave ill: `python -m helpers.hostile_executor WHAT`, started by a slave as any other.

It speaks through plain sockets, so that it can say what the SDK would not.
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

    def hello(self, task_ids: list[TaskID] | None = None) -> None:
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
    """A status from whose number nobody can count on, and out."""
    slave.hello()
    task = slave.task()
    slave.send(m.ExecutorUpdate(1, status(task, m.TaskState.RUNNING, 2**64 - 1)))
    slave.socket.close()


def parts(slave: Slave) -> None:
    """A message of very many parts and no last one; by hand, as libzmq sends no part before it has the last."""
    slave.hello()
    task = slave.task()
    slave.socket.close()
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(os.environ["OFFERD_SLAVE_SOCKET"].removeprefix("ipc://"))
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32))
    raw.sendall(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER")
    (hello,) = codec.frames([slave.registration([task.task_id])])
    raw.sendall(b"\x02" + len(hello).to_bytes(8, "big") + hello)
    part = b"\x03" + MIB.to_bytes(8, "big") + bytes(MIB)
    with contextlib.suppress(OSError):
        for _ in range(300):
            raw.sendall(part)
    time.sleep(600)


def unheard(slave: Slave) -> None:
    """As many statuses as there is time for, each as large as it may be."""
    slave.hello()
    task = slave.task()
    sequence = 0
    while True:
        sequence += 1
        slave.send(m.ExecutorUpdate(sequence, status(task, m.TaskState.RUNNING, sequence, bytes(MIB // 2))))


def names(slave: Slave) -> None:
    """Hellos that name tasks by the ten thousand that never were."""
    slave.hello()
    slave.task()
    for hello in range(4):
        slave.socket.close()
        slave.connect()
        slave.hello([TaskID(f"never-{hello}-{number}") for number in range(16_000)])
        slave.socket.recv()
    time.sleep(600)


def main() -> None:
    globals()[sys.argv[1]](Slave())


if __name__ == "__main__":
    main()
