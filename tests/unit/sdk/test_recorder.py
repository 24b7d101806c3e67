"""A daemon's recorder: forks that write files."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import wait_until
from offerd.daemons.recorder import DRAFT_IS_OLD_S, KEPT_FILES, MAX_REQUESTS, Recorder, Written
from offerd.daemons.recording import Header
from offerd.daemons.recording_reader import Recording, replay


class Summing:
    """A core whose actions are the sum of the events so far."""

    def __init__(self) -> None:
        self.sum = 0

    def handle(self, event: Any, now: float) -> list[Any]:
        self.sum += event
        return [self.sum]

    def tick(self, now: float) -> list[Any]:
        return []


class Daemon:
    """Takes steps as a daemon does."""

    def __init__(self, directory: Path, **bounds: int) -> None:
        self.core = Summing()
        self.recorder = Recorder("master", lambda: self.core, directory, **bounds)
        self.recorder.begin(time.monotonic())

    def step(self, number: int) -> None:
        self.recorder.note(time.monotonic(), number)
        self.core.handle(number, time.monotonic())

    def settle(self) -> None:
        """Wait until nothing is being written."""

        def is_quiet() -> bool:
            self.recorder.turn(time.monotonic())
            return self.recorder.next_deadline() > time.monotonic() + 1.0

        wait_until(is_quiet, "the forks to end")

    def written(self, why: str = "a test") -> Path:
        said: list[Written] = []
        self.recorder.write(why, time.monotonic(), said.append)
        self.settle()
        (written,) = said
        assert written.fault == ""
        return written.path


def read(path: Path) -> tuple[Header, list[Any]]:
    """A recording's header, and the actions of its core when it is replayed; no actions without a state."""
    with path.open("rb") as file:
        recording = Recording(file, lambda module, _: module == __name__)
        if recording.core is None:
            return recording.header, []
        return recording.header, [actions for _, actions in replay(recording.core, recording.steps())]


def test_all_since_the_start_can_be_replayed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "recordings")
    for number in range(5):
        daemon.step(number)
    path = daemon.written()
    found, answers = read(path)
    assert answers == [[0], [1], [3], [6], [10]]
    assert (found.who, found.why, found.first, found.is_whole) == ("master", "a test", 0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    daemon.recorder.close()


def test_a_ring_that_has_gone_round_begins_at_a_newer_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd.daemons.recorder.STATE_AGAIN_S", 0.0)
    monkeypatch.setattr("offerd.daemons.recorder.STATE_COST", 0)
    daemon = Daemon(tmp_path, max_steps=20)
    for number in range(100):
        daemon.step(number)
        daemon.settle()
    found, answers = read(daemon.written())
    assert found.is_whole
    assert 80 <= found.first <= 90
    assert answers[-1] == [sum(range(100))]
    daemon.recorder.close()


def test_if_steps_come_too_fast_the_recording_has_steps_only(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, max_steps=20)
    for number in range(100):
        daemon.step(number)
        daemon.recorder.turn(time.monotonic())
    found, _ = read(daemon.written())
    assert (found.first, found.is_whole) == (80, False)
    daemon.recorder.close()


def test_what_is_written_is_that_of_its_moment(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.settle()
    daemon.step(1)
    daemon.recorder.write("a test", time.monotonic())
    daemon.step(2)
    daemon.recorder.close()
    (path,) = tmp_path.iterdir()
    assert read(path)[1] == [[1]]


@pytest.mark.parametrize("small_state", [0, 1000], ids=["a large state", "a small state"])
def test_on_request_a_recording_begins_now_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_state: int
) -> None:
    monkeypatch.setattr("offerd.daemons.recorder.SMALL_STATE", small_state)
    daemon, said = Daemon(tmp_path, max_steps=20), list[Written]()
    for number in range(15):
        daemon.step(number)
    daemon.settle()
    begin = time.monotonic()
    daemon.recorder.record(60.0, "asked for", begin, said.append)
    for number in range(50):  # more than the ring has room for otherwise
        daemon.step(number)
        daemon.recorder.turn(begin + 1.0)
    assert said == []
    daemon.recorder.turn(begin + 60.0)
    daemon.settle()
    (written,) = said
    assert (written.is_whole, written.fault) == (True, "")
    found, answers = read(written.path)
    assert (found.first, found.why) == (15, "asked for")
    assert answers[-1] == [sum(range(15)) + sum(range(50))]
    daemon.recorder.close()


def test_requests_fail_when_there_are_too_many_or_the_daemon_ends(tmp_path: Path) -> None:
    daemon, said = Daemon(tmp_path), list[Written]()
    for _ in range(MAX_REQUESTS + 1):
        daemon.recorder.record(60.0, "asked for", time.monotonic(), said.append)
    assert [written.fault for written in said] == [
        "4 others are recording at this moment; ask again in 60 s, when the first ends"
    ]
    daemon.recorder.close()
    assert [written.fault for written in said[1:]] == ["the daemon has ended"] * MAX_REQUESTS


def test_the_recording_of_somebody_who_has_gone_ends_and_makes_room(tmp_path: Path) -> None:
    daemon, said, now = Daemon(tmp_path), list[Written](), time.monotonic()
    for ticket in range(1, MAX_REQUESTS + 1):
        daemon.recorder.record(60.0, "asked for", now, said.append, ticket=ticket)
    assert daemon.recorder.abandon(2)
    assert not daemon.recorder.abandon(2)
    daemon.recorder.record(0.0, "asked for", now, said.append, ticket=9)
    daemon.recorder.turn(now + 1.0)
    daemon.settle()
    assert [written.fault for written in said] == [""]
    daemon.recorder.close()


def test_one_failure_is_written_and_not_the_thousand_that_follow(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.step(1)
    for second in range(1000):
        daemon.recorder.failed(ValueError("odd"), 1000.0 + second / 10)
    daemon.recorder.close()
    (path,) = tmp_path.iterdir()
    assert read(path)[0].why == "a failure: ValueError: odd"


def test_a_crash_is_written_before_the_daemon_ends(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.recorder.failed(ValueError("first"), 0.0)
    daemon.step(7)
    daemon.recorder.crashed(KeyError("second"), 1.0)
    assert "a failure: KeyError: 'second'" in {read(path)[0].why for path in tmp_path.iterdir()}


def test_old_recordings_go_when_new_ones_come(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    for number in range(KEPT_FILES + 3):
        daemon.step(number)
        newest = daemon.written()
    assert len(list(tmp_path.iterdir())) == KEPT_FILES
    assert newest.exists()
    daemon.recorder.close()


def faults(daemon: Daemon) -> list[str]:
    """Why a recording cannot be written."""
    said: list[Written] = []
    daemon.recorder.write("a test", time.monotonic(), said.append)
    daemon.recorder.close()
    return [written.fault for written in said]


def test_a_directory_that_cannot_be_written_is_reported_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    daemon = Daemon(tmp_path / "file" / "below")
    with caplog.at_level(logging.ERROR):
        assert faults(daemon) == [f"cannot write {tmp_path}/file/below: Not a directory"]
    assert "no recording at" in caplog.text
    assert "Not a directory" in caplog.text
    daemon.step(1)


def test_a_full_disk_is_the_reason_that_is_given_and_no_draft_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[bytes]:
        yield b"the head"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("offerd.daemons.recorder.pack", full)
    assert faults(Daemon(tmp_path)) == [f"cannot write {tmp_path}: No space left on device; free some"]
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_are_removed_and_those_that_are_written_stay(tmp_path: Path) -> None:
    old, new = (tmp_path / f".master-20261130T18275{number}-1-001.recording.new" for number in (6, 7))
    for draft in (old, new):
        draft.write_text("")
    os.utime(old, (time.time() - 2 * DRAFT_IS_OLD_S,) * 2)
    daemon = Daemon(tmp_path)
    written = daemon.written()
    assert {*tmp_path.iterdir()} == {new, written}
    daemon.recorder.close()


def test_recordings_that_end_in_one_turn_are_different_files(tmp_path: Path) -> None:
    daemon, said = Daemon(tmp_path), list[Written]()
    for _ in range(MAX_REQUESTS):
        daemon.recorder.record(1.0, "asked for", 0.0, said.append)
    daemon.recorder.turn(2.0)
    daemon.settle()
    assert [written.fault for written in said] == [""] * MAX_REQUESTS
    assert len({written.path for written in said} & {*tmp_path.iterdir()}) == MAX_REQUESTS
    daemon.recorder.close()


def test_a_directory_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings").chmod(0o777)
    daemon = Daemon(tmp_path / "recordings")
    assert stat.S_IMODE(daemon.written().parent.stat().st_mode) == 0o700
    daemon.recorder.close()


@pytest.mark.parametrize("kind", ["another account's", "a link"])
def test_a_directory_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory = tmp_path / "elsewhere"
    if kind == "a link":
        directory = tmp_path / "link"
        directory.symlink_to(tmp_path / "elsewhere")
        fault = f"cannot write {directory}: Not a directory"
    else:
        uid = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: uid + 1)
        fault = f"{directory} belongs to another account (uid {uid}), which could read what is recorded; remove it"
    assert faults(Daemon(directory)) == [fault]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("small_state", [0, 1000], ids=["a large state", "a small state"])
def test_a_core_that_cannot_be_written_down_has_steps_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, small_state: int
) -> None:
    monkeypatch.setattr("offerd.daemons.recorder.SMALL_STATE", small_state)
    monkeypatch.setattr(Summing, "__init__", lambda self: self.__dict__.update(sum=0, lock=threading.Lock()))
    daemon = Daemon(tmp_path)
    daemon.settle()
    assert "the state cannot be recorded" in caplog.text
    daemon.step(1)
    found, _ = read(daemon.written())
    assert not found.is_whole
    daemon.recorder.close()


def test_a_fork_keeps_no_descriptor_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its daemon may be killed while it writes, and the next one needs the same locks and sockets."""
    os.mkfifo(tmp_path / "held")

    def held_up(*_: object) -> Iterator[bytes]:
        yield (tmp_path / "held").read_bytes()

    monkeypatch.setattr("offerd.daemons.recorder.pack", held_up)
    daemon = Daemon(tmp_path / "recordings")
    daemon.settle()
    ours, inherited = os.pipe()
    daemon.recorder.write("a test", time.monotonic())
    os.close(inherited)
    try:
        assert select.select([ours], [], [], 20.0)[0] == [ours], "the fork still has the other end"
    finally:
        os.close(ours)
        for pid in daemon.recorder._works:
            os.kill(pid, signal.SIGKILL)
        daemon.recorder.close()


def test_no_fork_and_no_descriptor_stays(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    daemon = Daemon(tmp_path)
    daemon.written()
    daemon.recorder.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
