"""Output of executors: rotation, and a disk or a task that interferes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import proc
from helpers.proc import Bed
from offerd_slave.launch.logs import RotatedLog


class Pipe:
    """A log over a pipe, in a directory."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        reader, self.writer = os.pipe()
        self.directory = directory
        self.fd = os.open(directory, os.O_RDONLY)
        self.log = RotatedLog(reader, self.fd, "stdout", limit_bytes)

    def write(self, data: bytes) -> None:
        """Write and copy, as much as a pipe holds at a time."""
        for start in range(0, len(data), 4096):
            os.write(self.writer, data[start : start + 4096])
            self.log.drain()

    def close(self) -> None:
        for fd in (self.writer, self.fd):
            os.close(fd)
        self.log.close()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    made = Pipe(tmp_path, 2000)
    yield made
    made.close()


def test_small_output_is_one_file(pipe: Pipe) -> None:
    pipe.write(b"a line\n")
    assert (pipe.directory / "stdout").read_bytes() == b"a line\n"
    assert not (pipe.directory / "stdout.1").exists()


def test_both_parts_together_stay_below_the_limit_and_end_with_the_newest(pipe: Pipe) -> None:
    lines = [b"%05d\n" % number for number in range(3000)]
    for line in lines:
        pipe.write(line)
        total = sum(path.stat().st_size for path in pipe.directory.iterdir())
        assert total <= 2000
    kept = (pipe.directory / "stdout.1").read_bytes() + (pipe.directory / "stdout").read_bytes()
    assert b"".join(lines).endswith(kept)
    assert len(kept) > 900
    assert int((pipe.directory / "stdout.gone").read_bytes()) + len(kept) == len(b"".join(lines))


def test_files_are_cut_between_lines_where_there_are_any(pipe: Pipe) -> None:
    pipe.write(b"".join(b"%06d\n" % number for number in range(1000)))
    for name in ("stdout", "stdout.1"):
        content = (pipe.directory / name).read_bytes()
        assert content.endswith(b"\n")
        assert len(content) % 7 == 0


def test_output_without_line_ends_is_bounded_too(pipe: Pipe) -> None:
    pipe.write(b"x" * 50_000)
    assert sum(path.stat().st_size for path in pipe.directory.iterdir()) <= 2000


def test_the_end_of_the_pipe_is_distinguished_from_an_empty_pipe(tmp_path: Path) -> None:
    made = Pipe(tmp_path, 2000)
    assert made.log.pump() == -1
    os.write(made.writer, b"abc")
    assert made.log.pump() == 3
    os.close(made.writer)
    assert made.log.pump() == 0
    made.writer = os.open(os.devnull, os.O_RDONLY)
    made.close()


def test_a_link_planted_for_the_next_file_is_not_written_through(pipe: Pipe, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    pipe.write(b"before\n")
    (pipe.directory / "stdout").unlink()
    (pipe.directory / "stdout").symlink_to(precious)
    pipe.write(b"x" * 5000)
    assert precious.read_text() == "precious"


def test_a_directory_in_the_way_of_rotation_keeps_the_bound(pipe: Pipe) -> None:
    (pipe.directory / "stdout.1").mkdir()
    (pipe.directory / "stdout.1" / "file").touch()
    pipe.write(b"line of text\n" * 1000)
    assert (pipe.directory / "stdout").stat().st_size <= 1000


def test_removed_log_does_not_stop_the_writer(pipe: Pipe) -> None:
    pipe.write(b"one\n")
    (pipe.directory / "stdout").unlink()
    pipe.write(b"x\n" * 1000)
    assert (pipe.directory / "stdout").exists()


def test_full_disk_drops_output_and_says_how_much(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = os.write, True

    def refusing(fd: int, data: bytes) -> int:
        if full and fd == pipe.log._file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", refusing)
    pipe.write(b"lost\n")
    full = False
    pipe.write(b"kept\n")
    assert (pipe.directory / "stdout").read_bytes() == b"\n[5 bytes lost here: the disk took no more]\nkept\n"


def test_flood_of_an_executor_is_bounded_and_ends(tmp_path: Path) -> None:
    def sizes(container: proc.Container) -> int:
        return sum(path.stat().st_size for path in container.sandbox.glob("stdout*"))

    with proc.bed(tmp_path) as bed:
        container = bed.launch("write_lines", "200000", "100", log_bytes=1 << 20)
        assert bed.ended(container) is not None
        assert sizes(container) <= 1 << 20
        assert container.output().endswith(f"{199_999:099d}\n")


@pytest.mark.root
def test_logs_belong_to_the_executors_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with proc.bed(tmp_path) as bed:
        container = _as_nobody(bed, "echo output")
        assert bed.ended(container) is not None
        assert (container.sandbox / "stdout").owner() == "nobody"
        assert container.output() == "output\n"


@pytest.mark.root
def test_executor_of_a_user_has_that_users_rights_and_cannot_touch_its_shim(tmp_path: Path) -> None:
    script = (
        "id -u; id -ru; id -G; umask; kill -9 $PPID 2>&1 | grep -c 'not permitted'; cat /proc/$PPID/environ;"
        "echo forged > ../exit; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    )
    with proc.bed(tmp_path) as bed:
        container = _as_nobody(bed, script)
        record = bed.ended(container)
        assert record is not None
        assert record.exit_status == 0
        lines = container.output().splitlines()
        assert lines[:2] == ["65534", "65534"]
        assert "0" not in lines[2].split()
        assert lines[3] == "0022"
        assert lines[4] == "1"
        assert lines[5].split() == ["CapEff:", "0000000000000000"]
        assert lines[6].split() == ["NoNewPrivs:", "1"]
        assert container.output("stderr").count("ermission denied") == 2


def _as_nobody(bed: Bed, script: str) -> proc.Container:
    return bed.launch(
        "/bin/sh", "-c", script, module="", user="nobody", environment={"PATH": "/usr/bin:/bin"}
    )
