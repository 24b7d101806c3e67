"""The data directory behind the file server: what is stored, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.files_site import FilesSite
from helpers.proc import wait_until
from offerd_slave import data_files
from offerd_slave.data_files import DataDirectory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilesSite]:
    made = FilesSite(tmp_path)
    yield made
    made.close()


def ask(
    site: FilesSite, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """Send a request as alice, who owns what is below `/data/@alice`."""
    return site.ask(method, path, body, headers)[:2]


def test_a_put_file_is_served_and_answered_with_its_checksum(site: FilesSite) -> None:
    body = os.urandom(3 << 20)
    status, answer = ask(site, "PUT", "/data/@alice/texts/block-0", body)
    assert (status, json.loads(answer)) == (201, {"size_bytes": len(body), "crc32": zlib.crc32(body)})
    assert ask(site, "GET", "/data/@alice/texts/block-0") == (200, body)
    assert ask(site, "GET", "/data/@alice/texts/block-0", Range="bytes=5-9") == (206, body[5:10])


def test_a_second_put_replaces_the_file_whole(site: FilesSite) -> None:
    ask(site, "PUT", "/data/@alice/texts/a", b"long before")
    ask(site, "PUT", "/data/@alice/texts/a", b"now")
    assert ask(site, "GET", "/data/@alice/texts/a") == (200, b"now")
    assert site.names() == ["texts", "texts/a"]


def test_sets_and_files_are_listed(site: FilesSite) -> None:
    assert ask(site, "GET", "/data/@alice/")[0] == 404
    ask(site, "PUT", "/data/@alice/one/a", b"12")
    ask(site, "PUT", "/data/@alice/two/b", b"123")
    assert [entry["name"] for entry in json.loads(ask(site, "GET", "/data/@alice")[1])["entries"]] == [
        "one",
        "two",
    ]
    (entry,) = json.loads(ask(site, "GET", "/data/@alice/two/")[1])["entries"]
    assert (entry["name"], entry["kind"], entry["size_bytes"]) == ("b", "file", 3)


def test_delete_removes_a_file_and_then_the_set(site: FilesSite) -> None:
    for name in ("a", "b", "c"):
        ask(site, "PUT", f"/data/@alice/set/{name}", b"x")
    assert ask(site, "DELETE", "/data/@alice/set/a")[0] == 200
    assert site.names() == ["set", "set/b", "set/c"]
    assert ask(site, "DELETE", "/data/@alice/set")[0] == 200
    assert site.names() == []
    assert ask(site, "DELETE", "/data/@alice/set")[0] == 404


def test_a_body_that_ends_early_leaves_nothing(site: FilesSite) -> None:
    with site.connect() as connection:
        head = site.head("PUT", "/data/@alice/set/a", "Content-Length: 100")
        connection.sendall(f"{head}short".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert site.names() == ["set"]


def test_unfinished_uploads_of_an_earlier_slave_are_removed_at_the_start(tmp_path: Path) -> None:
    a_set = tmp_path / "@alice" / "set"
    a_set.mkdir(parents=True)
    (a_set / ".incoming-7").write_bytes(b"half")
    (a_set / "whole").write_bytes(b"whole")
    DataDirectory(tmp_path).close()
    assert [path.name for path in a_set.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    "path",
    [
        "/data/@alice/set/../../secret",
        "/data/@alice/..%2f..%2fsecret/a",
        "/data/@alice/.hidden/a",
        "/data/@alice/set/.incoming-1",
        "/data/@alice/set/%2e%2e",
        "/data/@alice/set/a/b",
        "/data/@alice/set/a%00b",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_no_path_leads_out_or_deeper(site: FilesSite, method: str, path: str) -> None:
    (site.path.parent / "secret").write_text("secret")
    assert ask(site, method, path, b"x" if method == "PUT" else None)[0] in (401, 403, 404)
    assert (site.path.parent / "secret").read_text() == "secret"
    assert site.names() == []


def test_no_link_is_followed(site: FilesSite) -> None:
    outside = site.path.parent / "outside"
    outside.mkdir()
    (outside / "a").write_text("theirs")
    (site.path / "@alice").mkdir()
    (site.path / "@alice" / "set").symlink_to(outside)
    assert ask(site, "PUT", "/data/@alice/set/a", b"ours")[0] == 409
    assert ask(site, "GET", "/data/@alice/set/a")[0] in (403, 404)
    assert ask(site, "DELETE", "/data/@alice/set/a")[0] in (403, 404)
    assert (outside / "a").read_text() == "theirs"


@pytest.mark.parametrize(
    "path", ["/containers/c1/a", "/data", "/data/", "/data/@alice", "/data/@alice/set", "/"]
)
def test_only_files_of_sets_can_be_put(site: FilesSite, path: str) -> None:
    assert ask(site, "PUT", path, b"x")[0] in (403, 404, 405)
    assert site.names() == []


def test_sandboxes_and_the_data_directory_itself_cannot_be_removed(site: FilesSite) -> None:
    assert ask(site, "DELETE", "/containers/c1")[0] == 405
    assert ask(site, "DELETE", "/data/")[0] == 403
    assert ask(site, "DELETE", "/data/@alice")[0] == 403


def test_a_file_has_a_length_and_a_largest_one(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.raw(site.head("PUT", "/data/@alice/set/a"))[0] == 411
    assert site.raw(site.head("PUT", "/data/@alice/set/a", "Transfer-Encoding: chunked"))[0] == 411
    monkeypatch.setattr(data_files, "MAX_FILE_BYTES", 10)
    assert ask(site, "PUT", "/data/@alice/set/a", b"x" * 11)[0] == 413
    assert ask(site, "PUT", "/data/@alice/set/a", b"x" * 10)[0] == 201


def test_a_disk_that_fills_up_refuses_uploads(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "DISK_HEADROOM", 1.0)
    status, answer = ask(site, "PUT", "/data/@alice/set/a", b"x")
    assert status == 507
    assert b"remove data" in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_foreign_name_for_loopback_may_write_as_little_as_it_may_read(site: FilesSite, method: str) -> None:
    ask(site, "PUT", "/data/@alice/set/a", b"x")
    body = b"y" if method == "PUT" else None
    assert ask(site, method, "/data/@alice/set/a", body, Host="evil.example")[0] == 403
    assert (site.path / "@alice" / "set" / "a").read_bytes() == b"x"


# -- owners ------------------------------------------------------------------------------------------------------------


def as_bob(site: FilesSite, method: str, path: str, body: bytes | None = None) -> int:
    return site.ask(method, path, body, token=site.token(method, path, "bob"))[0]


def as_operator(site: FilesSite, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    return site.ask(method, path, body, token=site.token(method, path, "ops", operator=True))[:2]


def test_another_owner_neither_reads_lists_replaces_nor_removes_a_set(site: FilesSite) -> None:
    ask(site, "PUT", "/data/@alice/set/a", b"alice")
    for path in ("/data/@alice/set/a", "/data/@alice/set", "/data/@alice/", "/data/"):
        assert as_bob(site, "GET", path) == 404
    assert as_bob(site, "PUT", "/data/@alice/set/a", b"bob") == 403
    assert as_bob(site, "PUT", "/data/@alice/set/b", b"bob") == 403
    for path in ("/data/@alice/set/a", "/data/@alice/set"):
        assert as_bob(site, "DELETE", path) == 404
    assert ask(site, "GET", "/data/@alice/set/a") == (200, b"alice")


def test_sets_of_one_name_of_two_owners_do_not_collide(site: FilesSite) -> None:
    ask(site, "PUT", "/data/@alice/set/a", b"alice")
    assert as_bob(site, "PUT", "/data/@bob/set/a", b"bob") == 201
    assert ask(site, "GET", "/data/@alice/set/a") == (200, b"alice")


def test_an_operator_reads_and_removes_everything_and_writes_only_its_own_sets(site: FilesSite) -> None:
    ask(site, "PUT", "/data/@alice/set/a", b"alice")
    assert as_operator(site, "GET", "/data/@alice/set/a") == (200, b"alice")
    assert [entry["name"] for entry in json.loads(as_operator(site, "GET", "/data/")[1])["entries"]] == [
        "@alice"
    ]
    assert as_operator(site, "PUT", "/data/@alice/set/b", b"x")[0] == 403
    assert as_operator(site, "PUT", "/data/@ops/set/b", b"x")[0] == 201
    assert as_operator(site, "DELETE", "/data/@alice/set")[0] == 200
    assert site.names() == []


def test_files_of_a_running_job_are_never_replaced_but_may_be_sent_twice(
    site: FilesSite,
) -> None:
    assert ask(site, "PUT", "/data/@alice/job-1/functions.pickle", b"good")[0] == 201
    assert ask(site, "PUT", "/data/@alice/job-1/functions.pickle", b"evil")[0] == 409
    assert ask(site, "PUT", "/data/@alice/job-1/functions.pickle", b"good")[0] == 201
    assert ask(site, "GET", "/data/@alice/job-1/functions.pickle") == (200, b"good")
    assert site.names() == ["job-1", "job-1/functions.pickle"]


@pytest.mark.root
def test_tasks_of_the_owner_read_in_place_and_no_other_account_does(site: FilesSite) -> None:
    for directory in (*site.path.parents, site.path):
        directory.chmod(directory.stat().st_mode | 0o011)
    ask(site, "PUT", "/data/@alice/set/a", b"alice")
    file = site.path / "@alice" / "set" / "a"

    def reads(uid: int, *words: str) -> bool:
        done = subprocess.run(words, user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
        return done.returncode == 0

    assert not reads(65534, "cat", str(file))
    site.data.let_in("alice", 65534)
    site.data.let_in("alice", 65533)
    assert reads(65534, "cat", str(file))
    assert reads(65533, "cat", str(file))
    assert not reads(65532, "cat", str(file))
    assert not reads(65534, "ls", str(site.path / "@alice")), "names cannot be listed"
    assert not reads(65534, "touch", str(file.with_name("b")))
    DataDirectory(site.path).close()
    assert reads(65534, "cat", str(file)), "still so after a restart"


# -- bounds -----------------------------------------------------------------------------------------------------------------


def test_sets_and_files_of_an_owner_are_bounded(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MAX_SETS", 3)
    for number in range(3):
        assert ask(site, "PUT", f"/data/@alice/set{number}/a", b"x")[0] == 201
    assert ask(site, "PUT", "/data/@alice/set9/a", b"x")[0] == 507
    assert as_bob(site, "PUT", "/data/@bob/set9/a", b"x") == 201
    assert ask(site, "DELETE", "/data/@alice/set0")[0] == 200
    assert ask(site, "PUT", "/data/@alice/set9/a", b"x")[0] == 201
    monkeypatch.setattr(data_files, "MAX_FILES", 2)
    assert [ask(site, "PUT", f"/data/@alice/set9/{name}", b"x")[0] for name in "bcb"] == [201, 507, 507]
    monkeypatch.setattr(data_files, "MAX_FILES_OF_OWNER", 4)
    assert ask(site, "PUT", "/data/@alice/set1/z", b"x")[0] == 507


def test_simultaneous_uploads_share_the_free_room(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(site.path)
    room = int(usage.free - usage.total * data_files.DISK_HEADROOM)
    if room < 2 << 30:
        pytest.skip("the disk is too full to be filled further")
    # Nothing is written yet: only the announced upload takes the room.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(data_files, "MAX_FILE_BYTES", room)
    with site.connect() as first:
        length = room - (1 << 20)
        first.sendall(site.head("PUT", "/data/@alice/set/a", f"Content-Length: {length}").encode() + b"begun")
        wait_until(lambda: site.data._incoming_bytes > 0, "the first to have begun")
        assert ask(site, "PUT", "/data/@alice/set/b", b"x" * (2 << 20))[0] == 507
        assert ask(site, "PUT", "/data/@alice/set/c", b"x" * 100)[0] == 201
    wait_until(lambda: site.data._incoming_bytes == 0, "the first to be dropped")
    assert ask(site, "PUT", "/data/@alice/set/b", b"x" * (2 << 20))[0] == 201


def test_free_room_is_checked_during_an_upload(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "_LOOK_BYTES", 1 << 20)
    full = threading.Event()
    usage = shutil.disk_usage(site.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0) if full.is_set() else usage)
    with site.connect() as connection:
        connection.sendall(
            site.head("PUT", "/data/@alice/set/a", f"Content-Length: {8 << 20}").encode() + b"x" * (1 << 19)
        )
        wait_until(lambda: site.data._incoming_bytes > 0, "it to have begun")
        full.set()
        with suppress(OSError):
            connection.sendall(b"x" * (7 << 20))
        assert connection.recv(12) == b"HTTP/1.1 507"
    wait_until(lambda: site.names() == ["set"], "what was written to be removed")
