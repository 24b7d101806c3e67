"""What runs on a slave: reporter lines, files over HTTP with a server that fails, and Python functions as commands."""

from __future__ import annotations

import io
import os
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from offerd.files_access import FilesAccess
from offerd_frameworks.mapreduce.failures import ServerBusy, TransferError
from offerd_frameworks.mapreduce.functions import Functions, run_map, run_reduce
from offerd_frameworks.mapreduce.streaming import Reporter, job_environment, scan
from offerd_frameworks.mapreduce.transfer import BUSY_LIMIT_S, Server


def test_reporter_lines_count_and_everything_else_is_passed_on() -> None:
    reporter = Reporter()
    lines = [
        b"reporter:counter:Words,long ones,3\n",
        b"reporter:counter:Words,long ones,4\n",
        b"reporter:counter:Words,with, comma,1\n",
        b"reporter:counter:Words,bad,x\n",
        b"reporter:status:half way\n",
        b"a warning\n",
    ]
    assert [reporter.hear(line) for line in lines] == [True] * 5 + [False]
    assert reporter.counters == {"Words:long ones": 7, "Words:with, comma": 1}
    assert (reporter.status, reporter.last_line) == ("half way", "a warning")


def test_commands_find_the_names_from_before_hadoop_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFERD_MAPREDUCE_TASK", "x")
    found = job_environment({"mapreduce_task_partition": "3"}, {"mapreduce_map_input_file": "/f"})
    assert (found["mapred_task_partition"], found["map_input_file"]) == ("3", "/f")
    assert found["PATH"].startswith(os.getcwd())
    assert "OFFERD_MAPREDUCE_TASK" not in found


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b"a\nb\n", 2), (b"a\nb", 2)])
def test_an_incomplete_last_line_is_counted(tmp_path: Path, content: bytes, lines: int) -> None:
    (tmp_path / "f").write_bytes(content)
    assert scan(str(tmp_path / "f")).lines == lines


class Flaky(BaseHTTPRequestHandler):
    """Gives the answers that the test has prepared: how many bytes to send, or a status."""

    script: list[int] = []
    content = b""
    asked: list[str] = []
    status = 206
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        part = self.headers.get("Range", "bytes=0-")
        self.asked.append(part)
        first, _, last = part.removeprefix("bytes=").partition("-")
        body = self.content[int(first) : int(last) + 1 if last else None]
        number = self.script.pop(0) if self.script else len(body)
        if number in (404, 500, 503):
            self.send_response(number)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:number])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[str]:
    Flaky.status, Flaky.script, Flaky.asked, Flaky.content = 206, [], [], b"0123456789" * 1000
    server = HTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def copied(address: str, target: Path, **part: int) -> bytes:
    with Server(FilesAccess(address), sleep=lambda _: None) as server, target.open("wb") as file:
        server.copy("/f", file.fileno(), **part)
    return target.read_bytes()


def test_a_broken_copy_goes_on_where_it_broke(flaky: str, tmp_path: Path) -> None:
    Flaky.script = [4000, 3000]
    assert copied(flaky, tmp_path / "f", offset=100, length=9000) == Flaky.content[100:9100]
    assert Flaky.asked == ["bytes=100-9099", "bytes=4100-9099", "bytes=7100-9099"]


def test_a_busy_server_is_asked_again_and_one_without_the_file_is_not(flaky: str, tmp_path: Path) -> None:
    Flaky.script = [503, 503]
    assert copied(flaky, tmp_path / "f", offset=5, length=10) == Flaky.content[5:15]
    Flaky.script, Flaky.asked[:] = [404], []
    with pytest.raises(FileNotFoundError):
        copied(flaky, tmp_path / "f")
    assert len(Flaky.asked) == 1


def test_a_busy_server_is_waited_for_longer_than_a_silent_one(flaky: str, tmp_path: Path) -> None:
    Flaky.script = [503] * 30
    assert copied(flaky, tmp_path / "f", offset=5, length=10) == Flaky.content[5:15]
    pauses: list[float] = []
    Flaky.script = [503] * 1000
    with pytest.raises(ServerBusy), Server(FilesAccess(flaky), sleep=pauses.append) as server:
        server.read("/f")
    assert BUSY_LIMIT_S <= sum(pauses) < BUSY_LIMIT_S + 1


def test_a_full_disk_is_reported_as_such_and_the_server_is_not_asked_again(flaky: str) -> None:
    with (
        Server(FilesAccess(flaky), sleep=lambda _: None) as server,
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left"),
    ):
        server.copy("/f", full.fileno())
    assert len(Flaky.asked) == 1


def test_bytes_that_were_written_before_the_disk_was_full_are_not_written_again(
    flaky: str, tmp_path: Path
) -> None:
    """The limit on file sizes accepts a part of the data and refuses the rest, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            copied(flaky, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handled)
    assert (tmp_path / "f").read_bytes() == Flaky.content[:4000]
    assert len(Flaky.asked) == 1


def test_a_whole_file_in_place_of_a_part_is_refused(flaky: str, tmp_path: Path) -> None:
    Flaky.status = 200
    with pytest.raises(TransferError, match="instead of a part"):
        copied(flaky, tmp_path / "f", offset=5, length=10)
    assert (tmp_path / "f").read_bytes() == b""


def test_a_server_that_stays_silent_is_given_up() -> None:
    pauses: list[float] = []
    with (
        pytest.raises(TransferError, match="does not answer"),
        Server(FilesAccess("127.0.0.1:1"), sleep=pauses.append) as server,
    ):
        server.read("/f")
    assert 3.0 < sum(pauses) < 10.0


def words(line: str) -> Iterable[tuple[str, int]]:
    return ((word, 1) for word in line.split())


def add(word: str, counts: Iterator[int]) -> Iterable[tuple[str, int]]:
    yield word, sum(counts)


def through(functions: Functions, lines: list[bytes]) -> bytes:
    """Map, sort and reduce, as a job does."""
    mapped, reduced = io.BytesIO(), io.BytesIO()
    run_map(functions, lines, mapped)
    run_reduce(functions, sorted(mapped.getvalue().splitlines(keepends=True)), reduced)
    return reduced.getvalue()


@pytest.mark.parametrize("combine", [None, add])
def test_functions_count_words(combine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offerd_frameworks.mapreduce.functions.COMBINE_AFTER", 3)
    functions = Functions(words, add, combine)  # type: ignore[arg-type]
    assert through(functions, [b"b a\n", b"a \xc3\xa9 b\n", b"a\tb"]) == "a\t3\nb\t3\né\t1\n".encode()


def test_keys_may_be_tuples_and_come_back_as_such() -> None:
    def pairs(line: str) -> Iterable[tuple[tuple[str, int], str]]:
        yield (line, len(line)), line

    def first(key: tuple[str, int], values: Iterator[str]) -> Iterable[tuple[str, list[str]]]:
        yield f"{key[0]}/{key[1]}", list(values)

    assert through(Functions(pairs, first), [b"x\n", b"x\n", b"yy\n"]) == b'x/1\t["x","x"]\nyy/2\t["yy"]\n'
