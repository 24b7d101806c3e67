"""Files of containers are counted, whatever they make, at low cost, and reported when they are too much."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.proc import wait_until
from offerd.ids import ContainerID, TaskID
from offerd_slave import disk_watch
from offerd_slave.core.shares import MOST_DEEP, Share, Shares, usual_share
from offerd_slave.directory_walk import ENTRIES_AT_ONCE
from offerd_slave.disk_watch import ContainerToCount, DiskWatch, Walk, judge

ONE = ContainerID("one")
MIB = 1 << 20
ROOMY = Share(1 << 40, 1 << 30)


@pytest.fixture
def watch() -> Iterator[DiskWatch]:
    made = DiskWatch()
    yield made
    made.close()


def write(path: Path, size_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)


def test_files_are_counted_for_each_task_and_for_the_container(tmp_path: Path) -> None:
    write(tmp_path / "tasks/a/deep/er/file", MIB)
    write(tmp_path / "tasks/b/file", 2 * MIB)
    write(tmp_path / "tasks/loose", MIB)
    write(tmp_path / "mine/tasks/c/file", 4 * MIB)
    count = Walk(ROOMY).through(tmp_path)
    assert {name: held.size_bytes // MIB for name, held in count.tasks.items()} == {"a": 1, "b": 2}
    assert {name: held.inodes for name, held in count.tasks.items()} == {"a": 4, "b": 2}
    assert count.whole.size_bytes // MIB == 8
    assert count.whole.inodes == 12


def test_no_link_is_followed_and_several_names_of_a_file_are_one(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/large", 8 * MIB)
    box = tmp_path / "box"
    write(box / "file", MIB)
    for number in range(5):
        os.link(box / "file", box / f"again{number}")
    (box / "out").symlink_to(tmp_path / "elsewhere")
    (box / "tasks").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(box / "pipe")
    count = Walk(ROOMY).through(box)
    assert count.whole.size_bytes // MIB == 1
    assert count.tasks == {}
    assert Walk(ROOMY).through(box / "out").whole.inodes == 0, (
        "a link as the top directory is not followed either"
    )
    assert Walk(ROOMY).through(tmp_path / "missing").whole.inodes == 0


def test_holes_take_no_room(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    assert Walk(ROOMY).through(tmp_path).whole.size_bytes < MIB


def test_a_tree_too_deep_to_be_counted_is_over_and_takes_few_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    here = top
    for name in ("tasks", "a", *["d"] * (MOST_DEEP + 50)):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        if here != top:
            os.close(here)
        here = below
    os.close(here)
    os.close(top)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(disk_watch, "ENTRIES_AT_ONCE", 1)
    open_ones: list[int] = []
    walk = Walk(ROOMY, lambda: open_ones.append(len(os.listdir("/proc/self/fd")) - before))
    count = walk.through(tmp_path)
    assert MOST_DEEP <= max(open_ones) <= 2 * MOST_DEEP + 3
    assert len(os.listdir("/proc/self/fd")) == before
    (hit,) = judge(Shares(ONE, ROOMY, {TaskID("a"): ROOMY}), count)
    assert (hit.task_id, hit.limit) == ("a", f"directories={MOST_DEEP}")


def test_a_walk_ends_where_there_is_too_much(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"f{number}").touch()
    assert Walk(Share(1 << 40, 10)).through(tmp_path).whole.inodes == 11


@pytest.mark.parametrize(
    ("held_mib", "files", "says"),
    [(2, 1, None), (4, 1, "disk=3145728"), (1, 30, "inodes=20")],
)
def test_a_task_over_its_share_is_reported_and_not_its_container(
    tmp_path: Path, watch: DiskWatch, held_mib: int, files: int, says: str | None
) -> None:
    write(tmp_path / "tasks/a/large", held_mib * MIB)
    for number in range(files):
        (tmp_path / f"tasks/a/f{number}").touch()
    write(tmp_path / "tasks/b/small", 1)
    small = Share(3 * MIB, 20)
    watch.look(
        [
            ContainerToCount(
                Shares(ONE, small.times(2), {TaskID("a"): small, TaskID("b"): small}), str(tmp_path)
            )
        ]
    )
    wait_until(lambda: watch.is_idle, "the walk's end")
    assert bool(select.select([watch.fd], [], [], 0)[0]) == (says is not None)
    assert [(hit.container_id, hit.task_id, hit.limit) for hit in watch.found()] == (
        [(ONE, "a", says)] if says else []
    )
    assert select.select([watch.fd], [], [], 0)[0] == []


def test_files_of_no_running_task_count_for_the_container(tmp_path: Path, watch: DiskWatch) -> None:
    write(tmp_path / "tasks/ended/large", 4 * MIB)
    write(tmp_path / "beside", 4 * MIB)
    watch.look(
        [ContainerToCount(Shares(ONE, Share(6 * MIB, 100), {TaskID("a"): Share(MIB, 10)}), str(tmp_path))]
    )
    wait_until(lambda: watch.is_idle, "the walk's end")
    (hit,) = watch.found()
    assert (hit.task_id, hit.limit) == ("", f"disk={6 * MIB}")
    assert "executor and tasks" in hit.message


def test_more_places_of_a_container_count(tmp_path: Path) -> None:
    write(tmp_path / "root/tasks/a/large", 4 * MIB)
    (tmp_path / "box").mkdir()
    watch = DiskWatch(lambda _: [str(tmp_path / "root")])
    try:
        watch.look(
            [ContainerToCount(Shares(ONE, Share(MIB, 10), {TaskID("a"): ROOMY}), str(tmp_path / "box"))]
        )
        wait_until(lambda: watch.is_idle, "the walk's end")
        assert [hit.task_id for hit in watch.found()] == [""]
    finally:
        watch.close()


def test_a_large_container_rests_longer_than_its_walk_took(tmp_path: Path, watch: DiskWatch) -> None:
    for number in range(3000):
        (tmp_path / f"f{number}").touch()
    containers = [ContainerToCount(Shares(ONE, ROOMY), str(tmp_path))]
    watch.look(containers)
    wait_until(lambda: watch.is_idle, "the walk's end")
    until = watch._not_before[ONE]
    assert until - time.monotonic() > 5 * 0.005 * 3000 / 500
    watch.look(containers)
    wait_until(lambda: watch.is_idle, "the second look's end")
    assert watch._not_before[ONE] == until, "it was not looked at"
    watch.look([])
    wait_until(lambda: watch.is_idle, "the third look's end")
    assert ONE not in watch._not_before, "a container that is gone is forgotten"


def test_very_many_linked_files_take_little_memory_and_count_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_watch, "MOST_LINKED", 2)
    for number in range(5):
        (tmp_path / f"f{number}").touch()
        os.link(tmp_path / f"f{number}", tmp_path / f"g{number}")
    walk = Walk(ROOMY)
    walk.through(tmp_path)
    assert len(walk._linked) == 2
    assert walk.count.whole.inodes == 2 + 2 * 3


def test_the_end_of_the_slave_does_not_wait_for_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * ENTRIES_AT_ONCE):
        (tmp_path / f"f{number}").touch()
    monkeypatch.setattr(disk_watch, "PAUSE_S", 60.0)
    is_walking = threading.Event()

    class Watched(DiskWatch):
        def _pause(self) -> None:
            is_walking.set()
            super()._pause()

    watch = Watched()
    watch.look([ContainerToCount(Shares(ONE, ROOMY), str(tmp_path))])
    assert is_walking.wait(30)
    began = time.monotonic()
    watch.close()
    assert time.monotonic() - began < 30, "the walk alone pauses two minutes"
    assert "disk-watch" not in [thread.name for thread in threading.enumerate() if thread is watch._thread]


def test_a_hundred_idle_tasks_cost_next_to_nothing(tmp_path: Path, watch: DiskWatch) -> None:
    tasks = {TaskID(f"t{number}"): ROOMY for number in range(100)}
    for name in tasks:
        for file in ("stdout", "stderr"):
            write(tmp_path / f"tasks/{name}/{file}", 100)
    watch.look([ContainerToCount(Shares(ONE, ROOMY, tasks), str(tmp_path))])
    wait_until(lambda: watch.is_idle, "a first walk")
    began = time.thread_time()
    Walk(ROOMY).through(tmp_path)
    assert time.thread_time() - began < 0.005 * 5, "half a percent of the five seconds between two looks"


@pytest.mark.parametrize(
    ("chosen", "disk_bytes", "inodes", "share"),
    [
        (None, 1 << 40, 0, Share(10 << 30, 1_000_000)),
        (None, 20 << 30, 2_000_000, Share(2 << 30, 200_000)),
        (5 * MIB, 20 << 30, 1 << 30, Share(5 * MIB, 1_000_000)),
        (0, 20 << 30, 1 << 30, None),
    ],
)
def test_the_usual_share_is_a_tenth_of_the_disk_at_most(
    chosen: int | None, disk_bytes: int, inodes: int, share: Share | None
) -> None:
    assert usual_share(chosen, disk_bytes, inodes) == share
