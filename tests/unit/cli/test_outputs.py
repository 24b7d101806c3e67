"""Output on its way from a slave's file server to the terminal, with a server that can be made to misbehave."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from offerd.ids import ContainerID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd_cli.batch import Place
from offerd_cli.outputs import Follower
from offerd_cli.sandbox_files import Chunk, SandboxFiles, Unreachable
from offerd_cli.screen import Screen

STATUS = TaskStatus(TaskID("t"), TaskState.RUNNING, container_id=ContainerID("c"))


class Slave(http.server.ThreadingHTTPServer):
    """Serves `files` (by the path after the container), a few bytes at a time; `broken` answers 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.broken = False
        self.at_once = 1 << 20
        self.place = Place("S-1", "host", f"127.0.0.1:{self.server_address[1]}")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Slave

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        offset = int(parse_qs(url.query)["offset"][0])
        content = self.server.files.get(url.path.removeprefix("/containers/c/"))
        if self.server.broken:
            self.answer(500, b"disk on fire")
        elif content is None:
            self.answer(404, b"no such file")
        elif offset >= len(content) > 0:
            self.answer(416, b"past the end", f"bytes */{len(content)}")
        else:
            self.answer(206, content[offset : offset + self.server.at_once])

    def answer(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def slave() -> Iterator[Slave]:
    with Slave() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def files() -> Iterator[SandboxFiles]:
    client = SandboxFiles()
    yield client
    client.close()


def read(files: SandboxFiles, slave: Slave, offset: int) -> Chunk | None:
    return files.read(slave.place.files_address, "c", "stdout", offset)


def test_a_file_is_read_from_where_we_are(slave: Slave, files: SandboxFiles) -> None:
    slave.files["stdout"] = b"abcdef"
    assert read(files, slave, 2) == Chunk(b"cdef", 6)


@pytest.mark.parametrize("content", [None, b"", b"abc"])
def test_nothing_new_or_no_file_yet_is_nothing(
    content: bytes | None, slave: Slave, files: SandboxFiles
) -> None:
    if content is not None:
        slave.files["stdout"] = content
    assert read(files, slave, len(content or b"")) is None


def test_of_a_rotated_file_the_rest_of_the_old_one_comes_before_the_new_one(
    slave: Slave, files: SandboxFiles
) -> None:
    slave.files |= {"stdout.1": b"abcdef", "stdout": b"gh"}
    assert read(files, slave, 4) == Chunk(b"efgh", 2)


def test_who_begins_late_begins_with_what_was_rotated_away(slave: Slave, files: SandboxFiles) -> None:
    slave.files |= {"stdout.1": b"abc", "stdout": b"de"}
    assert read(files, slave, 0) == Chunk(b"abcde", 2)


def test_a_kept_connection_that_was_closed_is_made_anew(slave: Slave, files: SandboxFiles) -> None:
    slave.files["stdout"] = b"abc"
    assert read(files, slave, 1) == Chunk(b"bc", 3)
    connection = files._connections[slave.place.files_address]
    assert connection.sock is not None
    connection.sock.shutdown(2)
    assert read(files, slave, 2) == Chunk(b"c", 3)


def test_a_server_in_trouble_is_one_line(slave: Slave, files: SandboxFiles) -> None:
    slave.broken = True
    with pytest.raises(Unreachable, match="500 disk on fire"):
        read(files, slave, 0)


def test_no_server_at_all_is_one_line(files: SandboxFiles) -> None:
    with pytest.raises(Unreachable, match=r"cannot be read: .*refused"):
        files.read("127.0.0.1:1", "c", "stdout", 0)


def follow_to_the_end(slave: Slave, *, instances: int = 1, streams: bool = True) -> None:
    follower = Follower(Screen("test", progress=False), instances=instances, streams=streams)
    follower.follow(0, slave.place, STATUS)
    follower.finish(0)
    follower.finish_all()
    follower.close()


@pytest.mark.parametrize("streams", [True, False])
def test_output_comes_whole_and_on_its_own_stream(
    streams: bool, slave: Slave, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    slave.at_once = 1000
    slave.files |= {"tasks/t/stdout": bytes(range(256)) * 40, "tasks/t/stderr": b"oops"}
    follow_to_the_end(slave, streams=streams)
    assert capfdbinary.readouterr() == (bytes(range(256)) * 40, b"oops")


def test_with_several_instances_each_line_has_a_prefix_and_the_last_one_an_end(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    slave.at_once = 3
    slave.files["tasks/t/stdout"] = b"one\n\ntwo\nthree"
    follow_to_the_end(slave, instances=12)
    assert capfdbinary.readouterr().out == b"[ 1] one\n[ 1] \n[ 1] two\n[ 1] three\n"


def test_output_out_of_reach_is_given_up_with_a_note(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd_cli.outputs.GIVE_UP_S", 0.1)
    slave.broken = True
    follow_to_the_end(slave)
    assert b"out of reach" in capfdbinary.readouterr().err


def test_an_instance_that_never_began_has_no_output_to_wait_for() -> None:
    follower = Follower(Screen("test", progress=False))
    follower.finish(0)
    follower.finish_all()
    follower.close()
    assert not follower.broken
