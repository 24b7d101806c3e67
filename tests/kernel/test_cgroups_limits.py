"""The cgroups module on a real kernel: the values of its limits, and what happens at a limit."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cgroup_tasks import MIB, TaskBed, eater, task_bed
from helpers.proc import is_running, wait_until
from offerd.ids import TaskID
from offerd.resources import Resources
from offerd_isolation.base import IsolationOptions, Limitation, Usage
from offerd_isolation.cgroups.controllers import Memory, Pids
from offerd_isolation.cgroups.limits import EXECUTOR_MEM_BYTES

WINDOW_S = 4.0

pytestmark = pytest.mark.cgroup2

NOBODY = 65534


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TaskBed]:
    with task_bed(tmp_path) as made:
        yield made


def limits(bed: TaskBed) -> list[Limitation]:
    """The limits that the module has noticed, after waiting at its descriptor."""
    (fd,) = bed.isolation.watch_fds()
    found: list[Limitation] = []
    while not found:
        assert select.select([fd], [], [], 20.0)[0], "nothing was noticed"
        found += bed.isolation.watch()
    return found


def text(bed: TaskBed, name: str, file: str) -> str:
    return (bed.cgroup(name) / file).read_text().strip()


def disk_number() -> str:
    """The number of any disk of this machine."""
    disks = [path for path in Path("/sys/block").iterdir() if not path.name.startswith(("loop", "ram", "sr"))]
    if not disks:
        pytest.skip("this machine has no disk")
    return (disks[0] / "dev").read_text().strip()


# -- what is set --------------------------------------------------------------------------------------------------------


def test_a_task_has_its_own_limits_and_the_container_their_sum(bed: TaskBed) -> None:
    bed.task("a", cpus=0.5, mem="64M")
    bed.task("b", cpus=2, mem="32M")
    assert text(bed, "a", "memory.max") == str(64 * MIB)
    assert text(bed, "a", "memory.swap.max") == "0"
    assert text(bed, "a", "memory.oom.group") == "1"
    assert text(bed, "a", "pids.max") == "1024"
    assert text(bed, "a", "cpu.weight") == "50"
    assert text(bed, "a", "cpu.max") == "max 100000"
    assert text(bed, "b", "cpu.weight") == "200"
    assert text(bed, "", "memory.max") == str(96 * MIB + EXECUTOR_MEM_BYTES)
    assert text(bed, "", "cpu.weight") == "250"
    bed.end("b")
    assert text(bed, "", "memory.max") == str(64 * MIB + EXECUTOR_MEM_BYTES)
    assert not bed.cgroup("b").exists()


def test_processes_are_only_in_leaves(bed: TaskBed) -> None:
    bed.task("a", "sleep", "1000")
    box = bed.cgroup()
    assert not (box / "cgroup.procs").read_text()
    assert not (box / "tasks/cgroup.procs").read_text()
    assert len((box / "executor/cgroup.procs").read_text().split()) >= 2
    assert len((bed.cgroup("a") / "cgroup.procs").read_text().split()) == 1


def test_limits_of_options_are_set_too(tmp_path: Path) -> None:
    options = IsolationOptions(
        cpu_quota=True,
        pids_max=50,
        io_weight=True,
        io_max=((disk_number(), (("rbps", MIB),)),),
        cpuset=frozenset({1}),
    )
    with task_bed(tmp_path, options) as bed:
        bed.task("a", cpus=0.5)
        assert text(bed, "a", "cpu.max") == "50000 100000"
        assert text(bed, "a", "pids.max") == "50"
        assert text(bed, "a", "io.weight").splitlines()[0] == "default 50"
        assert text(bed, "a", "io.max").startswith(f"{disk_number()} rbps={MIB}")
        assert text(bed, "", "cpuset.cpus") == "1"
        process = bed.run("a", "sleep", "1000")
        assert os.sched_getaffinity(process.pid) == {1}


def test_a_task_without_memory_of_its_own_is_not_limited_by_its_neighbours(bed: TaskBed) -> None:
    bed.task("a", cpus=1, mem=0)
    bed.task("b", cpus=1, mem="32M")
    assert text(bed, "a", "memory.max") == "max"
    assert text(bed, "", "memory.max") == "max"
    bed.end("a")
    assert text(bed, "", "memory.max") == str(32 * MIB + EXECUTOR_MEM_BYTES)


# -- memory -------------------------------------------------------------------------------------------------------------


def test_a_task_over_its_memory_dies_alone_as_a_whole_and_the_limit_and_peak_are_known(bed: TaskBed) -> None:
    bed.start()
    bed.isolation.watch_fds()
    bed.task("hog")
    neighbour = bed.task("neighbour", "sleep", "1000")
    child = bed.run("hog", "sleep", "1000")
    hog = bed.run("hog", *eater(100))
    (hit,) = limits(bed)
    assert (hit.task_id, hit.limit, hit.fatal) == ("hog", f"memory.max={64 * MIB}", True)
    assert 60 * MIB <= hit.usage.peak_mem_bytes <= 64 * MIB
    assert "needed more than its 64M of memory" in hit.message
    assert hog.wait() == child.wait() == -signal.SIGKILL
    assert neighbour is not None
    assert neighbour.poll() is None
    assert bed.box is not None
    assert is_running(bed.box.shim.pid)
    # The same answer again, for a later status. The neighbour has hit nothing.
    again = bed.isolation.limitation(bed.box.container_id, TaskID("hog"))
    assert again is not None
    assert again.limit == hit.limit
    assert bed.isolation.limitation(bed.box.container_id, TaskID("neighbour")) is None


def test_a_task_can_ask_to_lose_one_process_only(bed: TaskBed) -> None:
    bed.start()
    assert bed.box is not None
    bed.isolation.prepare_task(
        bed.box.container_id, TaskID("a"), Resources.of(cpus=1, mem="64M"), {"offerd.oom_group": "0"}
    )
    other = bed.run("a", "sleep", "1000")
    hog = bed.run("a", *eater(100))
    assert hog.wait() == -signal.SIGKILL
    assert other.poll() is None
    hit = bed.isolation.limitation(bed.box.container_id, TaskID("a"))
    assert hit is not None
    assert not hit.fatal
    assert hit.limit == f"memory.max={64 * MIB}"


def test_an_executors_process_over_the_sum_is_reported_as_the_containers_limit(bed: TaskBed) -> None:
    box = bed.start()
    bed.isolation.watch_fds()
    bed.isolation.update(box.container_id, Resources.of(cpus=1, mem="32M"))
    procs = bed.cgroup() / "executor/cgroup.procs"
    worker = subprocess.Popen(["sh", "-c", f'echo $$ > {procs}; exec "$@"', "sh", *eater(200)])
    assert worker.wait() == -signal.SIGKILL
    (hit,) = limits(bed)
    assert (hit.task_id, hit.fatal, hit.limit) == ("", False, f"memory.max={32 * MIB + EXECUTOR_MEM_BYTES}")
    blamed = bed.isolation.limitation(box.container_id, TaskID("whoever-lost-its-worker"))
    assert blamed is not None
    assert blamed.fatal
    assert bed.isolation.limitation(box.container_id, TaskID("another")) is None
    assert is_running(box.shim.pid)


def test_the_page_cache_is_not_held_against_a_task(bed: TaskBed, tmp_path: Path) -> None:
    disk = Path(os.environ.get("OFFERD_GUEST_DISK", tmp_path))
    written = disk / "ten-times-its-limit"
    bed.task("writer", mem="16M")
    try:
        writer = bed.run("writer", "dd", "if=/dev/zero", f"of={written}", "bs=1M", "count=160", "status=none")
        assert writer.wait() == 0
        assert bed.box is not None
        usage = bed.isolation.task_usage(bed.box.container_id, TaskID("writer"))
        assert usage is not None
        assert usage.mem_bytes < 8 * MIB
        assert Memory(str(bed.cgroup("writer"))).events["oom_kill"] == 0
    finally:
        written.unlink(missing_ok=True)


def test_lowering_a_memory_limit_kills_nothing_and_frees_the_page_cache_in_steps(
    bed: TaskBed, tmp_path: Path
) -> None:
    """Memory held above the new sum, and page cache as well: the limit stays above what is held."""
    disk = Path(os.environ.get("OFFERD_GUEST_DISK", tmp_path))
    written = disk / "cached"
    box = bed.start()
    bed.isolation.update(box.container_id, Resources.of(cpus=1, mem="400M"))
    procs = bed.cgroup() / "executor/cgroup.procs"
    command = f'echo $$ > {procs}; dd if=/dev/zero of={written} bs=1M count=200 status=none; exec "$@"'
    holder = subprocess.Popen(["sh", "-c", command, "sh", *eater(120)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        memory = Memory(str(bed.cgroup()))
        bed.isolation.update(box.container_id, Resources.of(cpus=1, mem="16M"))
        before = memory.max
        wait_until(lambda: (bed.isolation.verify(), memory.max or 0)[1] < 160 * MIB, "the limit came down")
        assert before is not None
        assert before > 200 * MIB
        assert holder.poll() is None
        assert memory.events["oom_kill"] == 0
        holder.kill()
        holder.wait()
        wait_until(
            lambda: (bed.isolation.verify(), memory.max)[1] == 16 * MIB + EXECUTOR_MEM_BYTES, "all the way"
        )
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
        written.unlink(missing_ok=True)


# -- processors and processes -------------------------------------------------------------------------------------------


def test_a_fork_bomb_is_stopped_and_its_limit_is_named(tmp_path: Path) -> None:
    with task_bed(tmp_path, IsolationOptions(pids_max=40)) as bed:
        bed.task("bomb", "sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000")
        pids = Pids(str(bed.cgroup("bomb")))
        wait_until(lambda: pids.events["max"] > 20, "forks were refused")
        assert pids.current <= 40
        assert bed.box is not None
        hit = bed.isolation.limitation(bed.box.container_id, TaskID("bomb"))
        assert hit is not None
        assert (hit.limit, hit.fatal) == ("pids.max=40", False)
        bed.end("bomb")
        assert not bed.cgroup("bomb").exists()


def test_a_quota_caps_and_its_throttling_is_counted(tmp_path: Path) -> None:
    with task_bed(tmp_path, IsolationOptions(cpu_quota=True)) as bed:
        bed.task("spin", sys.executable, "-S", "-E", "-c", "while True: pass", cpus=0.25)
        assert bed.box is not None
        container_id = bed.box.container_id

        def usage() -> Usage:
            found = bed.isolation.task_usage(container_id, TaskID("spin"))
            assert found is not None
            return found

        def is_throttled() -> bool:
            """For a window; less where others take time from the machine itself, and it uses less than it may."""
            begin, began_at = usage(), time.monotonic()
            time.sleep(WINDOW_S)
            end, elapsed_s = usage(), time.monotonic() - began_at
            assert (end.cpu_s - begin.cpu_s) / elapsed_s <= 0.25 * 1.1
            return end.throttled_s - begin.throttled_s > 0.25 * elapsed_s

        wait_until(is_throttled, "it is throttled for a quarter of the time at least")


# -- users --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_adopted", [False, True])
def test_an_unprivileged_task_cannot_raise_its_limits_or_leave_and_may_divide_its_own_cgroup(
    bed: TaskBed, is_adopted: bool
) -> None:
    bed.start(user="nobody")
    if is_adopted:
        bed.restart(user="nobody")
    bed.task("a")
    bed.task("b")
    a, b, box = bed.cgroup("a"), bed.cgroup("b"), bed.cgroup()
    attempts = [f"echo max > {a}/memory.max", f"echo max > {a}/pids.max", f"echo 0 > {a}/memory.oom.group"]
    attempts += [f"echo 10000 > {a}/cpu.weight", f"echo 1 > {a.parent}/cgroup.kill"]
    attempts += [
        f"echo $$ > {there}/cgroup.procs" for there in (b, box, box / "executor", a.parent, box.parent)
    ]
    attempts += [f"echo 1 > {b}/cgroup.kill", f"rmdir {b}", f"mkdir {box}/mine"]
    assert bed.run("a", "sh", "-c", f"cat {a}/memory.max", user=NOBODY).wait() == 0
    for attempt in attempts:
        tried = bed.run("a", "sh", "-c", f"exec 2>/dev/null; {attempt}", user=NOBODY)
        assert tried.wait() != 0, attempt
    assert text(bed, "a", "memory.max") == str(64 * MIB)
    nested = bed.run(
        "a", "sh", "-c", f"mkdir {a}/mine && echo $$ > {a}/mine/cgroup.procs && exec sleep 1000", user=NOBODY
    )
    wait_until(lambda: (a / "mine").exists() and (a / "mine/cgroup.procs").read_text(), "a cgroup of its own")
    assert bed.box is not None
    assert bed.isolation.kill_task(bed.box.container_id, TaskID("a"))
    assert nested.wait() == -signal.SIGKILL
    bed.end("a")
    assert not a.exists()
