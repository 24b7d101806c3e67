"""Kernels that lack a control file: an optional one is skipped, a needed one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.fake_cgroups import FILES, FakeCgroups
from offerd.ids import ContainerID, ExecutorID, FrameworkID, TaskID
from offerd.messages import ExecutorInfo
from offerd.resources import Resources
from offerd_isolation.base import DEFAULT_OPTIONS, ContainerSpec, IsolationError, IsolationOptions
from offerd_isolation.cgroups import host
from offerd_isolation.cgroups.module import CgroupsIsolation
from offerd_isolation.choose import choose

MIB = 1 << 20
CONTAINER, TASK = ContainerID("c1"), TaskID("t1")
WANTED = Resources.of(cpus=0.5, mem="64M")
SPEC = ContainerSpec(
    CONTAINER, FrameworkID("f"), ExecutorInfo(ExecutorID("e"), module="x"), Path("/nowhere"), resources=WANTED
)
HARD = IsolationOptions(
    cpu_quota=True, io_weight=True, io_max=(("8:0", (("rbps", 7),)),), cpuset=frozenset({0})
)
NEEDED = {"cpu.weight", "memory.max", "pids.max"}
"""Without one of these files the module cannot be used ..."""
NEEDED_BY_OPTIONS = {"cpu.max", "io.max", "io.weight", "cpuset.cpus"}
"""... and without one of these, which options need, each launch fails."""
STRUCTURE = {"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"}
"""A directory without these is not a cgroup."""
OPTIONAL = FILES.keys() - NEEDED - STRUCTURE


def live_through(isolation: CgroupsIsolation, kernel: FakeCgroups) -> None:
    """The whole life of a container and a task."""
    isolation.watch_fds()
    isolation.recover({})
    isolation.prepare(SPEC)
    isolation.prepare_task(CONTAINER, TASK, WANTED)
    leaf = next(kernel.root.glob("offerd.slice/*/tasks/task-t1"))
    assert (leaf / "memory.max").read_text() == str(64 * MIB)
    assert (leaf / "pids.max").read_text() == "1024"
    isolation.update(CONTAINER, WANTED + WANTED)
    isolation.update(CONTAINER, WANTED)
    usage = isolation.task_usage(CONTAINER, TASK)
    assert usage is not None
    assert usage.cpu_s == (0.0 if kernel.without == "cpu.stat" else 1.5)
    assert usage.mem_bytes == (0 if kernel.without == "memory.stat" else 4 * MIB)
    assert usage.processes == (0 if kernel.without == "pids.current" else 3)
    assert isolation.limitation(CONTAINER, TASK) is None
    assert list(isolation.watch()) == []
    assert list(isolation.verify()) == []
    assert isolation.unkillable(CONTAINER, TASK) == ""
    assert isolation.cleanup_task(CONTAINER, TASK)
    assert isolation.cleanup(CONTAINER)
    isolation.close()
    assert not (kernel.root / "offerd.slice").exists()


@pytest.mark.parametrize("without", ["", *sorted(OPTIONAL)])
def test_a_kernel_without_an_optional_file_still_runs_tasks(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeCgroups(tmp_path / "cgroup", monkeypatch, without=without)
    (work_dir := tmp_path / "work").mkdir()
    isolation, why = choose("auto", work_dir)
    assert (isolation.name, why) == ("cgroups", "the best there is")
    assert isinstance(isolation, CgroupsIsolation)
    live_through(isolation, kernel)


@pytest.mark.parametrize("without", ["memory.swap.max", "memory.oom.group"])
def test_the_effect_of_a_missing_optional_file_is_reported(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeCgroups(tmp_path / "cgroup", monkeypatch, without=without)
    isolation = CgroupsIsolation(tmp_path)
    isolation.recover({})
    (remark,) = isolation.remarks()
    assert remark.startswith(f"this kernel has no {without}: ")
    isolation.close()


@pytest.mark.parametrize("without", sorted(NEEDED))
def test_a_kernel_without_a_needed_file_is_refused(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeCgroups(tmp_path / "cgroup", monkeypatch, without=without)
    # The host is not divided yet, so only a launch finds that the file is missing.
    (work_dir := tmp_path / "work").mkdir()
    isolation = CgroupsIsolation(work_dir)
    with pytest.raises(IsolationError, match=without.replace(".", r"\.")):
        live_through(isolation, kernel)
    # Now there is a cgroup below the root, as with systemd, so it is found at the start.
    chosen, why = choose("auto", work_dir)
    assert chosen.name == "noop"
    assert f"has no {without}: this kernel cannot keep the limits of tasks" in why


@pytest.mark.parametrize("without", sorted(NEEDED_BY_OPTIONS))
def test_a_file_that_an_option_needs_is_named(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeCgroups(tmp_path / "cgroup", monkeypatch, without=without)
    (work_dir := tmp_path / "work").mkdir()
    with pytest.raises(IsolationError, match=without.replace(".", r"\.")):
        live_through(CgroupsIsolation(work_dir, HARD), kernel)


@pytest.mark.parametrize("without", sorted(STRUCTURE))
def test_a_directory_without_cgroup_files_is_refused_in_one_sentence(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeCgroups(tmp_path / "cgroup", monkeypatch, without=without)
    missing = CgroupsIsolation.available()
    assert missing
    assert "\n" not in missing


def test_a_reached_limit_is_found_without_memory_events_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeCgroups(tmp_path / "cgroup", monkeypatch, without="memory.events.local")
    isolation = CgroupsIsolation(tmp_path, DEFAULT_OPTIONS)
    isolation.recover({})
    isolation.prepare(SPEC)
    isolation.prepare_task(CONTAINER, TASK, WANTED)
    leaf = next(kernel.root.glob("offerd.slice/*/tasks/task-t1"))
    (leaf / "memory.events").write_text("oom 1\noom_kill 1\n")
    hit = isolation.limitation(CONTAINER, TASK)
    assert hit is not None
    assert hit.limit == f"memory.max={64 * MIB}"
    assert hit.fatal


def test_a_host_whose_cgroups_are_not_divided_yet_shows_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeCgroups(tmp_path / "cgroup", monkeypatch, without="memory.max")
    assert host.find_root().path == str(kernel.root)
