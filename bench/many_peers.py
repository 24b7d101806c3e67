"""Very many slaves and schedulers in few processes: their real cores over real sockets. They find the leader in ZooKeeper.

One detector and one loop serve all peers of a process. A slave has an executor with one running task, adopted as after a
restart; a scheduler wants no offers. Each peer notes when a master has registered it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import zmq

from offerd import messages as m
from offerd.core.scheduler_core import SchedulerCore, Send
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.masters.detector import LeaderDetector
from offerd.masters.leader import parse_zookeeper
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.records import ContainerCheckpoint, TaskDelivered
from offerd_slave.settings import SlaveSettings

EXECUTOR = m.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")


def framework_id(number: int) -> FrameworkID:
    return FrameworkID(f"bench-{number:03}")


class SlavePeer:
    """A slave's core with a minimal daemon."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], number: int, frameworks: int) -> None:
        self.client: Client[Any] = Client(context, "", codec.to_slave)
        self.registered_with = ""
        now = time.monotonic()
        info = m.SlaveInfo(
            hostname=f"host-{number:05}",
            resources=Resources.of(cpus=16, mem="64G", disk="1T", ports=[(31000, 31999)]),
            attributes={"rack": f"r{number % 40}", "zone": "a"},
            files_address="10.0.0.1:5051",
            facts={"kernel": "6.1.0-28-amd64", "cgroup": "v2", "python": "3.11.2", "numa_nodes": "2"},
        )
        owner = m.FrameworkInfo("bench", framework_id(number % frameworks))
        container_id, task_id = ContainerID(f"c{number}.1"), TaskID(f"t{number}")
        task = m.TaskInfo(task_id, Resources.of(cpus=1, mem="1G"), EXECUTOR.executor_id)
        recovered = Recovered(
            SlaveID(f"S-bench-{number:05}"),
            containers=[
                RecoveredContainer(ContainerCheckpoint(container_id, owner, EXECUTOR, "token", "noop"), True)
            ],
            records=[TaskDelivered(owner.framework_id, container_id, task, now)],
        )
        # One registration for each connection: we make the connections, so none is missed and repeated.
        settings = SlaveSettings(register_retry_s=10.0, executor_reregistration_timeout_s=3600.0)
        self.core = SlaveCore(settings, info, f"run{number}", recovered, now)
        self._perform(
            self.core.handle(
                ev.FromExecutor(container_id, m.RegisterExecutor(container_id, "token", [], [task_id])), now
            )
        )

    def connected(self, now: float) -> None:
        self._perform(self.core.handle(ev.MasterConnected(), now))

    def turn(self, now: float) -> None:
        for epoch, messages in self.client.drain():
            for message in messages:
                self._perform(self.core.handle(ev.FromMaster(epoch, message), now))
                if type(message) is m.SlaveRegistered:
                    self.registered_with = message.master_id

    def tick(self, now: float) -> float | None:
        self._perform(self.core.tick(now))
        return self.core.next_deadline()

    def _perform(self, actions: list[act.Action]) -> None:
        for action in actions:
            if type(action) is act.SendToMaster:
                self.client.send(action.message)
            elif type(action) is act.MeasureUsage:
                self._perform(self.core.handle(ev.UsageMeasured(1000, 1 << 30), time.monotonic()))
        self.client.flush()


class SchedulerPeer:
    """A scheduler's core that only stays registered."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], number: int) -> None:
        self.client: Client[Any] = Client(context, "", codec.to_scheduler)
        self.registered_with = ""
        info = m.FrameworkInfo("bench", framework_id(number), executors=[EXECUTOR], failover_timeout_s=600.0)
        self.core = SchedulerCore(info, finds_leader=True)
        self._perform(self.core.start(time.monotonic()))
        self._perform(self.core.set_needs_offers(False, time.monotonic()))

    def connected(self, now: float) -> None:
        self._perform(self.core.link_changed(False, now))
        self._perform(self.core.link_changed(True, now))

    def turn(self, now: float) -> None:
        for epoch, messages in self.client.drain():
            if self.core.obeys(epoch):
                for message in messages:
                    self._perform(self.core.handle(message, now))
                    if type(message) is m.FrameworkRegistered:
                        self.registered_with = message.master_id

    def tick(self, now: float) -> float | None:
        self._perform(self.core.tick(now))
        return self.core.next_deadline()

    def _perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.client.send(action.message)
        self.client.flush()


Peer = SlavePeer | SchedulerPeer


def serve_slaves(pipe: Connection, master: str, first: int, count: int, frameworks: int) -> None:
    """Be the slaves `first` to `first + count - 1` until killed."""
    context = new_context()
    Peers(pipe, master, [SlavePeer(context, first + i, frameworks) for i in range(count)]).run()


def serve_schedulers(pipe: Connection, master: str, count: int) -> None:
    """Be the schedulers of `count` frameworks until killed."""
    context = new_context()
    Peers(pipe, master, [SchedulerPeer(context, i) for i in range(count)]).run()


class Peers:
    """The loop of one process. Reports `(master_id, when)` on the pipe when one master has registered all its peers."""

    def __init__(self, pipe: Connection, master: str, peers: list[Peer]) -> None:
        self._pipe = pipe
        self._peers = peers
        self._detector = LeaderDetector(parse_zookeeper(master))
        self._by_socket: dict[Any, Callable[[float], None]] = {}
        self._due: list[tuple[float, int]] = [(0.0, i) for i in range(len(peers))]
        self._reported = ""

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._detector.fd, zmq.POLLIN)
        while True:
            ready = poller.poll(self._timeout_ms())
            now = time.monotonic()
            for socket, _ in ready:
                if socket == self._detector.fd:
                    poller = self._move(self._detector.taken(), now)
                    break
                self._by_socket[socket](now)
            while self._due and self._due[0][0] <= now:
                _, index = heapq.heappop(self._due)
                next_at = self._peers[index].tick(now)
                heapq.heappush(self._due, (now + 1.0 if next_at is None else max(next_at, now + 0.2), index))
            self._report()

    def _timeout_ms(self) -> int:
        return max(0, min(1000, int((self._due[0][0] - time.monotonic()) * 1000) + 1))

    def _move(self, leader: str, now: float) -> zmq.Poller:
        poller = zmq.Poller()
        poller.register(self._detector.fd, zmq.POLLIN)
        self._by_socket = {}
        for peer in self._peers:
            peer.client.move(leader)
            peer.connected(now)
            self._by_socket[peer.client.socket] = peer.turn
            poller.register(peer.client.socket, zmq.POLLIN)
        return poller

    def _report(self) -> None:
        master = self._peers[-1].registered_with
        if (
            master
            and master != self._reported
            and all(peer.registered_with == master for peer in self._peers)
        ):
            self._reported = master
            self._pipe.send((master, time.monotonic()))
