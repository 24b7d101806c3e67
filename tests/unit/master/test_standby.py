"""A standby master reads its files again at SIGHUP, and not only once it leads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import wait_until
from helpers.keyring import TABLES, Keyring
from offerd import operator_messages as om
from offerd.addresses import tcp
from offerd.credentials.keys import read_secret
from offerd.errors import BadInput, KeyRefused
from offerd.masters.leader import ZooKeeperAddress
from offerd.messages import NotLeading
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_master import daemon, master_keys
from offerd_master.allocation.policy import Policy
from offerd_master.core.events import ChangeKept, EnrolmentRead
from offerd_master.core.registry import Contents
from offerd_master.daemon import Master
from offerd_master.election import Leading, Place, StandingBy, lease_clock
from offerd_master.gate import read_principals
from offerd_master.options import MasterOptions

WAIT_MS = 10_000


class Candidacy:
    """Stands for an `Election`: another master leads until `win`."""

    newest: Candidacy

    def __init__(
        self,
        address: object,
        description: bytes,
        session_s: float,
        changed: Callable[[], None],
        access: object,
    ) -> None:
        self.address = address
        self.place: Place = StandingBy("tcp://127.0.0.1:9")
        self._changed = changed
        Candidacy.newest = self

    def win(self) -> None:
        self.place = Leading(1, lease_clock() + 60.0)
        self._changed()

    def close(self) -> None:
        pass


class Kept:
    """Stands for `ZooKeeperKeys`: nobody has joined, and that is known at once unless a test says otherwise."""

    knows_at_once = True
    newest: Kept

    def __init__(
        self, address: object, secret: str, access: object, session_s: float, wake: Callable[[], None]
    ) -> None:
        self.contents = Contents()
        self.complaints: list[str] = []
        self.is_read = Kept.knows_at_once
        self._wake = wake
        Kept.newest = self

    def is_found(self) -> None:
        """ZooKeeper has answered."""
        self.is_read = True
        self._wake()

    def read_before_leading(self) -> bool:
        return self.is_read

    def news(self) -> Iterator[ChangeKept | EnrolmentRead]:
        return iter(())

    def close(self) -> None:
        pass


class StandBy:
    """A master with keys that stands by, in a thread."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.policy = Policy()
        self.policies_read = 0
        self.master = Master(
            MasterOptions(
                port=0,
                zookeeper=ZooKeeperAddress("nowhere:2181", "/offerd"),
                secret=read_secret(keyring.file("master")),
                read_principals=lambda: read_principals(keyring.authorized),
                read_policy=self._read_policy,
            )
        )
        self.election = Candidacy.newest
        self.context = new_context()
        self.thread = threading.Thread(target=self.master.run)
        self.thread.start()

    def _read_policy(self) -> Policy:
        self.policies_read += 1
        return self.policy

    def reread(self) -> None:
        """Read the files again as at SIGHUP; returns when that is done."""
        before = self.policies_read
        self.master.reread_terms()
        wait_until(lambda: self.policies_read > before, "the files to be read")

    @contextmanager
    def asked_by(self, name: str) -> Iterator[Client[Any]]:
        client: Client[Any] = Client(
            self.context,
            tcp(self.master.address, 0),
            codec.to_operator,
            monitored=True,
            keys=self.keyring.keys(name),
        )
        client.send(om.GetCluster())
        client.flush()
        try:
            yield client
        finally:
            client.close()

    def answer_to(self, name: str) -> object:
        with self.asked_by(name) as client:
            assert client.socket.poll(WAIT_MS), "the master is silent"
            return next(answers[0] for _, answers in client.drain())

    def refuses(self, name: str) -> bool:
        with self.asked_by(name) as client:
            assert client.link.socket.poll(WAIT_MS)
            try:
                list(client.link.changes())
            except KeyRefused:
                return True
            return False

    def close(self) -> None:
        self.master.stop()
        self.thread.join(10)
        self.context.term()
        self.master.close()


@pytest.fixture
def standby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandBy]:
    monkeypatch.setattr(daemon, "Election", Candidacy)
    monkeypatch.setattr(master_keys, "ZooKeeperKeys", Kept)
    standby = StandBy(Keyring(tmp_path))
    yield standby
    standby.close()


def exchange_ops_for_stranger(keyring: Keyring) -> None:
    tables = {name: table for name, table in TABLES.items() if name != "ops"}
    keyring.authorize({**tables, "stranger": TABLES["ops"]})


def test_an_added_key_is_admitted_at_once_and_a_removed_one_refused(standby: StandBy) -> None:
    assert standby.refuses("stranger")
    exchange_ops_for_stranger(standby.keyring)
    standby.reread()
    assert standby.refuses("ops")
    assert isinstance(standby.answer_to("stranger"), NotLeading)
    standby.election.win()
    assert isinstance(standby.answer_to("stranger"), om.Cluster)
    assert standby.refuses("ops")


def test_a_peer_that_came_before_its_key_was_revoked_is_not_obeyed_by_the_new_leader(
    standby: StandBy,
) -> None:
    with standby.asked_by("ops") as client:
        assert client.socket.poll(WAIT_MS), "the connection stands"
        assert [type(answers[0]) for _, answers in client.drain()] == [NotLeading]
        exchange_ops_for_stranger(standby.keyring)
        standby.reread()
        standby.election.win()
        client.send(om.GetCluster())
        client.flush()
        assert client.socket.poll(WAIT_MS)
        assert not any(isinstance(answers[0], om.Cluster) for _, answers in client.drain())


def test_new_terms_hold_from_the_first_turn_as_leader(standby: StandBy) -> None:
    standby.policy = Policy.of_weights({"prod": 3.0})
    standby.reread()
    standby.election.win()
    assert isinstance(standby.answer_to("ops"), om.Cluster)
    assert standby.master.core.cluster.settings.policy.weight("prod") == 3.0
    assert standby.policies_read == 1


def test_files_that_cannot_be_read_change_nothing(standby: StandBy, monkeypatch: pytest.MonkeyPatch) -> None:
    standby.keyring.authorized.write_text("nonsense")
    standby.reread()

    def wrong() -> Policy:
        standby.policies_read += 1
        raise BadInput("wrong")

    monkeypatch.setattr(standby.master, "_read_policy", wrong)
    standby.reread()
    standby.election.win()
    assert isinstance(standby.answer_to("ops"), om.Cluster)


def test_a_master_that_has_not_read_the_enrolled_keys_yet_refuses_nobody_and_does_not_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "Election", Candidacy)
    monkeypatch.setattr(master_keys, "ZooKeeperKeys", Kept)
    monkeypatch.setattr(Kept, "knows_at_once", False)
    standby = StandBy(Keyring(tmp_path))
    try:
        standby.election.win()
        with standby.asked_by("ops") as client:
            # A refused peer does not try again, so it must not be refused yet.
            assert client.socket.poll(500) == 0
            assert list(client.link.changes()) == []
            Kept.newest.is_found()
            assert client.socket.poll(WAIT_MS)
            assert isinstance(next(answers[0] for _, answers in client.drain()), om.Cluster)
    finally:
        standby.close()
