"""Credentials for ZooKeeper, and false servers: what they send costs their connection, but no thread."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import wait_until
from offerd.credentials.keys import new_key, read_secret
from offerd.errors import BadInput
from offerd.masters import zookeeper_access
from offerd.masters.detector import LeaderDetector
from offerd.masters.leader import ZooKeeperAddress
from offerd.masters.zookeeper_access import MAX_ANSWER_BYTES, Access, derived_access, read_access
from offerd_master.election import Election, StandingBy


def test_credentials_are_made_from_the_secret_key_and_do_not_hold_it(tmp_path: Path) -> None:
    secrets = [read_secret(new_key(name, tmp_path)[0]) for name in ("one", "two")]
    one, two = map(derived_access, secrets)
    assert one == derived_access(secrets[0])
    assert one.password != two.password
    assert len(one.password) == 64
    assert secrets[0] not in one.password


def test_credentials_of_a_file_are_one_line_that_nobody_else_may_read(tmp_path: Path) -> None:
    file = tmp_path / "zk"
    file.write_text("us:pass:word\n")
    file.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        read_access(file)
    file.chmod(0o600)
    assert read_access(file) == Access("us", "pass:word")
    for text in ("", "us", ":p", "us:", "us:a b", "us:ä", "a\nb:c", "us:" + "x" * 300):
        file.write_text(text)
        with pytest.raises(BadInput, match="NAME:PASSWORD"):
            read_access(file)
    with pytest.raises(BadInput, match="cannot read"):
        read_access(tmp_path / "none")


def packet(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def reply(xid: int, error: int = 0, body: bytes = b"") -> bytes:
    return packet(struct.pack(">iqi", xid, 1, error) + body)


NONSENSE = {
    "garbage": b"\xff" * 64,
    "an answer longer than we have memory": struct.pack(">i", 2**31 - 1) + b"x" * 1000,
    "an answer longer than any node": struct.pack(">i", MAX_ANSWER_BYTES + 1) + b"x" * 1000,
    "an answer too short for its header": packet(b"x"),
    "the answer to another question": reply(99),
    "an answer that nobody asked for, before": reply(-4),
    "an event cut short": reply(-1, body=struct.pack(">ii", 1, 3)),
    "an event about a path of bytes that are no text": reply(-1, body=struct.pack(">iii", 1, 3, 1) + b"\xff"),
    "an error that there is not": reply(1, error=-9999),
    "a listing of 2^31 names": reply(1, body=struct.pack(">i", 2**31 - 1)),
    "a name that is no text": reply(1, body=struct.pack(">ii", 1, 1) + b"\xff"),
    "credentials refused": reply(-4, error=-115),
}


class Impostor:
    """Accepts anybody as ZooKeeper does, sends `nonsense` after the first question, and waits for the next client."""

    def __init__(self, nonsense: bytes) -> None:
        self.came = 0
        self._nonsense = nonsense
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = ZooKeeperAddress(f"127.0.0.1:{self._listener.getsockname()[1]}", "/offerd")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.came += 1
            with link:
                link.settimeout(5)
                try:
                    self._fool(link)
                except OSError:
                    continue

    def _fool(self, link: socket.socket) -> None:
        link.recv(4096)
        link.sendall(packet(struct.pack(">iiqi", 0, 4000, 7, 16) + b"p" * 16 + b"\0"))
        link.recv(4096)
        link.sendall(self._nonsense)
        while link.recv(4096):
            pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture(params=list(NONSENSE.values()), ids=list(NONSENSE))
def impostor(request: pytest.FixtureRequest) -> Iterator[Impostor]:
    impostor = Impostor(request.param)
    yield impostor
    impostor.close()


def test_a_false_server_ends_no_thread_of_a_detector(impostor: Impostor) -> None:
    detector = LeaderDetector(impostor.address)
    try:
        wait_until(lambda: impostor.came >= 2, "the detector to come again and again")
        assert detector._thread.is_alive()
        assert detector.leader == ""
    finally:
        detector.close()


def test_a_false_server_ends_no_thread_of_an_election(impostor: Impostor) -> None:
    election = Election(impostor.address, b"me", 4.0, lambda: None, Access("us", "secret"))
    try:
        wait_until(lambda: impostor.came >= 2, "the candidate to come again and again")
        assert election._thread.is_alive()
        assert election.place == StandingBy("")
    finally:
        election.close()


def test_nonsense_is_said_once_for_each_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(zookeeper_access, "_noted", set())
    with caplog.at_level(logging.WARNING, "offerd.zookeeper"):
        for error in (ValueError("x"), ValueError("y"), RecursionError("z")):
            zookeeper_access.note_nonsense(error)
    assert [record.getMessage().count("ValueError") for record in caplog.records] == [1, 0]
