"""The command executor's parts, each alone: output files, task directories, the search for programs."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.proc import wait_until
from offerd.drivers.executor_loop import Timer, Timers
from offerd.ids import TaskID
from offerd.tasks.task_output import UNTIL_READ, WHOLE
from offerd_executors.output import Output
from offerd_executors.programs import Programs, find_program, why_not_started
from offerd_executors.task_dirs import SPARES, TaskDirs


class Clock:
    """The part of a driver that `TaskDirs` uses; timers end when a test says so."""

    def __init__(self) -> None:
        self.timers = Timers()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return Timer(self.timers, delay_s, callback)

    def pass_by(self) -> None:
        for _ in range(len(self.timers)):
            for callback in self.timers.take(math.inf) or ():
                callback()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dirs(clock: Clock, tmp_path: Path) -> TaskDirs:
    return TaskDirs(clock, str(tmp_path))  # type: ignore[arg-type]


def output_of(path: Path, limit_bytes: int, *chunks: bytes) -> Output:
    """An output that has read these chunks."""
    output = Output(str(path), limit_bytes)
    for chunk in chunks:
        os.write(output.write_fd, chunk)
        assert output.read()
    return output


def test_a_silent_task_has_no_file(tmp_path: Path) -> None:
    output = output_of(tmp_path / "stdout", 100)
    output.close_write_fd()
    assert not output.read()
    output.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("limit_bytes", [1, 7, 10, 30])
def test_rotation_keeps_the_end_and_never_more_than_twice_the_limit(tmp_path: Path, limit_bytes: int) -> None:
    chunks = [bytes([65 + n]) * (n + 1) for n in range(10)]
    output_of(tmp_path / "stdout", limit_bytes, *chunks).close()
    text = b"".join(chunks)
    kept = b"".join((tmp_path / name).read_bytes() for name in ("stdout.1", "stdout"))
    assert text.endswith(kept)
    assert limit_bytes <= len(kept) <= 2 * limit_bytes


def test_output_kept_whole_is_never_rotated(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "stdout"), 10, keeps=WHOLE)
    for _ in range(5):
        os.write(output.write_fd, b"0123456")
        assert output.read()
    output.close()
    assert os.listdir(tmp_path) == ["stdout"]
    assert (tmp_path / "stdout").read_bytes() == b"0123456" * 5


def test_output_kept_until_it_is_read_waits_for_its_reader(tmp_path: Path) -> None:
    """Two files may be full: the one that is being read, and the next."""
    output = Output(str(tmp_path / "stdout"), 10, keeps=UNTIL_READ)
    os.write(output.write_fd, b"a" * 10)
    assert output.read()
    for letter, read_to in ((b"b", 10), (b"c", 20), (b"d", 30)):
        os.write(output.write_fd, letter * 10)
        assert output.read()
        os.write(output.write_fd, b"!")
        assert not output.read()
        assert output.is_stalled
        assert not output.was_read(read_to - 1)
        assert output.was_read(read_to)
        assert (output.is_stalled, os.read(output.read_fd, 1)) == (False, b"!")
    output.close()
    assert output.written_bytes == 40
    assert [(tmp_path / name).read_bytes() for name in ("stdout.1", "stdout")] == [b"c" * 10, b"d" * 10]


def test_at_the_end_all_that_is_in_the_pipe_is_taken_and_counted_read_or_not(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "stdout"), 10, keeps=UNTIL_READ)
    size = fcntl.fcntl(output.write_fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.set_blocking(output.write_fd, False)
    text = os.urandom(size)
    assert os.write(output.write_fd, text) == size
    output.drain()
    output.close()
    assert output.written_bytes == size
    assert (tmp_path / "stdout.1").read_bytes() + (tmp_path / "stdout").read_bytes() == text


def test_output_that_cannot_be_stored_is_counted(tmp_path: Path) -> None:
    output = output_of(tmp_path / "no" / "such" / "stdout", 100, b"lost", b"lost too")
    assert output.written_bytes == 12
    output.close()


def test_output_of_a_task_run_again_is_appended(tmp_path: Path) -> None:
    output_of(tmp_path / "stdout", 100, b"first").close()
    output_of(tmp_path / "stdout", 100, b" second").close()
    assert (tmp_path / "stdout").read_bytes() == b"first second"


def test_output_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    output = output_of(tmp_path / "no" / "such" / "stdout", 100, b"lost", b"lost too")
    assert output.error == "No such file or directory"
    output.close()


def test_an_empty_directory_passes_to_the_next_task(dirs: TaskDirs, tmp_path: Path) -> None:
    first = Path(dirs.make("a"))
    inode = first.stat().st_ino
    dirs.release(str(first))
    second = Path(dirs.make("b"))
    assert second == tmp_path / "b"
    assert second.stat().st_ino == inode
    assert os.listdir(tmp_path) == ["b"]


def test_a_directory_with_content_stays(dirs: TaskDirs, clock: Clock, tmp_path: Path) -> None:
    path = Path(dirs.make("a"))
    (path / "mine").touch()
    dirs.release(str(path))
    clock.pass_by()
    assert Path(dirs.make("b")) != path
    assert (path / "mine").exists()


def test_output_that_its_reader_has_goes_and_so_does_the_directory_if_nothing_else_is_there(
    dirs: TaskDirs, clock: Clock, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        path = Path(dirs.make(name))
        (path / "stdout").write_text("text")
        (path / "stdout.1").write_text("text")
    (tmp_path / "b" / "mine").touch()
    for name in ("a", "b"):
        dirs.release(str(tmp_path / name))
        dirs.forget_output(name)
        dirs.forget_output(name)
    clock.pass_by()
    assert not (tmp_path / "a").exists()
    assert os.listdir(tmp_path / "b") == ["mine"]


def test_an_empty_directory_that_nobody_takes_is_removed(
    dirs: TaskDirs, clock: Clock, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        dirs.make(name)
    for name in ("a", "b"):
        dirs.release(str(tmp_path / name))
    dirs.release(dirs.make("d"))  # they were used: they get another chance
    clock.pass_by()
    assert len(os.listdir(tmp_path)) == 3
    clock.pass_by()
    assert os.listdir(tmp_path) == ["c"]
    assert not clock.timers


def test_no_directory_replaces_what_an_earlier_task_of_that_name_left(dirs: TaskDirs, tmp_path: Path) -> None:
    dirs.make("again")
    (tmp_path / "again" / "mine").touch()
    dirs.release(dirs.make("spare"))
    before = (tmp_path / "again").stat().st_ctime_ns
    wait_until(lambda: time.time_ns() > before + 20_000_000, "the kernel's clock to go on")
    assert dirs.make("again") == str(tmp_path / "again")
    assert (tmp_path / "again").stat().st_ctime_ns > before, "it would be taken for an ended one's"
    assert (tmp_path / "again" / "mine").exists()


def test_a_directory_with_other_permissions_is_not_passed_on(dirs: TaskDirs, tmp_path: Path) -> None:
    path = dirs.make("a")
    os.chmod(path, 0o777)
    dirs.release(path)
    assert os.listdir(tmp_path) == []


def test_only_so_many_empty_directories_are_kept(dirs: TaskDirs, tmp_path: Path) -> None:
    for path in [dirs.make(f"t{n}") for n in range(SPARES + 10)]:
        dirs.release(path)
    assert len(os.listdir(tmp_path)) == SPARES


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    for folder, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch(mode=mode)
    path = f"{tmp_path / 'none'}:{tmp_path / 'one'}:{tmp_path / 'two'}".encode()
    assert find_program(b"tool", path) == bytes(tmp_path / "two" / "tool")
    assert find_program(b"./tool", path) == b"./tool"
    with pytest.raises(FileNotFoundError):
        find_program(b"other", path)
    with pytest.raises(PermissionError):
        find_program(b"tool", bytes(tmp_path / "one"))


def test_spawn_starts_a_session_in_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # spawn leaves its caller where it was sent
    read_fd, write_fd = os.pipe()
    words = ["sh", "-c", "pwd; ps -o sid= -p $$"]
    pid = Programs().start(TaskID("t"), words, {"PATH": os.environ["PATH"]}, "/", write_fd, write_fd)
    os.close(write_fd)
    os.waitpid(pid, 0)
    assert os.read(read_fd, 1000).split() == [b"/", str(pid).encode()]
    os.close(read_fd)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"echo shell $0 $1\n", b"shell ./tool x\n"), (b"#!/bin/echo\n", b"./tool x\n"), (b"", b"")],
)
def test_a_text_without_an_interpreter_is_a_script_of_the_shell(
    content: bytes, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # spawn leaves its caller where it was sent
    (tmp_path / "tool").write_bytes(content)
    (tmp_path / "tool").chmod(0o755)
    read_fd, write_fd = os.pipe()
    pid = Programs().start(TaskID("t"), ["./tool", "x"], {}, str(tmp_path), write_fd, write_fd)
    os.close(write_fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.read(read_fd, 1000) == said
    os.close(read_fd)


def test_a_binary_is_not_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tool").write_bytes(b"\x7fELF\0of another machine\n")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(OSError, match="Exec format error"):
        Programs().start(TaskID("t"), ["./tool"], {}, str(tmp_path), 1, 2)


@pytest.mark.parametrize(
    ("words", "content", "directory", "why"),
    [
        (["./tool"], b"#! /no/such/sh -e\n", "", "./tool: there is no /no/such/sh, which its first line names"),
        (["./tool"], b"#!/bin/sh\r\necho\r\n", "", "./tool: there is no /bin/sh, which its first line names, as its lines end"),
        (["./other"], b"", "", "./other: No such file or directory"),
        (["./tool"], b"", "none", "in the directory {}: No such file or directory"),
        (["./tool"], b"", "tool", "in the directory {}: Not a directory"),
        ([""], b"", "", "a program whose name is empty"),
    ],
)  # fmt: skip
def test_why_a_program_could_not_be_started_names_what_is_not_there(
    words: list[str],
    content: bytes,
    directory: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # spawn leaves its caller where it was sent
    (tmp_path / "tool").write_bytes(content)
    (tmp_path / "tool").chmod(0o755)
    cwd = str(tmp_path / directory)
    with pytest.raises(OSError, match=r"No such|Not a directory") as caught:
        Programs().start(TaskID("t"), words, {}, cwd, 1, 2)
    assert why_not_started(caught.value, words[0], cwd).startswith(why.format(cwd))
