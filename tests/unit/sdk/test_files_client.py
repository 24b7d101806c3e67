"""The client of the slaves' file servers, against a small server with ranges."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from offerd import files_client
from offerd.errors import OfferdError, OutputLost
from offerd.files_access import FilesAccess
from offerd.files_client import FileNotServed, FilesClient
from offerd.ids import ContainerID

C = ContainerID("C-1")


class Files(ThreadingHTTPServer):
    """Serves `content` by path, with ranges if `knows_ranges`; hangs up after each answer if `hangs_up`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.knows_ranges = True
        self.hangs_up = False
        self.paths: list[str] = []
        self.tags: dict[str, str] = {}

    def rotate(self, path: str) -> None:
        """To `PATH.1`, with its inode."""
        self.content[f"{path}.1"] = self.content.pop(path)
        self.tags[f"{path}.1"] = self.tag_of(path)
        self.tags[path] = f"{len(self.paths)}"

    def tag_of(self, path: str) -> str:
        return self.tags.setdefault(path, f"{path}-0")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Files

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        content = self.server.content.get(self.path)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if content is None:
            self.answer(404, b"no such file\n")
        elif match is None or not self.server.knows_ranges:
            self.answer(200, content)
        elif int(match[1]) >= len(content):
            self.answer(416, b"")
        else:
            self.answer(206, content[int(match[1]) : int(match[2]) + 1 if match[2] else None])

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.tag_of(self.path))
        self.end_headers()
        self.wfile.write(body)
        if self.server.hangs_up:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Files]:
    with Files() as files:
        thread = threading.Thread(target=files.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield files
        files.shutdown()
        thread.join()


@pytest.fixture
def client(server: Files) -> Iterator[FilesClient]:
    with FilesClient(FilesAccess(server.address), timeout_s=5) as made:
        yield made


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_any_part_of_a_file_can_be_read(server: Files, client: FilesClient, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges
    server.content["/containers/C-1/stdout"] = b"0123456789"
    assert client.read(C, "stdout") == b"0123456789"
    assert client.read(C, "stdout", 4) == b"456789"
    assert client.read(C, "stdout", 4, 3) == b"456"
    assert client.read(C, "stdout", 0, 3) == b"012"
    assert client.read(C, "stdout", 8, 30) == b"89"
    assert client.read(C, "stdout", 10) == b""
    assert client.read(C, "stdout", 2, 0) == b""


def test_names_are_quoted(server: Files, client: FilesClient) -> None:
    server.content["/containers/C-1/a%20b/%3F%23"] = b"x"
    assert client.read(C, "a b/?#") == b"x"


def test_a_missing_file_and_a_silent_server_are_different_errors(server: Files, client: FilesClient) -> None:
    with pytest.raises(FileNotServed, match="no file gone of C-1"):
        client.read(C, "gone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        FilesClient(FilesAccess(f"127.0.0.1:{port}")) as nobody,
        pytest.raises(OfferdError, match="does not answer"),
    ):
        nobody.read(C, "stdout")


def test_a_connection_closed_by_the_server_is_opened_again(server: Files, client: FilesClient) -> None:
    server.content["/containers/C-1/stdout"] = b"x"
    server.hangs_up = True
    for _ in range(5):
        assert client.read(C, "stdout") == b"x"


def test_an_answer_cut_short_is_an_error(client: FilesClient, server: Files) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with FilesClient(FilesAccess(address)) as cut, pytest.raises(OfferdError, match="does not answer"):
            cut.read(C, "stdout")
        thread.join()


def test_a_file_is_followed_from_before_it_exists_to_its_end(server: Files, client: FilesClient) -> None:
    steps = iter([None, b"one ", b"one two ", b"one two three"])
    state = {"is_over": False}

    def grow(_: float) -> None:
        step = next(steps, None)
        if step is not None:
            server.content["/containers/C-1/stdout"] = step
        state["is_over"] = step == b"one two three"

    pieces = list(client.follow(C, "stdout", is_over=lambda: state["is_over"], sleep=grow))
    assert pieces == [b"one ", b"two ", b"three"]


def test_a_file_that_never_comes_ends_with_its_task(client: FilesClient) -> None:
    assert list(client.follow(C, "stdout", is_over=lambda: True)) == []


def test_a_log_is_followed_through_its_rotations(server: Files, client: FilesClient) -> None:
    log = "/containers/C-1/stdout"
    rounds: list[bytes] = [b"abc", b"def", b"ghi"]
    state = {"is_over": False}

    def go_on(_: float) -> None:
        if not rounds:
            state["is_over"] = True
            return
        if log in server.content:
            server.rotate(log)
        server.content[log] = rounds.pop(0)

    follow = client.follow(
        C, "stdout", is_over=lambda: state["is_over"], sleep=go_on, written_bytes=lambda: 9
    )
    assert b"".join(follow) == b"abcdefghi"


def test_a_reader_that_gets_less_than_was_written_gets_an_error(server: Files, client: FilesClient) -> None:
    server.content["/containers/C-1/stdout"] = b"the end"
    whole = client.follow(C, "stdout", is_over=lambda: True, written_bytes=lambda: 7)
    assert list(whole) == [b"the end"]
    pieces: list[bytes] = []
    with pytest.raises(OutputLost, match="93 of 100 bytes") as caught:
        pieces.extend(client.follow(C, "stdout", is_over=lambda: True, written_bytes=lambda: 100))
    assert caught.value.missing_bytes == 93


def test_a_directory_is_listed_as_what_the_server_says(server: Files, client: FilesClient) -> None:
    server.content["/containers/C-1/"] = b'[{"name": "stdout"}]'
    server.content["/containers/C-1/stdout"] = b"text"
    assert client.listing(C) == [{"name": "stdout"}]
    with pytest.raises(OfferdError, match="is a file"):
        client.listing(C, "stdout")
    with pytest.raises(FileNotServed):
        client.listing(C, "gone")


def test_a_server_that_sends_more_than_was_asked_for_is_not_read_to_its_end(
    server: Files, client: FilesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content["/containers/C-1/"] = bytes(200)
    monkeypatch.setattr(files_client, "MAX_LISTING_BYTES", 100)
    with pytest.raises(OfferdError, match="more than it was asked for"):
        client.listing(C)
    server.knows_ranges = False
    server.content["/containers/C-1/stdout"] = b"x" * (64 << 20)
    before = psutil.Process().memory_info().rss
    assert client.read(C, "stdout", 5, 5) == b"x" * 5
    assert psutil.Process().memory_info().rss - before < 16 << 20


def test_a_listing_that_makes_no_sense_is_an_error_of_one_line(server: Files, client: FilesClient) -> None:
    server.content["/containers/C-1/"] = b"[" * 100_000
    with pytest.raises(OfferdError, match="is a file"):
        client.listing(C)
