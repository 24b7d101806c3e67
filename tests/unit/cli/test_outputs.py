"""Output on its way from a slave's file server to the terminal; the server can be made to misbehave."""

from __future__ import annotations

import errno
import http.server
import io
import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit

import msgspec
import pytest

from helpers.cli import wait_until
from offerd.errors import OfferdError
from offerd.files_access import FilesAccess
from offerd.ids import ContainerID, TaskID
from offerd.messages import TaskOutput, TaskState, TaskStatus
from offerd.tasks.sandbox_files import CHUNK_BYTES, SandboxFiles, SandboxLog, Unreachable
from offerd.tasks.task_output import EVERYTHING, OutputRead
from offerd_cli import large_outputs
from offerd_cli.batch import Place
from offerd_cli.large_outputs import LargeOutputs
from offerd_cli.outputs import LINE_BYTES, Follower, _Line
from offerd_cli.screen import CannotWrite, Screen

STATUS = TaskStatus(TaskID("t"), TaskState.RUNNING, container_id=ContainerID("c"))


class File:
    """A file; its inode stays the same when it is renamed."""

    numbers = itertools.count(100)

    def __init__(self, content: bytes, inode: int | None = None) -> None:
        self.content = content
        self.inode = next(self.numbers) if inode is None else inode


class Slave(http.server.ThreadingHTTPServer):
    """Serves `files` (by the path after the container), a few bytes at a time; `broken` answers 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.broken = False
        self.at_once = 1 << 20
        self.place = Place("S-1", "host", FilesAccess(f"127.0.0.1:{self.server_address[1]}"))

    def rotate(self, content: bytes, *, inode: int | None = None) -> None:
        """Rename `stdout` and start a new one."""
        self.files["stdout.1"] = self.files["stdout"]
        self.files["stdout"] = File(content, inode)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment
    server: Slave

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        offset = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
        file = self.server.files.get(url.path.removeprefix("/containers/c/"))
        if self.server.broken:
            self.answer(500, b"disk on fire")
        elif file is None:
            self.answer(404, b"no such file")
        elif offset >= len(file.content):
            self.answer(416, b"past the end", f'"{file.inode:x}"', f"bytes */{len(file.content)}")
        else:
            self.answer(206, file.content[offset : offset + self.server.at_once], f'"{file.inode:x}"')

    def answer(self, status: int, body: bytes, tag: str = "", content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if tag:
            self.send_header("ETag", tag)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing in tests."""


@pytest.fixture
def slave() -> Iterator[Slave]:
    with Slave() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def files() -> Iterator[SandboxFiles]:
    client = SandboxFiles()
    yield client
    client.close()


@pytest.fixture
def log(slave: Slave, files: SandboxFiles) -> SandboxLog:
    return SandboxLog(files, slave.place.files, "c", "stdout")


def read_all(log: SandboxLog) -> bytes:
    return b"".join(iter(log.read, b""))


def test_a_file_is_read_as_it_grows(slave: Slave, log: SandboxLog) -> None:
    assert log.read() == b""
    slave.files["stdout"] = File(b"")
    assert log.read() == b""
    slave.files["stdout"].content += b"abc"
    assert log.read() == b"abc"
    assert log.read() == b""
    slave.files["stdout"].content += b"def"
    assert read_all(log) == b"def"


@pytest.mark.parametrize("new_content", [b"", b"g", b"ghijklmnopq"])
def test_of_a_rotated_file_the_rest_comes_before_the_new_one(
    new_content: bytes, slave: Slave, log: SandboxLog
) -> None:
    slave.files["stdout"] = File(b"abcd")
    assert log.read() == b"abcd"
    slave.files["stdout"].content += b"ef"
    slave.rotate(new_content)
    assert read_all(log) == b"ef" + new_content
    slave.files["stdout"].content += b"Z"
    slave.rotate(b"!")
    assert read_all(log) == b"Z!"
    assert not log.has_gaps


def test_a_file_rotated_away_and_not_begun_anew_yet_is_read_on(slave: Slave, log: SandboxLog) -> None:
    slave.files["stdout"] = File(b"abcd")
    assert log.read() == b"abcd"
    slave.files["stdout.1"] = slave.files.pop("stdout")
    slave.files["stdout.1"].content += b"e"
    assert read_all(log) == b"e"
    slave.files["stdout"] = File(b"f")
    assert read_all(log) == b"f"


def test_a_late_reader_begins_with_the_rotated_file(slave: Slave, log: SandboxLog) -> None:
    slave.at_once = 2
    slave.files |= {"stdout.1": File(b"abc"), "stdout": File(b"de")}
    assert read_all(log) == b"abcde"
    assert not log.has_gaps


def test_a_file_rotated_twice_between_two_looks_leaves_a_gap_that_is_known(
    slave: Slave, log: SandboxLog
) -> None:
    slave.files["stdout"] = File(b"abcd")
    assert log.read() == b"abcd"
    slave.rotate(b"efgh")
    slave.rotate(b"ij")
    assert read_all(log) == b"efghij"
    assert log.has_gaps


def test_an_inode_used_again_for_a_shorter_file_is_another_file(slave: Slave, log: SandboxLog) -> None:
    slave.files["stdout"] = File(b"abcd", inode=7)
    assert log.read() == b"abcd"
    slave.rotate(b"efgh")
    slave.rotate(b"ij", inode=7)
    assert read_all(log) == b"efghij"
    assert log.has_gaps


def test_a_kept_connection_that_was_closed_is_made_anew(
    slave: Slave, files: SandboxFiles, log: SandboxLog
) -> None:
    slave.files["stdout"] = File(b"abc")
    assert log.read() == b"abc"
    connection = files._connections[slave.place.files.address]
    assert connection.sock is not None
    connection.sock.shutdown(2)
    slave.files["stdout"].content += b"d"
    assert log.read() == b"d"


def test_the_error_for_files_without_an_address_names_none(files: SandboxFiles) -> None:
    with pytest.raises(
        Unreachable, match=r"^the slave's files cannot be read: the master gives no access to"
    ):
        files.get(FilesAccess(), "c", "stdout", 0)


def test_a_server_in_trouble_is_one_line(slave: Slave, files: SandboxFiles) -> None:
    slave.broken = True
    with pytest.raises(Unreachable, match="500 disk on fire"):
        files.get(slave.place.files, "c", "stdout", 0)


def test_no_server_at_all_is_one_line(files: SandboxFiles) -> None:
    with pytest.raises(Unreachable, match=r"cannot be read: .*refused"):
        files.get(FilesAccess("127.0.0.1:1"), "c", "stdout", 0)


def follow_to_the_end(
    slave: Slave, *, instances: int = 1, streams: bool = True, status: TaskStatus = STATUS
) -> set[int]:
    follower = Follower(Screen("test", progress=False), instances=instances, streams=streams)
    follower.follow(0, slave.place, STATUS)
    follower.finish(0, status)
    follower.finish_all()
    follower.close()
    return follower.lost


@pytest.mark.parametrize("streams", [True, False])
def test_output_comes_whole_and_on_its_own_stream(
    streams: bool, slave: Slave, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    slave.at_once = 1000
    slave.files |= {"tasks/t/stdout": File(bytes(range(256)) * 40), "tasks/t/stderr": File(b"oops")}
    follow_to_the_end(slave, streams=streams)
    assert capfdbinary.readouterr() == (bytes(range(256)) * 40, b"oops")


def test_with_several_instances_each_line_has_a_prefix_and_the_last_one_an_end(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    slave.at_once = 3
    slave.files["tasks/t/stdout"] = File(b"one\n\ntwo\nthree")
    follow_to_the_end(slave, instances=12)
    assert capfdbinary.readouterr().out == b"[ 1] one\n[ 1] \n[ 1] two\n[ 1] three\n"


def test_output_that_cannot_be_reached_is_given_up_with_a_note(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd.tasks.sandbox_files.AWAY_S", 0.1)
    slave.broken = True
    assert follow_to_the_end(slave) == {0}
    assert b"cannot be reached" in capfdbinary.readouterr().err


def test_an_instance_that_never_began_has_no_output_to_wait_for() -> None:
    follower = Follower(Screen("test", progress=False))
    follower.finish(0, STATUS)
    follower.finish_all()
    follower.close()
    follower.check()


def test_an_error_of_the_output_thread_is_raised_by_check(
    slave: Slave, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: SandboxLog) -> bytes:
        raise AttributeError("nobody has foreseen this")

    monkeypatch.setattr(SandboxLog, "read", read)
    follower = Follower(Screen("test", progress=False))
    follower.follow(0, slave.place, STATUS)
    follower.finish(0, STATUS)
    with pytest.raises(AttributeError, match="foreseen"):
        follower.finish_all()
    follower.close()


def test_output_that_there_is_no_room_for_ends_the_waiting_for_it(
    slave: Slave, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave.files["tasks/t/stdout"] = File(b"more than there is room for")
    follower = Follower(Screen("test", progress=False))
    caught: SimpleQueue[CannotWrite] = SimpleQueue()

    def wait() -> None:
        try:
            follower.finish_all()
        except CannotWrite as error:
            caught.put(error)

    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(full))
        follower.follow(0, slave.place, STATUS)
        follower.finish(0, STATUS)
        threading.Thread(target=wait, daemon=True).start()
        error = caught.get(timeout=5.0)
        follower.close()
    assert (error.errno, error.who) == (errno.ENOSPC, "test")


@pytest.mark.parametrize("size", ["²", "9" * 5000, "-1", ""])
def test_an_invalid_size_does_not_end_a_reader(
    slave: Slave, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    slave.files["stdout"] = File(b"text")
    answer = Handler.answer

    def answer_with(self: Handler, status: int, body: bytes, tag: str = "", content_range: str = "") -> None:
        answer(self, status, body, tag, content_range and f"bytes */{size}")

    monkeypatch.setattr(Handler, "answer", answer_with)
    files = SandboxFiles()
    log = SandboxLog(files, slave.place.files, "c", "stdout")
    assert [log.read(), log.read()] == [b"text", b""]
    files.close()


def test_a_server_that_sends_more_than_was_asked_for_is_not_read_to_its_end(
    slave: Slave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.answer(206, bytes(CHUNK_BYTES + 1), "x"))
    files = SandboxFiles()
    with pytest.raises(Unreachable, match="more than it was asked for"):
        files.get(slave.place.files, "c", "stdout", 0)
    files.close()


def ended(stdout_bytes: int, stderr_bytes: int = 0) -> TaskStatus:
    return msgspec.structs.replace(
        STATUS, state=TaskState.FINISHED, output=TaskOutput(stdout_bytes, stderr_bytes)
    )


@pytest.mark.parametrize("instances", [1, 3])
def test_missing_output_is_reported_with_its_size(
    instances: int, slave: Slave, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    slave.files |= {"tasks/t/stdout": File(b"the end\n"), "tasks/t/stderr": File(b"oops\n")}
    assert follow_to_the_end(slave, instances=instances, status=ended(8, 5)) == set()
    assert follow_to_the_end(slave, instances=instances, status=ended(100, 5)) == {0}
    assert b"92 of 100 bytes of" in capfdbinary.readouterr().err
    slave.files.clear()
    assert follow_to_the_end(slave, instances=instances, status=ended(8, 5)) == {0}


def test_output_that_cannot_be_reached_is_lost_only_if_some_of_it_is_missing(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd.tasks.sandbox_files.AWAY_S", 0.1)
    slave.broken = True
    assert follow_to_the_end(slave, status=ended(0)) == set()
    assert follow_to_the_end(slave, status=ended(7)) == {0}
    assert b"cannot be reached, 7 bytes: " in capfdbinary.readouterr().err


def test_a_file_server_that_comes_back_is_waited_for_and_nothing_is_lost(
    slave: Slave, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd_cli.outputs.NOTE_AFTER_S", 0.1)
    slave.broken = True
    slave.files["tasks/t/stdout"] = File(b"text")
    screen = Screen("test", progress=False)
    follower = Follower(screen)
    notes: SimpleQueue[str] = SimpleQueue()

    def note(text: str) -> None:
        notes.put(text)
        slave.broken = False

    monkeypatch.setattr(screen, "note", note)
    follower.follow(0, slave.place, STATUS)
    follower.finish(0, ended(4))
    follower.finish_all()
    follower.close()
    assert notes.get(timeout=1.0).startswith("waiting for the rest of the output: ")
    assert (follower.lost, capfdbinary.readouterr().out) == (set(), b"text")


def test_the_executor_gets_a_report_of_what_was_read_when_a_file_is_complete(slave: Slave) -> None:
    said: SimpleQueue[OutputRead] = SimpleQueue()
    slave.at_once = 4
    slave.files |= {"tasks/t/stdout.1": File(b"abcdefghij"), "tasks/t/stdout": File(b"klm")}
    follower = Follower(Screen("test", progress=False), say_read=lambda _, read: said.put(read))
    follower.follow(0, slave.place, STATUS)
    assert said.get(timeout=5.0) == OutputRead(TaskID("t"), 10, 0)
    assert said.get(timeout=5.0) == OutputRead(TaskID("t"), 10, 0), "it may have been lost on its way"
    slave.files["tasks/t/stdout.1"] = File(b"nop")  # what was being read is gone
    slave.files["tasks/t/stdout"] = File(b"qrs")
    assert said.get(timeout=5.0) == OutputRead(TaskID("t"), EVERYTHING, 0)
    follower.close()


def test_a_large_output_is_fetched_completely_or_what_is_missing_is_reported(slave: Slave) -> None:
    slave.files["tasks/t/stdout"] = File(b"x" * 3_000_000)
    large = LargeOutputs()
    large.fetch(0, ended(3_000_000), slave.place, TaskOutput(3_000_000))
    large.fetch(1, ended(3_000_001), slave.place, TaskOutput(3_000_001, 9))
    taken = {fetched.number: fetched for fetched in (large.take(), large.take())}
    large.close()
    first, second = taken[0], taken[1]
    assert first.stdout is not None
    assert (first.lost, len(first.stdout.read())) == ("", 3_000_000)
    for part in (first.stdout, first.stderr, second.stdout, second.stderr):
        assert part is not None
        part.close()
    assert second.lost == "1 of 3000001 bytes of its stdout are lost; 9 of 9 bytes of its stderr are lost"


def test_a_line_without_end_is_whole_and_takes_little_memory(
    slave: Slave, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    add = _Line.add

    def watched(line: _Line, content: bytes) -> None:
        add(line, content)
        kept.append(len(line._begun))

    monkeypatch.setattr(_Line, "add", watched)
    long = bytes(range(32, 127)) * 30_000
    slave.files |= {"tasks/t/stdout": File(b"a\n" + long + b"\nb\n" + long), "tasks/t/stderr": File(b"")}
    assert follow_to_the_end(slave, instances=12) == set()
    assert capsysbinary.readouterr().out == b"[ 1] a\n[ 1] %s\n[ 1] b\n[ 1] %s\n" % (long, long)
    assert len(kept) > 5
    assert max(kept) <= LINE_BYTES


def test_a_line_without_room_on_the_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OfferdError, match=r"a long line cannot be kept in .*gone: No such file"):
        _Line().add(b"x" * (LINE_BYTES + 1))


def test_no_more_is_fetched_than_is_taken(slave: Slave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_outputs, "MOST_HELD", 3)
    slave.files |= {"tasks/t/stdout": File(b"x" * 100), "tasks/t/stderr": File(b"")}
    large = LargeOutputs()
    for number in range(20):
        large.fetch(number, STATUS, slave.place, None)
    wait_until(lambda: large._fetched.qsize() == 3, "as many to be fetched as may wait")
    assert not large._room.acquire(timeout=0.1)
    taken = [large.take() for _ in range(20)]
    assert sorted(each.number for each in taken) == list(range(20))
    for each in taken:
        each.close()
    for number in range(20):
        large.fetch(number, STATUS, slave.place, None)
    large.close()


def test_output_for_which_no_thread_can_start_is_reported_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    large = LargeOutputs()
    status = TaskStatus(TaskID("t"), TaskState.FINISHED, container_id=ContainerID("c"))
    large.fetch(7, status, Place("S-1", "host", FilesAccess("127.0.0.1:5051")), None)
    number, _, stdout, stderr, lost = large.take()
    assert (number, stdout, stderr) == (7, None, None)
    assert "its output is lost: no thread can be started" in lost
    large.close()
