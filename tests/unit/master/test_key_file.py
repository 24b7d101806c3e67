"""What a master writes down of keys, and what the next one reads: whole, private, and checked like a message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import zmq

from offerd.errors import BadInput
from offerd_master.core.events import ChangeKept
from offerd_master.core.registry import Change, Contents, Enrolled, Token
from offerd_master.key_file import KeyFile, default_state_dir
from offerd_master.principals import Principal

MASTER, KEY, OTHER = (zmq.curve_keypair()[0].decode() for _ in range(3))
HOST7 = Enrolled(KEY, Principal(name="host7", slave=True), "ops")
ALICE = Enrolled(
    OTHER, Principal(name="alice", operator=True, roles=("science",), users=("alice", "")), "ops"
)


class Clocks:
    now = 1000.0
    wall = 1.8e9

    def open(self, directory: Path, key: str = MASTER) -> KeyFile:
        return KeyFile(directory, key, lambda: self.now, lambda: self.wall)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def token(until: float = 1060.0, ttl_s: float = 60.0) -> Token:
    return Token("abc123", KEY, Principal(name="", slave=True), 2, until, ttl_s, "ops")


def keep(file: KeyFile, change: Change) -> str:
    """The result of a change."""
    file.keep(change, 1)
    (news,) = file.news()
    assert isinstance(news, ChangeKept)
    return news.fault


def test_the_next_master_finds_what_was_kept(tmp_path: Path, clocks: Clocks) -> None:
    file = clocks.open(tmp_path / "new" / "state")
    assert file.contents == Contents()
    assert keep(file, Change({"host7": HOST7, "alice": ALICE}, {"abc123": token()})) == ""
    after = clocks.open(tmp_path / "new" / "state")
    assert after.contents == Contents({"host7": HOST7, "alice": ALICE}, {"abc123": token()})
    assert keep(after, Change({"alice": None}, {"abc123": None})) == ""
    assert clocks.open(tmp_path / "new" / "state").contents == Contents({"host7": HOST7})


def test_the_file_and_its_directory_are_for_the_masters_user_alone(tmp_path: Path, clocks: Clocks) -> None:
    file = clocks.open(tmp_path / "state")
    keep(file, Change({"host7": HOST7}))
    assert (file.path.stat().st_mode & 0o777, file.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]


def test_no_secret_is_in_it(tmp_path: Path, clocks: Clocks) -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    file = clocks.open(tmp_path)
    keep(file, Change({}, {"abc": Token("abc", public, Principal(name="", slave=True), 1, 2000.0, 60.0)}))
    assert public in file.path.read_text()
    assert secret not in file.path.read_text()


def test_masters_of_two_clusters_in_one_directory_do_not_mix(tmp_path: Path, clocks: Clocks) -> None:
    keep(clocks.open(tmp_path), Change({"host7": HOST7}))
    assert clocks.open(tmp_path, OTHER).contents == Contents()


@pytest.mark.parametrize(
    ("passed_s", "wall_passed_s", "left_s"),
    [(0.0, 20.0, 40.0), (0.0, 3600.0, 0.0), (0.0, -3600.0, 60.0), (500.0, 10.0, 50.0)],
)
def test_a_token_is_never_good_for_longer_than_it_began_with(
    tmp_path: Path, clocks: Clocks, passed_s: float, wall_passed_s: float, left_s: float
) -> None:
    keep(clocks.open(tmp_path), Change({}, {"abc123": token()}))
    clocks.now += passed_s  # another boot has another monotonic clock
    clocks.wall += wall_passed_s
    found = clocks.open(tmp_path).contents.tokens["abc123"]
    assert found.until - clocks.now == pytest.approx(left_s, abs=0.01)


def test_a_write_error_is_reported_and_the_old_file_stays(
    tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = clocks.open(tmp_path / "state")
    keep(file, Change({"host7": HOST7}))
    monkeypatch.setattr(
        os, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert "No space left on device" in keep(file, Change({"host7": None}))
    assert file.contents == clocks.open(tmp_path / "state").contents == Contents({"host7": HOST7})


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", '{"format": 2, "keys": {}, "tokens": {}}', "[" * 100_000]
)
def test_an_unreadable_file_keeps_the_master_from_starting_with_advice(
    tmp_path: Path, clocks: Clocks, text: str
) -> None:
    path = clocks.open(tmp_path).path
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="put back a copy, or move it away") as caught:
        clocks.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_others_may_write_is_not_used(tmp_path: Path, clocks: Clocks) -> None:
    file = clocks.open(tmp_path)
    keep(file, Change({"host7": HOST7}))
    file.path.chmod(0o622)
    with pytest.raises(BadInput, match="others may write"):
        clocks.open(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "table"),
    [
        ("keys", "no name", {"key": KEY, "slave": True}),
        ("keys", "bob", {"key": "short", "slave": True}),
        ("keys", "bob", {"key": OTHER, "slave": "yes"}),
        ("keys", "bob", {"key": OTHER, "surprise": True}),
        ("keys", "bob", []),
        ("tokens", "t1", {"key": OTHER, "slave": True, "uses_left": 0, "ttl_s": 60, "expires_at": 2e9}),
        ("tokens", "t1", {"key": OTHER, "slave": True, "uses_left": True, "ttl_s": 60, "expires_at": 2e9}),
        ("tokens", "t1", {"key": OTHER, "slave": True, "uses_left": 10**30, "ttl_s": 60, "expires_at": 2e9}),
        ("tokens", "t/1", {"key": OTHER, "slave": True, "uses_left": 1, "ttl_s": 60, "expires_at": 2e9}),
        ("tokens", "t1", 5),
    ],
)
def test_a_bad_entry_is_skipped_with_a_line_and_costs_no_other(
    tmp_path: Path, clocks: Clocks, kind: str, name: str, table: Any
) -> None:
    file = clocks.open(tmp_path)
    keep(file, Change({"host7": HOST7}))
    document = json.loads(file.path.read_text())
    document[kind][name] = table
    file.path.write_text(json.dumps(document))
    again = clocks.open(tmp_path)
    assert again.contents == Contents({"host7": HOST7})
    assert len(again.complaints) == 1


@pytest.mark.parametrize("number", [float("nan"), 1e400, 10**400, -5, "60", None, True])
def test_a_token_with_invalid_times_has_expired(tmp_path: Path, clocks: Clocks, number: Any) -> None:
    file = clocks.open(tmp_path)
    keep(file, Change({}, {"abc123": token()}))
    for entry in ("ttl_s", "expires_at"):
        document = json.loads(file.path.read_text())
        document["tokens"]["abc123"][entry] = number
        other = tmp_path / "other"
        path = clocks.open(other).path
        other.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        assert clocks.open(other).contents.tokens["abc123"].until == clocks.now


def test_the_state_directory_is_systemds_the_systems_or_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/somewhere/a:/somewhere/b")
    assert default_state_dir() == Path("/somewhere/a")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == Path("/var/lib/offerd/master")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    assert default_state_dir() == Path("/somewhere/state/offerd/master")
