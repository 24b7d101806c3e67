"""Sandboxes: private, removed by age and free disk, whatever their tasks left in them."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest

from helpers.proc import wait_until
from offerd.ids import ContainerID
from offerd_slave import removal, sandbox, users
from offerd_slave.removal import remove_tree
from offerd_slave.retention import Bounds
from offerd_slave.sandbox import (
    FinishedSandbox,
    SandboxCollector,
    make_container,
    sandboxes_to_remove,
)

DAY_S = 86400.0
FULL = Bounds(headroom=1.0)
"""Bounds with which every disk counts as full."""


def test_a_container_and_its_sandbox_are_the_slaves_alone(tmp_path: Path) -> None:
    made = make_container(tmp_path / "c1", None)
    assert made == tmp_path / "c1" / "sandbox"
    assert made.stat().st_mode & 0o777 == 0o700
    assert made.parent.stat().st_mode & 0o777 == 0o700


def can_read(user: str, path: Path) -> bool:
    entry = pwd.getpwnam(user)
    words = ["cat", str(path)]
    found = subprocess.run(
        words, capture_output=True, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=False
    )
    return found.returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("has_access_lists", [True, False])
def test_only_its_user_can_reach_a_sandbox_whatever_its_permissions(
    has_access_lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no access lists here")

    if not has_access_lists:
        monkeypatch.setattr(os, "setxattr", refuse)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        made = make_container(Path(folder) / "c1", users.look_up("nobody").credentials)
        file = made / "file"
        file.write_text("x")
        for path in (made, file):
            path.chmod(0o777)
        assert can_read("nobody", file)
        assert not can_read("daemon", file)


@pytest.mark.root
def test_sandbox_belongs_to_the_user(tmp_path: Path) -> None:
    assert make_container(tmp_path / "c1", users.look_up("nobody").credentials).owner() == "nobody"
    assert (tmp_path / "c1").owner() == "root"


def test_container_that_exists_is_not_made_again(tmp_path: Path) -> None:
    make_container(tmp_path / "c1", None)
    with pytest.raises(FileExistsError):
        make_container(tmp_path / "c1", None)


@pytest.mark.parametrize(
    ("free", "kept_days"),
    [(1.0, 6.3), (0.5, 2.8), (0.2, 0.7), (0.1, 0.0), (0.0, 0.0)],
)
def test_sandboxes_are_removed_at_a_younger_age_on_a_full_disk(free: float, kept_days: float) -> None:
    now = 1_000_000 * DAY_S
    ages = [days / 10 for days in range(1, 100)]
    finished = [FinishedSandbox(ContainerID(str(age)), now - age * DAY_S) for age in ages]
    removed = sandboxes_to_remove(finished, now, free, Bounds(7 * DAY_S))
    assert all(float(name) >= kept_days - 0.01 for name in removed)
    assert len(removed) == sum(age >= kept_days - 1e-9 for age in ages)
    assert removed == sorted(removed, key=float, reverse=True)


def test_of_too_many_sandboxes_the_oldest_are_removed_after_some_time() -> None:
    now = 1_000_000 * DAY_S
    ages = [60.0, 300.0, 700.0, 800.0, 900.0]
    finished = [FinishedSandbox(ContainerID(f"{age:g}"), now - age) for age in ages]
    removed = sandboxes_to_remove(finished, now, 0.5, Bounds(7 * DAY_S, most_executors=3))
    assert removed == ["900", "800"]
    assert sandboxes_to_remove(finished, now, 0.5, Bounds(7 * DAY_S, most_executors=1)) == [
        "900",
        "800",
        "700",
    ]
    assert sandboxes_to_remove(finished, now, 0.5, Bounds(7 * DAY_S)) == []


def test_the_collector_removes_old_sandboxes_and_no_live_recoverable_or_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = tmp_path / "containers"
    containers.mkdir()
    for name in ("old", "alive", "checkpointed", "new"):
        make_container(containers / name, None)
    (containers / "checkpointed" / "container.ckpt").touch()
    for name in ("old", "alive", "checkpointed"):
        os.utime(containers / name, (1, 1))
    collector = SandboxCollector(tmp_path, FULL)
    collector.tick(0.0, lambda: {ContainerID("alive"): set()})
    wait_until(lambda: not (containers / "old").exists(), "old one removed")
    collector.close()
    assert sorted(path.name for path in containers.iterdir()) == ["alive", "checkpointed", "new"]


def test_collector_looks_again_only_after_its_interval(tmp_path: Path) -> None:
    containers = tmp_path / "containers"
    containers.mkdir()
    collector = SandboxCollector(tmp_path, FULL)
    collector.tick(100.0, dict)
    wait_until(lambda: not collector._wanted.is_set(), "first look")
    collector.tick(100.0 + sandbox.COLLECT_INTERVAL_S / 2, dict)
    assert not collector._wanted.is_set()
    make_container(containers / "old", None)
    os.utime(containers / "old", (1, 1))
    collector.tick(100.0 + sandbox.COLLECT_INTERVAL_S, dict)
    wait_until(lambda: not (containers / "old").exists(), "second look")
    collector.close()


def test_removal_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(precious)
    (tree / "inner" / "link").symlink_to(precious)
    (tree / "inner" / "file-link").symlink_to(precious / "file")
    remove_tree(tree)
    assert not tree.exists()
    assert (precious / "file").read_text() == "precious"


def test_removal_of_a_link_in_place_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "tree").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Not a directory"):
        remove_tree(tmp_path / "tree")
    assert (tmp_path / "precious").is_dir()


def test_removal_of_a_very_deep_tree_needs_few_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for _ in range(3000):  # far beyond the stack and the usual limit of open files
        os.mkdir("deeper", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        deeper = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(tree)
    assert not tree.exists()


def test_removal_holds_few_names_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "NAMES_AT_ONCE", 3)
    tree = tmp_path / "tree"
    for place in (tree, tree / "a", tree / "a" / "b", tree / "c"):
        place.mkdir()
        for number in range(10):
            (place / str(number)).touch()
            (place / f"d{number}").mkdir()
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_removal_of_odd_things(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "locked" / "inner").mkdir(parents=True)
    (tree / ".removed.1").mkdir()
    (tree / ".removed.1" / "x").mkdir()
    os.mkfifo(tree / "fifo")
    (tree / os.fsdecode(b"\xff\n")).touch()
    (tree / "locked" / "inner").chmod(0)
    (tree / "locked").chmod(0)
    remove_tree(tree)
    assert not tree.exists()


def test_pass_that_fails_does_not_end_the_collector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collector = SandboxCollector(tmp_path, FULL)  # no `containers` there
    try:
        collector.tick(0.0, dict)
        wait_until(lambda: "cannot look for old sandboxes" in caplog.text, "the complaint")
        (tmp_path / "containers" / "old").mkdir(parents=True)
        os.utime(tmp_path / "containers" / "old", (1.0, 1.0))
        collector.tick(1e6, dict)
        wait_until(lambda: not (tmp_path / "containers" / "old").exists(), "the old sandbox to be gone")
    finally:
        collector.close()
