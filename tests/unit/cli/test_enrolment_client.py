"""How joining ends where it must fail: each time with one line that says why, within seconds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from helpers.keyring import Keyring
from offerd import operator_messages as om
from offerd.credentials.keys import Keys, public_of
from offerd.errors import BadInput, KeyRefused, OfferdError
from offerd_cli.enrolment_client import enrol, is_known
from offerd_master.daemon import Master
from offerd_master.options import MasterOptions
from offerd_master.principals import Principal


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def master(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that lets `ops` in; its address."""
    running = Master(
        MasterOptions(
            port=0,
            secret=keyring.keys("master").secret,
            read_principals=lambda: {keyring.public("ops"): Principal(name="ops", operator=True)},
            state_dir=tmp_path_factory.mktemp("state"),
        )
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    yield running.address
    running.stop()
    thread.join(10)
    running.close()


def new_keys(master_key: str) -> Keys:
    return Keys(zmq.curve_keypair()[1].decode(), master_key)


def test_a_known_key_is_distinguished_from_an_unknown_one(master: str, keyring: Keyring) -> None:
    assert is_known(master, keyring.keys("ops"))
    assert not is_known(master, keyring.keys("stranger"))


def test_a_token_that_the_master_does_not_know_is_refused_with_what_to_do(
    master: str, keyring: Keyring
) -> None:
    token = new_keys(keyring.public("master"))
    with pytest.raises(KeyRefused, match="ask for a new one"):
        enrol(master, token, "host7", public_of(token.secret))


def test_a_token_of_another_cluster_and_a_missing_master_are_different_errors(
    master: str, keyring: Keyring
) -> None:
    began = time.monotonic()
    with pytest.raises(OfferdError, match="does not have the key that the token names"):
        enrol(master, new_keys(keyring.public("bob")), "host7", keyring.public("host"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        free = listening.getsockname()[1]
    with pytest.raises(OfferdError, match="no offerd master answers"):
        enrol(
            f"127.0.0.1:{free}", new_keys(keyring.public("bob")), "h", keyring.public("host"), timeout_s=1.0
        )
    assert time.monotonic() - began < 5


def test_a_master_without_keys_and_a_false_master_are_errors(keyring: Keyring) -> None:
    context = zmq.Context()
    plain = context.socket(zmq.ROUTER)
    plain.bind("tcp://127.0.0.1:0")
    try:
        with pytest.raises(OfferdError, match="does not have the key that the token names"):
            is_known(plain.getsockopt_string(zmq.LAST_ENDPOINT).removeprefix("tcp://"), keyring.keys("ops"))
    finally:
        plain.close(0)
        context.term()
    with pytest.raises(BadInput, match="write HOST:PORT"):
        is_known("host:port", keyring.keys("ops"))


def test_a_joiner_uses_its_own_key_from_then_on(master: str, keyring: Keyring) -> None:
    from offerd.masters.clusters import Connection
    from offerd.masters.leader import master_address
    from offerd.operator import OperatorClient

    token, mine = new_keys(keyring.public("master")), new_keys(keyring.public("master"))
    with OperatorClient(Connection(master_address(master), keyring.keys("ops"))) as ops:
        ops.new_token(public_of(token.secret), om.Rights(operator=True))
    enrolled = enrol(master, token, "carol", public_of(mine.secret))
    assert (enrolled.name, enrolled.rights) == ("carol", om.Rights(operator=True))
    assert is_known(master, mine)
    with OperatorClient(Connection(master_address(master), mine)) as carol:
        assert {key.name for key in carol.known_keys()} == {"ops", "carol"}
