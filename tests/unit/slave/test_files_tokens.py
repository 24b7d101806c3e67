"""Tokens for the file server, and what clients without one may cost: time, memory, connections, lines in the log."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.files_site import FilesSite
from helpers.proc import wait_until
from offerd.files_access import access_to
from offerd_slave import file_front, files
from offerd_slave.file_requests import MAX_HEAD_BYTES, HeadReader, Refused

PATHS = ("/", "/containers/c1/", "/containers/c1/f", "/data/", "/data/@alice/", "/statistics")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilesSite]:
    made = FilesSite(tmp_path)
    (made.sandbox / "f").write_text("file")
    made.server.statistics = lambda owner: json.dumps({"of": owner}).encode()
    yield made
    made.close()


# -- tokens ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_without_a_token_nothing_is_answered_but_one_line(site: FilesSite, method: str, path: str) -> None:
    status, body, headers = site.ask(method, path, b"x" if method == "PUT" else None, token="")
    assert (status, headers["WWW-Authenticate"]) == (401, "Offerd")
    assert body.count(b"\n") <= 1
    assert site.server.refused == 1


@pytest.mark.parametrize("path", PATHS)
def test_another_owners_token_reads_nothing(site: FilesSite, path: str) -> None:
    status, body, _ = site.ask("GET", path, token=site.token("GET", path, "bob"))
    if path == "/statistics":
        assert json.loads(body) == {"of": "bob"}
    else:
        assert status in (401, 404)
        assert b"file" not in body or b"no such file" in body or b"files are at" in body


def test_a_token_that_was_altered_is_refused(site: FilesSite) -> None:
    path = "/containers/c1/f"
    good = site.token("GET", path)
    assert site.ask("GET", path, token=good)[:2] == (200, b"file")
    scheme, generation, access, identity, mac = good.split(" ")
    flipped = ("A" if mac[0] != "A" else "B") + mac[1:]
    for words in (
        (scheme, generation, access, identity, flipped),
        (scheme, generation, access, identity, mac[:-1]),
        (scheme, generation, access, identity, ""),
        (scheme, generation, access, "owner:bob", mac),
        (scheme, generation, access, "operator:alice", mac),
        (scheme, generation, "w", identity, mac),
        (scheme, str(int(generation) + 1), access, identity, mac),
        ("Bearer", generation, access, identity, mac),
    ):
        assert site.ask("GET", path, token=" ".join(words))[0] == 401, words


def test_a_token_is_good_only_for_its_scope_and_access(site: FilesSite) -> None:
    site.container("c2", "alice")
    reading = site.token("GET", "/containers/c1/f")
    assert site.ask("GET", "/containers/c2/f", token=reading)[0] == 401
    assert site.ask("GET", "/statistics", token=reading)[0] == 401
    read_set = site.token("GET", "/data/@alice/set")
    assert site.ask("PUT", "/data/@alice/set/a", b"x", token=read_set)[0] == 401
    write_set = site.token("PUT", "/data/@alice/set")
    assert site.ask("PUT", "/data/@alice/other/a", b"x", token=write_set)[0] == 401
    assert site.ask("PUT", "/data/@alice/set/a", b"x", token=write_set)[0] == 201
    assert site.ask("GET", "/data/@alice/set/a", token=write_set)[0] == 401


def test_a_token_of_an_old_generation_is_refused(site: FilesSite) -> None:
    old = site.token("GET", "/containers/c1/f")
    later = site.secrets.rotate_at
    site.secrets.rotate(later)
    assert site.ask("GET", "/containers/c1/f", token=old)[0] == 200
    site.secrets.rotate(site.secrets.rotate_at + 1.0)  # a second more than needed, against rounding
    assert site.ask("GET", "/containers/c1/f", token=old)[0] == 401
    assert site.get("f") == (200, b"file")


def test_a_refused_owner_is_refused_at_once_also_over_a_standing_connection(site: FilesSite) -> None:
    token = site.token("GET", "/containers/c1/f")
    connection = http.client.HTTPConnection(site.server.address, timeout=10)
    for status in (200, 401):
        connection.request("GET", "/containers/c1/f", headers={"Authorization": token})
        response = connection.getresponse()
        response.read()
        assert response.status == status
        site.secrets.refuse({"alice": 1}, 1.0)
    connection.close()


def test_a_token_of_another_slave_is_worth_nothing_here(site: FilesSite) -> None:
    access = access_to(
        b"o" * 32, site.secrets.current.generation, site.server.address, "", "alice", operator=False
    )
    assert (
        site.ask("GET", "/containers/c1/f", token=access.authorization("GET", "/containers/c1/f"))[0] == 401
    )


def test_a_container_without_a_known_owner_is_only_for_operators(site: FilesSite) -> None:
    (site.sandbox.parent / "owner").unlink()
    assert site.get("f")[0] == 404
    token = site.token("GET", "/containers/c1/f", "ops", operator=True)
    assert site.ask("GET", "/containers/c1/f", token=token)[:2] == (200, b"file")


def test_statistics_are_an_owners_own_and_an_operators_all(site: FilesSite) -> None:
    for name, operator, of in (("alice", False, "alice"), ("ops", True, None)):
        token = site.token("GET", "/statistics", name, operator=operator)
        assert json.loads(site.ask("GET", "/statistics", token=token)[1]) == {"of": of}


def test_refused_requests_are_counted_and_a_few_lines_a_minute_say_so(
    site: FilesSite, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="offerd.slave"):
        for _ in range(50):
            site.ask("GET", "/x\x1b[31m".replace("\x1b", "%1b"), token="")
    assert site.server.refused == 50
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= file_front.REFUSALS_PER_MINUTE
    assert lines[0] == "files: 127.0.0.1 was refused: files need a token, which the master hands out"


# -- heads ----------------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_ninety_headers_of_65_kilobytes_from_64_clients_cost_little_memory(site: FilesSite) -> None:
    before = resident_bytes()
    held = [site.connect() for _ in range(64)]
    line = b"X: " + b"x" * 65_000 + b"\r\n"

    def send(connection: socket.socket) -> None:
        connection.settimeout(2)
        with suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            for _ in range(90):
                connection.sendall(line)

    threads = [threading.Thread(target=send, args=(connection,)) for connection in held]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, resident_bytes() - before)
        threads[0].join(0.02)
    for thread, connection in zip(threads, held, strict=True):
        thread.join()
        connection.close()
    assert most < 50 << 20
    assert site.get("f") == (200, b"file")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 80 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * (MAX_HEAD_BYTES + 1), 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501),
    ],
)
def test_invalid_or_too_large_heads_are_refused_in_one_line(
    site: FilesSite, head: bytes, status: int
) -> None:
    got, body = site.raw(head)
    assert (got, body.count(b"\n")) == (status, 1)
    with pytest.raises(Refused):
        HeadReader().take(head)


@given(st.lists(st.binary(max_size=400), max_size=5), st.binary(max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_request_or_refused(pieces: list[bytes], target: bytes) -> None:
    for given_pieces in (pieces, [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n", *pieces, b"\r\n\r\n"]):
        reader = HeadReader()
        with suppress(Refused):
            for piece in given_pieces:
                if piece and (request := reader.take(piece)) is not None:
                    assert isinstance(request.scope, str)
                    break


def test_an_unexpected_body_is_not_taken_for_a_second_request(site: FilesSite) -> None:
    smuggled = site.head("GET", "/containers/c1/f")
    head = site.head("GET", "/containers/c1/f", f"Content-Length: {len(smuggled)}")
    with site.connect() as connection:
        connection.sendall((head + smuggled).encode())
        answer = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    assert answer.count(b"HTTP/1.1 ") == 1


# -- slow and many --------------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_come_is_not_waited_for(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_front, "HEAD_S", 0.2)
    with site.connect() as silent, site.connect() as slow:
        slow.sendall(b"GET ")
        assert (silent.recv(1), slow.recv(1)) == (b"", b"")


def test_a_byte_now_and_then_does_not_extend_a_deadline(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_front, "HEAD_S", 0.5)
    began = time.monotonic()
    with site.connect() as slow:
        slow.settimeout(0.05)
        for letter in b"GET / HTTP/1.1\r\nHost: " + b"l" * 1000:
            try:
                slow.sendall(bytes([letter]))
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < 25, "all of it takes 50 s"


def test_many_slow_clients_keep_nobody_out(site: FilesSite) -> None:
    held = [site.connect() for _ in range(2 * file_front.MAX_WAITING)]
    for connection in held:
        with suppress(OSError):  # the oldest are gone already
            connection.sendall(b"GET /containers/c1/f HTTP/1.1\r\nX: ")
    for _ in range(5):
        assert site.get("f") == (200, b"file")
    for connection in held:
        connection.close()


def test_a_client_that_sends_or_reads_a_body_too_slowly_is_dropped(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_front, "PIECE_S", 0.3)
    monkeypatch.setattr(files, "PIECE_S", 0.3)
    (site.sandbox / "large").write_bytes(b"x" * (64 << 20))
    with site.connect() as writer, site.connect() as reader:
        writer.sendall(site.head("PUT", "/data/@alice/set/a", "Content-Length: 1000").encode() + b"few")
        reader.sendall(site.head("GET", "/containers/c1/large").encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        with suppress(ConnectionResetError):
            while writer.recv(1000):
                pass
        wait_until(lambda: not site.server._front._served, "both to be dropped")
    assert site.names() in (["set"], [])


def test_a_slow_disk_of_the_slave_does_not_drop_a_client(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_front, "PIECE_S", 1.0)
    monkeypatch.setattr(files, "PIECE_S", 1.0)
    monkeypatch.setattr(file_front, "LOOK_S", 0.05)

    def slow(fd: int) -> None:
        time.sleep(1.5)

    monkeypatch.setattr(os, "fsync", slow)
    assert site.ask("PUT", "/data/@alice/set/a", b"x" * 100)[0] == 201


def test_an_idle_connection_is_closed_and_one_in_use_is_not(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_front, "IDLE_S", 2.0)
    token = site.token("GET", "/containers/c1/f")
    connection = http.client.HTTPConnection(site.server.address, timeout=10)
    connection.connect()
    first = connection.sock
    for _ in range(4):
        connection.request("GET", "/containers/c1/f", headers={"Authorization": token})
        assert connection.getresponse().read() == b"file"
        time.sleep(0.6)  # longer than a thread waits, shorter than the idle time; together they are longer
        assert connection.sock is first
    assert first is not None
    assert first.recv(1) == b""
    connection.close()


def test_an_error_from_one_client_does_not_end_the_server(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumbles(self: HeadReader, data: bytes) -> None:
        raise LookupError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(HeadReader, "take", stumbles)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            site.get("f")
        patch.setattr(file_front.Front, "_accept", stumbles)
        with site.connect() as connection:
            connection.settimeout(0.3)
            with pytest.raises(OSError, match=r"timed out|reset"):
                connection.recv(1)
    assert site.get("f") == (200, b"file")
    assert any("LookupError" in record.getMessage() for record in caplog.records)
