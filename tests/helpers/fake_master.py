"""A master made of a real ROUTER and a script: what drivers and `ClusterExecutor` are tested and measured against.

`FakeMaster` answers registrations and records everything; a test sends the rest. `InstantCluster` is a FakeMaster that
offers slaves of a given size and ends every task the moment it is accepted, as the test's `outcome` says.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import zmq

from offerd.errors import BadMessage
from offerd.files_access import FilesAccess
from offerd.ids import ContainerID, FrameworkID, OfferID, PeerID, SlaveID, TaskID
from offerd.messages import (
    AcceptOffers,
    Acknowledge,
    DeclineOffers,
    FrameworkRegistered,
    KillTask,
    Message,
    Offer,
    RegisterFramework,
    ResourceOffers,
    ReviveOffers,
    SetNeedsOffers,
    StatusUpdate,
    TaskInfo,
    TaskState,
    TaskStatus,
)
from offerd.resources import NOTHING, Resources
from offerd.wire import codec
from offerd.wire.transport import Server, new_context

M = TypeVar("M", bound=Message)
WAIT_S = 10.0


class FakeMaster:
    """Listens on a free port of loopback, in a thread of its own, from `with` to its end."""

    def __init__(self, address: str = "tcp://127.0.0.1:*", *, ping_interval_s: float = 5.0) -> None:
        self._context = new_context()
        self._server: Server[codec.ToMaster] = Server(self._context, address, codec.to_master)
        self.address = self._server.address
        self.received: list[Message] = []
        self.bad: list[BadMessage] = []
        self.peer = PeerID(b"")
        """The peer that sent the last message."""
        self.framework_id = FrameworkID("F-1")
        self.ping_interval_s = ping_interval_s
        self.answers_registration = True
        self._changed = threading.Condition()
        self._orders: deque[tuple[PeerID, Message]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK)
        self._is_ending = False
        self._seen = 0
        self._thread = threading.Thread(target=self._loop, name="fake-master", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gone, as by `kill -9`, without a message."""
        if not self._is_ending:
            self._is_ending = True
            os.eventfd_write(self._wakeup, 1)
            self._thread.join()
            os.close(self._wakeup)

    def send(self, message: Message, peer: PeerID | None = None) -> None:
        """Send to the peer that sent the last message, or to this one. From any thread."""
        self._orders.append((self.peer if peer is None else peer, message))
        os.eventfd_write(self._wakeup, 1)

    def expect(self, kind: type[M], timeout_s: float = WAIT_S) -> M:
        """Wait for the next message of this kind after those already expected; others in between are passed over."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                while self._seen < len(self.received):
                    message = self.received[self._seen]
                    self._seen += 1
                    if isinstance(message, kind):
                        return message
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise AssertionError(f"no {kind.__name__} came; received: {self.received[-10:]}")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        """Wait until something received makes this true."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"received: {self.received[-10:]}"

    def count(self, kind: type[Message]) -> int:
        with self._changed:
            return sum(isinstance(message, kind) for message in self.received)

    def handle(self, peer: PeerID, message: Any) -> None:
        """Answer what this master answers by itself; runs in its thread."""
        if isinstance(message, RegisterFramework) and self.answers_registration:
            known = message.framework.framework_id
            self.framework_id = known or self.framework_id
            answer = FrameworkRegistered(self.framework_id, "M-1", bool(known), self.ping_interval_s)
            self._server.send(peer, answer)

    def record(self, message: Message) -> None:
        """Keep a message for `expect`. `InstantCluster` has no memory for millions."""
        self.received.append(message)

    def turn_done(self) -> None:
        """After every batch."""

    def _loop(self) -> None:
        poller = zmq.Poller()
        poller.register(self._server.socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        while not self._is_ending:
            if any(ready == self._wakeup for ready, _ in poller.poll()):
                os.eventfd_read(self._wakeup)
            for peer, messages in self._server.drain():
                with self._changed:
                    if isinstance(messages, BadMessage):
                        self.bad.append(messages)
                        continue
                    self.peer = peer
                    for message in messages:
                        self.record(message)
                        self.handle(peer, message)
            with self._changed:
                self.turn_done()
                self._changed.notify_all()
            while self._orders:
                self._server.send(*self._orders.popleft())
            self._server.flush(epoch=1)
        self._server.close()
        self._context.term()


Outcome = Callable[[TaskInfo], TaskStatus | None]


def finished(task: TaskInfo) -> TaskStatus:
    """Ends well, with the task's own data as its result."""
    return TaskStatus(task.task_id, TaskState.FINISHED, sequence=1, data=task.data)


class InstantCluster(FakeMaster):
    """Slaves `S-0`, `S-1`, ... of `resources` each. `outcome` gives a task's terminal status, or None: it runs on until
    `end` or a kill.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        slaves: int = 1,
        outcome: Outcome = finished,
        long_quantities: dict[str, int] | None = None,
        files_address: str = "",
        keeps: bool = True,
    ) -> None:
        super().__init__()
        self.outcome = outcome
        self.free = {SlaveID(f"S-{number}"): resources for number in range(slaves)}
        self.long_quantities = resources.quantities() if long_quantities is None else long_quantities
        self.files_address = files_address
        self.running: dict[TaskID, tuple[SlaveID, TaskInfo]] = {}
        self.launched = 0
        self.needs_offers = True
        self._keeps = keeps
        self._offered: dict[OfferID, Offer] = {}
        self._refused: dict[SlaveID, Resources] = {}
        self._next_offer = 0
        self.framework_peer = PeerID(b"")

    def record(self, message: Message) -> None:
        if self._keeps:
            super().record(message)

    def handle(self, peer: PeerID, message: Any) -> None:
        super().handle(peer, message)
        match message:
            case AcceptOffers():
                self._accept(message)
            case Acknowledge():
                pass
            case DeclineOffers():
                for offer_id in message.offer_ids:
                    offer = self._offered.pop(offer_id)
                    self._refused[offer.slave_id] = offer.resources
            case SetNeedsOffers():
                self.needs_offers = message.needs_offers
                self._refused.clear()
            case ReviveOffers():
                self._refused.clear()
            case KillTask():
                if message.task_id in self.running:
                    self._finish(TaskStatus(message.task_id, TaskState.KILLED, sequence=9))
            case RegisterFramework():
                self.framework_peer = peer
                self._offered.clear()

    def end(self, status: TaskStatus) -> None:
        """End a running task so, whatever the status' sequence; from any thread."""
        with self._changed:
            self._finish(msgspec.structs.replace(status, sequence=9))
        os.eventfd_write(self._wakeup, 1)

    @property
    def offers_made(self) -> int:
        return self._next_offer

    def free_offers(self) -> int:
        """Offers that have been neither accepted nor declined."""
        return len(self._offered)

    def turn_done(self) -> None:
        """Offer each slave that is free, whole, as one offer."""
        if not self.needs_offers or not self.framework_peer:
            return
        taken = {offer.slave_id for offer in self._offered.values()}
        offers = []
        for slave_id, free in self.free.items():
            # As in the real master, a refusal holds until more is free.
            if not free or slave_id in taken or self._refused.get(slave_id, NOTHING).covers(free):
                continue
            self._next_offer += 1
            offer_id = OfferID(f"O-{self._next_offer}")
            offer = Offer(
                offer_id,
                slave_id,
                "host",
                free,
                self.long_quantities,
                60.0,
                files_address=self.files_address,
                files=FilesAccess(self.files_address),
            )
            self._offered[offer_id] = offer
            offers.append(offer)
        if offers:
            self._server.send(self.framework_peer, ResourceOffers(offers))

    def _accept(self, message: AcceptOffers) -> None:
        slave_id = {self._offered.pop(offer_id).slave_id for offer_id in message.offer_ids}.pop()
        outcome, send = self.outcome, self._server.send
        self.launched += len(message.tasks)
        for task in message.tasks:
            status = outcome(task)
            if status is None:
                self.free[slave_id] = self.free[slave_id] - task.resources
                self.running[task.task_id] = (slave_id, task)
                status = TaskStatus(task.task_id, TaskState.RUNNING, sequence=1)
            send(self.framework_peer, StatusUpdate(self.framework_id, self._placed(status, slave_id)))

    def _finish(self, status: TaskStatus) -> None:
        slave_id, task = self.running.pop(status.task_id)
        self.free[slave_id] = self.free[slave_id] + task.resources
        self._server.send(
            self.framework_peer, StatusUpdate(self.framework_id, self._placed(status, slave_id))
        )

    def _placed(self, status: TaskStatus, slave_id: SlaveID) -> TaskStatus:
        return TaskStatus(
            status.task_id,
            status.state,
            status.sequence,
            status.reason,
            status.source,
            status.message,
            status.data,
            slave_id=slave_id,
            container_id=ContainerID("C-1"),
        )
