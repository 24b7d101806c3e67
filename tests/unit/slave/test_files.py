"""The file server: what it serves, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.files_site import FilesSite
from helpers.proc import wait_until
from offerd.addresses import HostPort
from offerd.errors import BadInput
from offerd_slave import file_front
from offerd_slave.files import FileServer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilesSite]:
    made = FilesSite(tmp_path)
    yield made
    made.close()


def test_file_is_served_as_plain_text_that_no_browser_runs(site: FilesSite) -> None:
    (site.sandbox / "page.html").write_text("<script>alert(1)</script>")
    status, body, headers = site.ask("GET", "/containers/c1/page.html")
    assert (status, body) == (200, b"<script>alert(1)</script>")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


def test_file_below_and_with_odd_names(site: FilesSite) -> None:
    (site.sandbox / "tasks" / "t 1").mkdir(parents=True)
    (site.sandbox / "tasks" / "t 1" / "ä?#").write_bytes(b"here")
    (site.sandbox / os.fsdecode(b"\xff")).write_bytes(b"there")
    assert site.get("tasks/t%201/%C3%A4%3F%23") == (200, b"here")
    assert site.get("%FF") == (200, b"there")


def test_large_file_is_whole(site: FilesSite) -> None:
    data = os.urandom(5 << 20)
    (site.sandbox / "large").write_bytes(data)
    assert site.get("large") == (200, data)


def test_a_head_request_is_answered_with_the_length_and_no_body(site: FilesSite) -> None:
    (site.sandbox / "f").write_bytes(b"12345")
    status, body, headers = site.ask("HEAD", "/containers/c1/f")
    assert (status, body, headers["Content-Length"]) == (200, b"", "5")


def test_one_connection_serves_many_requests(site: FilesSite) -> None:
    (site.sandbox / "f").write_bytes(b"12345")
    connection = http.client.HTTPConnection(site.server.address, timeout=10)
    for path in ("f", "none", "f"):
        token = site.token("GET", "/containers/c1")
        connection.request("GET", f"/containers/c1/{path}", headers={"Authorization": token})
        response = connection.getresponse()
        response.read()
        assert connection.sock is not None
    connection.close()


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"the file has 10 bytes\n", "bytes */10"),
        ("bytes=99999999999999-", 416, b"the file has 10 bytes\n", "bytes */10"),
        ("bytes=-0", 416, b"the file has 10 bytes\n", "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
def test_ranges(site: FilesSite, asked: str, status: int, body: bytes, content_range: str | None) -> None:
    (site.sandbox / "f").write_bytes(b"0123456789")
    got, data, headers = site.ask("GET", "/containers/c1/f", headers={"Range": asked})
    assert (got, data, headers["Content-Range"]) == (status, body, content_range)


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ("offset=4", 200, b"456789"),
        ("offset=4&length=2", 200, b"45"),
        ("length=3", 200, b"012"),
        ("offset=10", 200, b""),
        ("offset=99", 200, b""),
        ("offset=-1", 400, b"offset and length must be whole numbers\n"),
        ("offset=x", 400, b"offset and length must be whole numbers\n"),
        ("&".join(f"a{n}=1" for n in range(20)), 400, b"only offset and length are supported\n"),
    ],
)
def test_offset_and_length(site: FilesSite, query: str, status: int, body: bytes) -> None:
    (site.sandbox / "f").write_bytes(b"0123456789")
    assert site.get(f"f?{query}") == (status, body)


def test_directory_is_json(site: FilesSite) -> None:
    (site.sandbox / "b").write_bytes(b"123")
    (site.sandbox / "a").mkdir()
    (site.sandbox / "c").symlink_to("/etc/passwd")
    for path in ("/containers/c1", "/containers/c1/"):
        status, body, headers = site.ask("GET", path)
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        entries = json.loads(body)["entries"]
        assert [(each["name"], each["kind"]) for each in entries] == [
            ("a", "directory"),
            ("b", "file"),
            ("c", "other"),
        ]
        assert entries[1]["size_bytes"] == 3


@pytest.mark.parametrize(
    "path",
    [
        "/containers/c1/../container.ckpt",
        "/containers/c1/%2e%2e/container.ckpt",
        "/containers/c1/..%2fcontainer.ckpt",
        "/containers/c1/a/../../container.ckpt",
        "/containers/c1//etc/passwd",
        "/containers/c1/%2fetc%2fpasswd",
        "/containers/c1/./f",
        "/containers/c1/f%00",
        "/containers/c1/link",
        "/containers/c1/dirlink/secret",
        "/containers/c1/fifo",
        "/containers/c1/socket",
        "/containers/../secret",
        "/containers/%2e%2e/secret",
        "/containers/c1/none",
        "/containers/c1/f/below-a-file",
        "/containers/c2",
        "/containers/.",
        "/containers//f",
        "/secret",
        "/",
        "",
        "/containers/c1/" + "a" * 300,
        "/containers/c1/" + "a/" * 3000,
        "http://[/containers/c1/f",
    ],
)
def test_nothing_else_is_served(site: FilesSite, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.sandbox / "f").write_text("file")
    (site.sandbox / "a").mkdir()
    (site.sandbox / "link").symlink_to(site.sandbox.parents[2] / "secret")
    (site.sandbox / "dirlink").symlink_to(site.sandbox.parents[2])
    os.mkfifo(site.sandbox / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # An absolute path may be too long for a socket, and so may a relative one from here.
        monkeypatch.chdir(site.sandbox)
        listener.bind("socket")
        status, body = site.raw(site.head("GET", path or "*", "Connection: close"))
    assert status in (400, 401, 403, 404, 414)
    assert b"secret" not in body
    assert body.count(b"\n") == 1


@pytest.mark.root
def test_hard_link_to_another_users_file_is_not_served(site: FilesSite) -> None:
    os.chown(site.sandbox, 65534, 65534)
    os.link(site.sandbox.parents[2] / "secret", site.sandbox / "hard")
    assert site.get("hard")[0] == 403


@pytest.mark.root
def test_device_is_not_opened(site: FilesSite) -> None:
    os.mknod(site.sandbox / "null", 0o666 | 0o020000, os.makedev(1, 3))
    assert site.get("null") == (403, b"not a regular file\n")


@pytest.mark.parametrize(
    ("method", "expected"),
    [("POST", 501), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 501), ("NONSENSE", 501)],
)
def test_other_methods_are_refused_in_one_line(site: FilesSite, method: str, expected: int) -> None:
    status, body, _ = site.ask(method, "/containers/c1/f")
    assert status == expected
    assert body.count(b"\n") == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5051", "127.0.0.1.evil.example", "", "10.0.0.1"]
)
def test_loopback_server_answers_to_no_foreign_name(site: FilesSite, host: str) -> None:
    (site.sandbox / "f").write_text("file")
    assert site.get("f", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:5051", "127.0.0.1", "127.3.2.1:80", "[::1]:5051"])
def test_loopback_server_answers_to_its_own_names(site: FilesSite, host: str) -> None:
    (site.sandbox / "f").write_text("file")
    assert site.get("f", Host=host) == (200, b"file")


def test_requests_served_at_once_are_bounded_and_come_free_again(site: FilesSite) -> None:
    (site.sandbox / "large").write_bytes(b"x" * (32 << 20))
    other = site.container("c2", "bob")
    (other / "f").write_text("file")
    held = [site.connect() for _ in range(file_front.MAX_SERVED_OF_OWNER)]
    for connection in held:  # each is being served, and does not read
        connection.sendall(site.head("GET", "/containers/c1/large").encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert site.raw(site.head("GET", "/containers/c1/large")) == (503, b"busy\n")
    of_bob = site.token("GET", "/containers/c2/f", "bob")
    assert site.ask("GET", "/containers/c2/f", token=of_bob)[:2] == (200, b"file"), "others have room left"
    for connection in held:
        connection.close()
    wait_until(lambda: site.get("large")[0] == 200, "served again")


def test_a_connection_that_no_thread_can_serve_holds_no_place(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.sandbox / "f").write_text("file")

    def fails(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        for _ in range(file_front.MAX_SERVED + 1):
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                site.get("f")
    assert site.get("f") == (200, b"file")


def test_a_client_that_leaves_in_the_middle_does_not_disturb_others(
    site: FilesSite, capfd: pytest.CaptureFixture[str]
) -> None:
    (site.sandbox / "large").write_bytes(b"x" * (20 << 20))
    with site.connect() as connection:
        connection.sendall(site.head("GET", "/containers/c1/large").encode())
        connection.recv(100)
    assert site.get("large")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_port_in_use_is_one_clear_line(site: FilesSite, tmp_path: Path) -> None:
    port = int(site.server.address.split(":")[1])
    with pytest.raises(BadInput, match=f"cannot serve files at 127.0.0.1:{port}: .*--http-port"):
        FileServer(HostPort("127.0.0.1", port), tmp_path, site.data, site.secrets)


def test_closing_ends_the_server_thread_and_frees_the_port(tmp_path: Path) -> None:
    before = threading.active_count()
    made = FilesSite(tmp_path)
    address = made.server.address
    made.close()
    assert threading.active_count() == before
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
