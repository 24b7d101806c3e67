"""A program's standard streams, in the states in which shells and other programs pass them on."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from offerd.tasks.standard_streams import OutputFailed, holds_input, text_stream, write_all

MUCH = bytes(range(256)) * 4096
SETTLED = "import sys; from offerd.tasks.standard_streams import settle; settle()\n"


@contextmanager
def reader(fd: int) -> Iterator[list[bytes]]:
    """Reads a pipe to its end in a thread; the bytes are in the list afterwards."""
    parts: list[bytes] = []

    def read() -> None:
        while part := os.read(fd, 1000):
            parts.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    yield parts
    thread.join()


@pytest.fixture
def narrow() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end somebody has made non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield reading, writing
    os.close(reading)


def test_a_write_to_a_non_blocking_pipe_waits_until_all_is_taken(narrow: tuple[int, int]) -> None:
    with reader(narrow[0]) as parts:
        write_all(narrow[1], MUCH)
        os.close(narrow[1])
    assert b"".join(parts) == MUCH


def test_a_stream_over_a_non_blocking_pipe_is_whole(narrow: tuple[int, int]) -> None:
    with reader(narrow[0]) as parts:
        stream = text_stream(narrow[1], "narrow")
        stream.buffer.write(MUCH)
        print("the end", file=stream, flush=True)
        os.close(narrow[1])
    assert b"".join(parts) == MUCH + b"the end\n"


def test_a_full_disk_and_a_reader_that_has_gone_are_different_errors() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        stream = text_stream(full.fileno(), "full", line_buffering=True)
        with pytest.raises(OutputFailed, match="No space left"):
            print("x", file=stream)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
        stream.flush()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", b"##... caf\\xe9 \\udcff -\n"), ("latin-1", b"##... caf\xe9 \\udcff -\n")],
)
def test_a_character_that_an_encoding_lacks_is_replaced(encoding: str, shown: bytes, tmp_path: Path) -> None:
    with (tmp_path / "text").open("wb") as file:
        print("█▏… café \udcff ─", file=text_stream(file.fileno(), "text", encoding=encoding), flush=True)
    assert (tmp_path / "text").read_bytes() == shown


def run(script: str, redirections: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirections}', "bash", sys.executable, "-c", script],
        capture_output=True,
        env={**os.environ, **more},
        timeout=20,
        check=False,
    )


def test_closed_streams_are_dev_null_also_for_children() -> None:
    script = SETTLED + (
        "import os, subprocess\n"
        "print('gone'); print('gone too', file=sys.stderr); sys.stdout.flush()\n"
        "said = subprocess.run(['sh', '-c', 'echo lost; cat'], stderr=subprocess.PIPE)\n"
        "links = [os.readlink(f'/proc/self/fd/{fd}') for fd in range(3)]\n"
        "os._exit(0 if (links, said.stderr) == (['/dev/null'] * 3, b'') else 1)"
    )
    done = run(script, "<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_unbuffered_output_that_a_disk_takes_only_a_part_of_is_an_error(tmp_path: Path) -> None:
    script = SETTLED + (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    print('x' * 2000)\n"
        "except OSError as error:\n    sys.stderr.write(str(error.errno)); sys.stderr.flush()\n"
        "import os; os._exit(1)"
    )
    done = run(script, f"> '{tmp_path}/out'", PYTHONUNBUFFERED="1")
    assert done.stderr == str(errno.EFBIG).encode()
    assert (tmp_path / "out").stat().st_size == 1000


def test_a_stream_holds_input_if_it_has_some_or_may_still_get_some(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(b"x")
    with ExitStack() as stack:
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair()
        leader, terminal = os.openpty()
        for fd in (reading, leader, terminal):
            stack.callback(os.close, fd)
        stack.enter_context(ours)
        files = {
            name: stack.enter_context(open(name, "rb")).fileno()
            for name in (
                os.devnull,
                "/dev/zero",
                str(tmp_path / "empty"),
                str(tmp_path / "full"),
                "/proc/uptime",
            )
        }
        held = {name.rpartition("/")[2] for name, fd in files.items() if holds_input(fd)}
        assert held == {"zero", "full", "uptime"}
        assert not holds_input(stack.enter_context(open(tmp_path / "full", "ab")).fileno())
        assert not holds_input(terminal)
        assert [holds_input(reading), holds_input(ours.fileno())] == [True, True]
        os.close(writing)
        theirs.close()
        assert [holds_input(reading), holds_input(ours.fileno())] == [False, False]


def test_bytes_written_before_a_pipe_was_closed_count() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    os.close(writing)
    assert holds_input(reading)
    os.close(reading)
