"""TLS of the file server: its own certificate, and clients that accept no other."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.files_site import FilesSite
from offerd.errors import BadInput, OfferdError
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.files_client import FilesClient
from offerd.files_connection import FilesConnection, WrongServer
from offerd.ids import ContainerID
from offerd_slave.certificate import FILE, server_context

C1 = ContainerID("c1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext, str]:
    directory = tmp_path_factory.mktemp("certificate")
    return directory, *server_context(directory)


@pytest.fixture
def site(tmp_path: Path, made: tuple[Path, ssl.SSLContext, str]) -> Iterator[FilesSite]:
    _, context, fingerprint = made
    running = FilesSite(tmp_path, tls=context, fingerprint=fingerprint)
    (running.sandbox / "f").write_text("file")
    yield running
    running.close()


def test_the_key_is_for_the_slave_alone_and_a_restart_keeps_the_certificate(
    made: tuple[Path, ssl.SSLContext, str],
) -> None:
    directory, _, fingerprint = made
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600
    assert server_context(directory)[1] == fingerprint
    assert len(fingerprint) == 64


def test_a_damaged_certificate_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("nonsense")
    with pytest.raises(BadInput, match="remove it"):
        server_context(tmp_path)


def test_files_come_over_tls_whole_and_in_parts(site: FilesSite) -> None:
    data = os.urandom(3 << 20)
    (site.sandbox / "large").write_bytes(data)
    with FilesClient(site.access()) as client:
        assert client.read(C1, "f") == b"file"
        assert client.read(C1, "large") == data
        assert client.read(C1, "large", 5, 10) == data[5:15]
    connection = FilesConnection(site.access(), timeout_s=10)
    body = os.urandom(2 << 20)
    assert connection.ask("PUT", "/data/@alice/set/a", body).status == 201
    connection.close()
    assert (site.path / "@alice" / "set" / "a").read_bytes() == body


def test_no_request_is_sent_to_a_server_with_another_certificate(
    tmp_path: Path, made: tuple[Path, ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    _, context, _ = made
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as shaken:
                    heard.append(shaken.recv(1000))
            except OSError:
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        access = FilesAccess(address, "ab" * 32, key=b"k" * 32)
        with FilesClient(access) as client, pytest.raises(OfferdError, match="another certificate"):
            client.read(C1, "f")
        thread.join()
    assert heard in ([], [b""])


def test_a_server_without_tls_or_with_an_older_version_is_refused(site: FilesSite, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    plain = FilesSite(other)
    try:
        access = FilesAccess(plain.server.address, site.fingerprint, "alice", 1, b"k" * 32)
        with FilesClient(access) as client, pytest.raises(WrongServer):
            client.read(C1, "f")
    finally:
        plain.close()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with site.connect() as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(connection)


def test_a_client_sends_nothing_without_tls_off_loopback_or_without_access() -> None:
    for access in (FilesAccess("192.0.2.1:80", "", "alice", 1, b"k" * 32), NO_ACCESS):
        with FilesClient(access) as client, pytest.raises(WrongServer):
            client.read(C1, "f")


def test_a_client_that_stops_in_the_handshake_is_dropped_and_others_are_served(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offerd_slave import file_front

    monkeypatch.setattr(file_front, "HEAD_S", 0.3)
    with site.connect() as silent, site.connect() as nonsense:
        nonsense.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with FilesClient(site.access()) as client:
            assert client.read(C1, "f") == b"file"
        assert silent.recv(1) == b""
        nonsense.settimeout(5)
        try:
            while nonsense.recv(1000):
                pass
        except ConnectionResetError:
            pass
