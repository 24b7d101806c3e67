"""Many slaves in one process: real sockets and the real protocol, and tasks that end when they arrive."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import zmq

from offerd import messages as m
from offerd.ids import ContainerID, SlaveID
from offerd.masters.clusters import resolve
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import Client, new_context

USAGE_INTERVAL_S = 5.0


class FakeSlave:
    """One fake slave."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, number: int) -> None:
        self.client: Client[codec.ToSlave] = Client(
            context, address, codec.to_slave, keys=resolve(address).keys
        )
        self.slave_id = SlaveID("")
        self._info = m.SlaveInfo(
            hostname=f"host-{number:03}",
            resources=Resources.of(cpus=16, mem="64G", disk="1T", ports=[(31000, 31999)]),
            attributes={"rack": f"r{number % 10}", "zone": "a"},
            files_address=f"127.0.0.1:{20_000 + number}",
            facts={"kernel": "6.1.0-28-amd64", "cgroup": "v2", "python": "3.11.2", "numa_nodes": "2"},
        )
        self.client.send(m.RegisterSlave(self._info))
        self.client.flush()

    def turn(self) -> None:
        """Answer all messages that are there."""
        for _, messages in self.client.drain():
            for message in messages:
                if isinstance(message, m.SlaveRegistered):
                    self.slave_id = message.slave_id
                elif isinstance(message, m.Ping):
                    self.client.send(m.Pong())
                elif isinstance(message, m.RunTasks):
                    self._run(message)
        self.client.flush()

    def _run(self, order: m.RunTasks) -> None:
        framework_id = order.framework.framework_id
        container_id = ContainerID(f"{self.slave_id}-{framework_id}")
        for task in order.tasks:
            status = m.TaskStatus(
                task.task_id,
                m.TaskState.FINISHED,
                sequence=1,
                source="executor",
                exit_status=0,
                usage=m.TaskUsage(0.001, 1 << 20),
                timestamp=time.time(),
                slave_id=self.slave_id,
                executor_id=task.executor_id,
                container_id=container_id,
            )
            self.client.send(m.StatusUpdate(framework_id, status))

    def send_usage(self) -> None:
        self.client.send(m.SlaveUsage(100, 1 << 30))
        self.client.flush()


def serve(pipe: Connection, address: str, count: int) -> None:
    """Be `count` slaves until killed; report on the pipe when all are registered."""
    context = new_context()
    slaves = [FakeSlave(context, address, number) for number in range(count)]
    by_socket = {slave.client.socket: slave for slave in slaves}
    poller = zmq.Poller()
    for socket in by_socket:
        poller.register(socket, zmq.POLLIN)
    reported = False
    usage_at = time.monotonic() + USAGE_INTERVAL_S
    while True:
        for socket, _ in poller.poll(1000):
            by_socket[socket].turn()
        if not reported and all(slave.slave_id for slave in slaves):
            reported = True
            pipe.send("registered")
        if time.monotonic() >= usage_at:
            usage_at += USAGE_INTERVAL_S
            for slave in slaves:
                slave.send_usage()
