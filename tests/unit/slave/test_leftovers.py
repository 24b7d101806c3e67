"""Leftovers of ended tasks in running executors are removed by age, number and free disk, and nothing else is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from helpers.proc import wait_until
from offerd.ids import ContainerID
from offerd.tasks.sandbox_layout import KEEP_FILE
from offerd_slave.leftovers import collect
from offerd_slave.removal import remove_entry
from offerd_slave.retention import (
    LEAST_AGE_OF_MANY_S,
    LEAST_AGE_S,
    Bounds,
    Leftover,
    leftovers_to_remove,
)
from offerd_slave.sandbox import SandboxCollector

NOW = 1e9
BOUNDS = Bounds(delay_s=10_000.0, most_tasks=3, headroom=0.1)


def removed(*ages_s: float, free: float = 0.9, kept: bool = False) -> list[float]:
    """Those of leftovers with these ages that are to be removed."""
    found = [Leftover(f"t{n}", NOW - age_s, kept) for n, age_s in enumerate(ages_s)]
    return [NOW - each.ended_s for each in leftovers_to_remove(found, NOW, free, BOUNDS)]


def test_leftovers_older_than_the_delay_are_removed_even_if_kept_for_a_framework() -> None:
    assert removed(9_999.0, 10_000.0, 20_000.0, free=1.1) == [20_000.0, 10_000.0]
    assert removed(9_999.0, 10_000.0, free=0.0, kept=True) == [10_000.0]


@pytest.mark.parametrize(
    ("free", "greatest_s"), [(0.6, 5_000.0), (0.2, 1_000.0), (0.1, LEAST_AGE_S), (0.0, LEAST_AGE_S)]
)
def test_leftovers_are_removed_sooner_on_a_full_disk_but_not_at_once(free: float, greatest_s: float) -> None:
    assert removed(greatest_s - 1, greatest_s, free=free) == [greatest_s]


def test_of_too_many_leftovers_the_oldest_are_removed_after_some_time() -> None:
    late = LEAST_AGE_OF_MANY_S
    assert removed(late + 4, late + 3, late + 2, late + 1, 5.0) == [late + 4, late + 3]
    assert removed(late - 4, late - 3, late - 2, late - 1, 5.0) == []
    assert removed(*(late + n for n in range(10)), kept=True) == []


def make_task(containers: Path, task: str, place: str = "tasks") -> Path:
    path = containers / "c" / "sandbox" / place / task
    path.mkdir(parents=True)
    (path / "stdout").write_text("text")
    return path


def test_the_collector_removes_leftovers_but_no_running_tasks_files_or_link_targets(tmp_path: Path) -> None:
    containers, precious = tmp_path / "containers", tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    ended, living = make_task(containers, "ended"), make_task(containers, "living")
    (ended / "locked").mkdir(mode=0)
    (ended / "link").symlink_to(precious)
    (ended.parent / "link").symlink_to(precious)
    kept = make_task(containers, "kept")
    (kept / KEEP_FILE).touch()
    mine = containers / "c" / "sandbox" / "mine"
    mine.mkdir()
    result = containers / "c" / "sandbox" / "results" / "call-1"
    result.parent.mkdir()
    result.write_bytes(b"result")
    time.sleep(0.01)
    collector = SandboxCollector(tmp_path, Bounds(delay_s=0.001))
    collector.tick(0.0, lambda: {ContainerID("c"): {"living"}})
    wait_until(lambda: not result.exists(), "the leftovers to be removed")
    collector.close()
    assert os.listdir(ended.parent) == ["living"]
    assert (living / "stdout").read_text() == "text"
    assert mine.exists()
    assert (precious / "file").read_text() == "precious"


def test_leftovers_younger_than_the_list_of_running_tasks_stay(tmp_path: Path) -> None:
    """A collector may be busy for minutes before it comes to a container."""
    old = make_task(tmp_path, "old")
    time.sleep(0.02)
    known_s = time.time()
    time.sleep(0.02)
    new = make_task(tmp_path, "new")
    time.sleep(0.02)
    collect(str(tmp_path), ContainerID("c"), (), known_s, 1.0, Bounds(delay_s=0.001), remove_entry)
    assert (old.exists(), new.exists()) == (False, True)


def test_very_many_entries_are_removed_in_several_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd_slave.leftovers.MOST_SEEN", 4)
    for number in range(6):
        make_task(tmp_path, f"t{number}")
    time.sleep(0.02)

    def look() -> bool:
        bounds = Bounds(delay_s=0.001)
        return collect(str(tmp_path), ContainerID("c"), (), time.time(), 1.0, bounds, remove_entry)

    assert look()
    assert not look()
    assert os.listdir(tmp_path / "c" / "sandbox" / "tasks") == []


def test_a_link_in_place_of_the_directory_of_tasks_is_not_followed(tmp_path: Path) -> None:
    containers, precious = tmp_path / "containers", tmp_path / "precious"
    (precious / "task").mkdir(parents=True)
    (containers / "c" / "sandbox").mkdir(parents=True)
    (containers / "c" / "sandbox" / "tasks").symlink_to(precious)
    result = make_task(containers, "call-1", "results")
    time.sleep(0.01)
    collector = SandboxCollector(tmp_path, Bounds(delay_s=0.001))
    collector.tick(0.0, lambda: {ContainerID("c"): set()})
    wait_until(lambda: not result.exists(), "the later one to be removed")
    collector.close()
    assert (precious / "task").exists()


def test_leftovers_are_collected_more_often_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    collector = SandboxCollector(tmp_path, Bounds())
    looks: list[float] = []
    for now in (100.0, 104.0, 106.0, 108.0, 112.0):

        def look(now: float = now) -> dict[ContainerID, set[str]]:
            looks.append(now)
            return {}

        collector.tick(now, look, is_disk_full=now > 105)
    collector.close()
    assert looks == [100.0, 106.0, 112.0]
