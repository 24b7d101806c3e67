"""Keys that join a running master: over real connections, through its restarts, and cut off when they are revoked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers.cli import wait_until
from helpers.keyring import TABLES, Keyring
from offerd import messages as m
from offerd import operator_messages as om
from offerd.addresses import tcp
from offerd.credentials.keys import Keys, public_of
from offerd.errors import KeyRefused
from offerd.messages import Reason
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_master.daemon import Master
from offerd_master.gate import read_principals
from offerd_master.options import MasterOptions
from offerd_master.settings import MasterSettings

WAIT_MS = 10_000
SLAVE = om.Rights(slave=True)


class Speaker:
    """A connection with this secret key, and the messages that come over it."""

    def __init__(self, address: str, keys: Keys, decoder: Any) -> None:
        self._context = new_context()
        self.client: Client[Any] = Client(self._context, tcp(address, 0), decoder, monitored=True, keys=keys)

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._context.term()

    def say(self, message: m.Message) -> m.Message:
        """The next message that is not a ping."""
        self.client.send(message)
        self.client.flush()
        return self.hear()

    def hear(self) -> m.Message:
        while True:
            assert self.client.socket.poll(WAIT_MS), "the master is silent"
            for _, messages in self.client.drain():
                for message in messages:
                    if not isinstance(message, m.Ping):
                        heard: m.Message = message
                        return heard

    def is_refused(self) -> bool:
        """Whether the master does not admit this key (any more)."""
        try:
            list(self.client.link.changes())
        except KeyRefused:
            return True
        return False


class Running:
    """A master in a thread; `restart` starts another one at the same address."""

    def __init__(self, keyring: Keyring, state: Path) -> None:
        self.keyring = keyring
        self._state = state
        self._port = 0
        self._start()

    def _start(self) -> None:
        self.master = Master(
            MasterOptions(
                port=self._port,
                settings=MasterSettings(ping_interval_s=0.2),
                secret=self.keyring.keys("master").secret,
                read_principals=lambda: read_principals(self.keyring.authorized),
                state_dir=self._state,
            )
        )
        self._port = int(self.master.address.rpartition(":")[2])
        self._thread = threading.Thread(target=self.master.run)
        self._thread.start()

    def stop(self) -> None:
        self.master.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.master.close()

    def restart(self) -> None:
        self.stop()
        self._start()

    def as_one(self, who: str | Keys, decoder: Any = codec.to_operator) -> Speaker:
        keys = self.keyring.keys(who) if isinstance(who, str) else who
        return Speaker(self.master.address, keys, decoder)

    def new_keys(self) -> Keys:
        return Keys(zmq.curve_keypair()[1].decode(), self.keyring.public("master"))

    def token(self, **more: Any) -> Keys:
        token = self.new_keys()
        with self.as_one("ops") as ops:
            answer = ops.say(om.NewToken(public_of(token.secret), SLAVE, **more))
        assert isinstance(answer, om.Token)
        return token

    def join(self, token: Keys, name: str, keys: Keys) -> m.Message:
        with self.as_one(token) as joiner:
            return joiner.say(om.Enrol(name, public_of(keys.secret)))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    master = Running(Keyring(tmp_path), tmp_path / "state")
    yield master
    master.stop()


def registered(running: Running, keys: Keys) -> bool:
    with running.as_one(keys, codec.to_slave) as slave:
        answer = slave.say(m.RegisterSlave(m.SlaveInfo("h", Resources.parse("cpus=1,mem=64M"))))
    return isinstance(answer, m.SlaveRegistered)


def is_let_in(running: Running, keys: Keys) -> bool:
    with running.as_one(keys) as speaker:
        assert speaker.client.link.socket.poll(WAIT_MS), "no handshake"
        return not speaker.is_refused()


def refused(running: Running) -> tuple[int, dict[str, int]]:
    with running.as_one("ops") as ops:
        cluster, tokens = ops.say(om.GetCluster()), ops.say(om.GetTokens())
    assert isinstance(cluster, om.Cluster)
    assert isinstance(tokens, om.Tokens)
    return cluster.refused, tokens.refused


def test_a_token_an_enrolled_key_and_a_revocation_all_outlive_the_master(running: Running) -> None:
    token, mine, other = running.token(uses=2), running.new_keys(), running.new_keys()
    running.restart()
    assert isinstance(running.join(token, "host7", mine), om.Enrolled)
    running.restart()
    assert registered(running, mine)
    assert isinstance(running.join(token, "host8", other), om.Enrolled)
    with running.as_one("ops") as ops:
        assert ops.say(om.RevokeKey("host7")) == om.Done(True)
    running.restart()
    assert not is_let_in(running, mine)
    assert registered(running, other)
    assert not is_let_in(running, token)


def test_a_used_a_late_and_an_altered_token_get_no_connection_and_are_counted(running: Running) -> None:
    used, late = running.token(), running.token(ttl_s=0.01)
    running.join(used, "host7", running.new_keys())
    with running.as_one("ops") as ops:
        wait_until(
            lambda: ops.say(om.GetTokens()) == om.Tokens([]), "the one to be used up, the other to expire"
        )
    before, _ = refused(running)
    assert not is_let_in(running, used)
    assert not is_let_in(running, late)
    assert not is_let_in(running, running.new_keys())
    assert refused(running) == (before + 3, {"used": 1, "late": 1, "unknown_key": 1})


def test_a_revoked_keys_connection_gets_the_reason_and_is_then_ended_and_not_admitted_again(
    running: Running,
) -> None:
    keys = running.new_keys()
    running.join(running.token(), "host7", keys)
    with running.as_one(keys, codec.to_slave) as slave, running.as_one("ops") as ops:
        slave.say(m.RegisterSlave(m.SlaveInfo("h", Resources.parse("cpus=1,mem=64M"))))
        list(slave.client.link.changes())
        assert ops.say(om.RevokeKey("host7")) == om.Done(True)
        message = slave.hear()
        assert isinstance(message, m.SlaveRefused)
        assert message.reason == Reason.KEY_REVOKED
        # It does not close its connection, so the master ends it and admits no other.
        wait_until(slave.is_refused, "the connection to be ended", timeout_s=5.0)
        # Connections of others stay.
        assert isinstance(ops.say(om.GetCluster()), om.Cluster)


def test_a_key_that_sighup_takes_away_has_its_connections_ended_too(running: Running) -> None:
    with running.as_one("rack", codec.to_slave) as slave:
        slave.say(m.RegisterSlave(m.SlaveInfo("h", Resources.parse("cpus=1,mem=64M"))))
        running.keyring.authorize({name: table for name, table in TABLES.items() if name != "rack"})
        running.master.reread_terms()
        wait_until(slave.is_refused, "the connection to be ended", timeout_s=5.0)


def test_what_cannot_be_written_down_is_refused_with_the_reason(running: Running, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    with running.as_one("ops") as ops:
        answer = ops.say(om.NewToken(public_of(running.new_keys().secret), SLAVE))
    assert isinstance(answer, om.NotAuthorized)
    assert "cannot write the change down" in answer.message
