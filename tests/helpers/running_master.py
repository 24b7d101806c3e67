"""A master in a thread of the test, and connections that send what the test wants."""

from __future__ import annotations

import threading
from typing import Any

import zmq

from offerd import messages as m
from offerd import operator_messages as om
from offerd.addresses import tcp
from offerd.wire.transport import Client, new_context
from offerd_master.daemon import Master
from offerd_master.options import MasterOptions
from offerd_master.settings import MasterSettings

WAIT_MS = 10_000


class Connection:
    """A client and the messages that it has received."""

    def __init__(self, context: zmq.Context[Any], address: str, decoder: Any) -> None:
        self.client: Client[Any] = Client(context, tcp(address, 0), decoder)
        self.inbox: list[m.Message] = []

    def send(self, *messages: m.Message) -> None:
        for message in messages:
            self.client.send(message)
        self.client.flush()

    def receive(self, kind: type[m.Message]) -> Any:
        """The next message of this kind; others before it are skipped."""
        while True:
            while self.inbox:
                message = self.inbox.pop(0)
                if isinstance(message, kind):
                    return message
            assert self.client.socket.poll(WAIT_MS), f"no {kind.__name__} came"
            for _, messages in self.client.drain():
                self.inbox += messages


class Running:
    """A master in a thread, and connections to it."""

    def __init__(self) -> None:
        self.master = Master(
            MasterOptions(port=0, insecure=True, settings=MasterSettings(ping_interval_s=0.2))
        )
        self.context = new_context()
        self.connections: list[Connection] = []
        self.thread = threading.Thread(target=self.master.run)
        self.thread.start()

    def connect(self, decoder: Any) -> Connection:
        connection = Connection(self.context, self.master.address, decoder)
        self.connections.append(connection)
        return connection

    def end(self) -> None:
        self.master.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        for connection in self.connections:
            connection.client.close()
        self.context.term()
        self.master.close()


def ask_cluster(operator: Connection) -> om.Cluster:
    operator.send(om.GetCluster())
    answer = operator.receive(om.Cluster)
    assert isinstance(answer, om.Cluster)
    return answer
