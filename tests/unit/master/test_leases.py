"""What a leading master's loop does about its lease, with an election that only names the leader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from offerd import operator_messages as om
from offerd.addresses import tcp
from offerd.masters.leader import ZooKeeperAddress
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_master import daemon
from offerd_master.core.actions import Action
from offerd_master.core.events import Event
from offerd_master.core.master import MasterCore
from offerd_master.daemon import Master
from offerd_master.election import Deposed, Leading, Place, lease_clock
from offerd_master.options import MasterOptions

LEASE_S = 60.0
WAIT_MS = 10_000


class Elected:
    """Stands for an `Election`: this master leads, for a minute."""

    def __init__(
        self,
        address: object,
        description: bytes,
        session_s: float,
        changed: Callable[[], None],
        access: object,
    ) -> None:
        self.address = address
        self.place: Place = Leading(1, lease_clock() + LEASE_S)

    def close(self) -> None:
        pass


class Leader:
    """A master that leads, in a thread, and an operator's connection to it."""

    def __init__(self) -> None:
        self.master = Master(
            MasterOptions(port=0, insecure=True, zookeeper=ZooKeeperAddress("nowhere:2181", "/offerd"))
        )
        self.context = new_context()
        self.client: Client[Any] = Client(self.context, tcp(self.master.address, 0), codec.to_operator)
        self.end: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.master.run()
        except Deposed as error:
            self.end = error

    def ask(self) -> None:
        self.client.send(om.GetCluster())
        self.client.flush()

    def answers(self, wait_ms: int = WAIT_MS) -> bool:
        return bool(self.client.socket.poll(wait_ms))

    def close(self) -> None:
        self.master.stop()
        self.thread.join(10)
        self.client.close()
        self.context.term()
        self.master.close()


@pytest.fixture
def leader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leader]:
    monkeypatch.setattr(daemon, "Election", Elected)
    leader = Leader()
    yield leader
    leader.close()


def test_within_its_lease_a_leader_answers(leader: Leader) -> None:
    leader.ask()
    assert leader.answers()


def test_a_leader_whose_host_was_suspended_beyond_its_lease_ends_before_it_sends_anything(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stood still meanwhile; another master may lead."""
    monkeypatch.setattr(daemon, "lease_clock", lambda: lease_clock() + 300.0)
    leader.ask()
    leader.thread.join(10)
    assert isinstance(leader.end, Deposed)
    assert not leader.answers(wait_ms=0)


def test_a_leader_that_was_frozen_within_a_turn_ends_before_it_sends_what_it_decided(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen_s, handle = [0.0], MasterCore.handle

    def frozen(core: MasterCore, event: Event, now: float) -> list[Action]:
        frozen_s[0] = 300.0
        return handle(core, event, now)

    monkeypatch.setattr(daemon, "lease_clock", lambda: lease_clock() + frozen_s[0])
    monkeypatch.setattr(MasterCore, "handle", frozen)
    leader.ask()
    leader.thread.join(10)
    assert isinstance(leader.end, Deposed)
    assert not leader.answers(wait_ms=500)


def test_setting_the_wall_clock_does_not_change_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lease_clock()
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    assert before <= lease_clock() < before + LEASE_S
