"""The data directory behind the file server: what is stored, what is not, and what nobody can be talked into."""

from __future__ import annotations

import http.client
import json
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from offerd_slave import data_files
from offerd_slave.data_files import DataDirectory
from offerd_slave.files import FileServer


class Site:
    """A file server with a data directory."""

    def __init__(self, work_dir: Path) -> None:
        (work_dir / "containers").mkdir()
        self.path = work_dir / "data"
        self.data = DataDirectory(self.path)
        self.server = FileServer("127.0.0.1", 0, work_dir, self.data)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.server.address, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send bytes, close our side, and read all that comes."""
        host, _, port = self.server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.server.close()
    made.data.close()


def test_what_was_put_is_served_and_answered_with_its_checksum(site: Site) -> None:
    body = os.urandom(3 << 20)
    status, answer = site.ask("PUT", "/data/texts/block-0", body)
    assert (status, json.loads(answer)) == (201, {"size_bytes": len(body), "crc32": zlib.crc32(body)})
    assert site.ask("GET", "/data/texts/block-0") == (200, body)
    assert site.ask("GET", "/data/texts/block-0", Range="bytes=5-9") == (206, body[5:10])


def test_everybody_may_read_what_was_put(site: Site) -> None:
    site.ask("PUT", "/data/texts/block-0", b"x")
    assert (site.path / "texts" / "block-0").stat().st_mode & 0o777 == 0o644
    assert (site.path / "texts").stat().st_mode & 0o777 == 0o755


def test_a_second_put_replaces_the_file_whole(site: Site) -> None:
    site.ask("PUT", "/data/texts/a", b"long before")
    site.ask("PUT", "/data/texts/a", b"now")
    assert site.ask("GET", "/data/texts/a") == (200, b"now")
    assert site.names() == ["texts", "texts/a"]


def test_sets_and_files_are_listed(site: Site) -> None:
    assert json.loads(site.ask("GET", "/data/")[1])["entries"] == []
    site.ask("PUT", "/data/one/a", b"12")
    site.ask("PUT", "/data/two/b", b"123")
    assert [entry["name"] for entry in json.loads(site.ask("GET", "/data")[1])["entries"]] == ["one", "two"]
    (entry,) = json.loads(site.ask("GET", "/data/two/")[1])["entries"]
    assert (entry["name"], entry["kind"], entry["size_bytes"]) == ("b", "file", 3)


def test_delete_removes_a_file_and_then_the_set(site: Site) -> None:
    for name in ("a", "b", "c"):
        site.ask("PUT", f"/data/set/{name}", b"x")
    assert site.ask("DELETE", "/data/set/a")[0] == 200
    assert site.names() == ["set", "set/b", "set/c"]
    assert site.ask("DELETE", "/data/set")[0] == 200
    assert site.names() == []
    assert site.ask("DELETE", "/data/set")[0] == 404


def test_a_body_that_ends_early_leaves_nothing(site: Site) -> None:
    request = f"PUT /data/set/a HTTP/1.1\r\nHost: {site.server.address}\r\nContent-Length: 100\r\n\r\nshort"
    assert b" 400 " in site.raw(request.encode()).splitlines()[0]
    assert site.names() == ["set"]


def test_what_an_upload_of_before_left_is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".incoming-7").write_bytes(b"half")
    (tmp_path / "set" / "whole").write_bytes(b"whole")
    DataDirectory(tmp_path).close()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["whole"]


@pytest.mark.parametrize(
    "path",
    [
        "/data/set/../../secret",
        "/data/..%2f..%2fsecret/a",
        "/data/.hidden/a",
        "/data/set/.incoming-1",
        "/data/set/%2e%2e",
        "/data/set/a/b",
        "/data/set/a%00b",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_no_path_leads_out_or_deeper(site: Site, method: str, path: str) -> None:
    (site.path.parent / "secret").write_text("secret")
    assert site.ask(method, path, b"x" if method == "PUT" else None)[0] in (403, 404)
    assert (site.path.parent / "secret").read_text() == "secret"
    assert site.names() == []


def test_no_link_is_followed(site: Site) -> None:
    outside = site.path.parent / "outside"
    outside.mkdir()
    (outside / "a").write_text("theirs")
    (site.path / "set").symlink_to(outside)
    assert site.ask("PUT", "/data/set/a", b"ours")[0] == 409
    assert site.ask("GET", "/data/set/a")[0] in (403, 404)
    assert site.ask("DELETE", "/data/set/a")[0] in (403, 404)
    assert (outside / "a").read_text() == "theirs"


@pytest.mark.parametrize("path", ["/containers/c1/a", "/data", "/data/", "/data/set", "/"])
def test_only_files_of_sets_can_be_put(site: Site, path: str) -> None:
    assert site.ask("PUT", path, b"x")[0] in (403, 404, 405)
    assert site.names() == []


def test_sandboxes_and_the_data_directory_itself_cannot_be_removed(site: Site) -> None:
    assert site.ask("DELETE", "/containers/c1")[0] == 405
    assert site.ask("DELETE", "/data/")[0] == 403


def test_a_file_has_a_length_and_a_largest_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    request = f"PUT /data/set/a HTTP/1.1\r\nHost: {site.server.address}\r\n\r\n"
    assert b" 411 " in site.raw(request.encode()).splitlines()[0]
    monkeypatch.setattr(data_files, "MAX_FILE_BYTES", 10)
    assert site.ask("PUT", "/data/set/a", b"x" * 11)[0] == 413
    assert site.ask("PUT", "/data/set/a", b"x" * 10)[0] == 201


def test_a_disk_that_fills_up_takes_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "DISK_HEADROOM", 1.0)
    status, answer = site.ask("PUT", "/data/set/a", b"x")
    assert status == 507
    assert b"remove data" in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_foreign_name_for_loopback_may_write_as_little_as_it_may_read(site: Site, method: str) -> None:
    site.ask("PUT", "/data/set/a", b"x")
    body = b"y" if method == "PUT" else None
    assert site.ask(method, "/data/set/a", body, Host="evil.example")[0] == 403
    assert (site.path / "set" / "a").read_bytes() == b"x"


def test_without_a_data_directory_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    server = FileServer("127.0.0.1", 0, tmp_path)
    connection = http.client.HTTPConnection(server.address, timeout=10)
    connection.request("PUT", "/data/set/a", b"x")
    assert connection.getresponse().status == 405
    connection.close()
    server.close()
