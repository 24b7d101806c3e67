"""Control files are read and written in the kernel's formats, in directories that look like cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from offerd.ids import TaskID
from offerd.resources import NOTHING, Resources
from offerd.tasks.task_cgroups import leaf_name, task_of_leaf
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationError, IsolationOptions
from offerd_isolation.cgroups import controllers, limits
from offerd_isolation.cgroups.contents import Stall, parse_cpus
from offerd_isolation.cgroups.controllers import Core, Cpu, Cpuset, FileMissing, Io, Memory, Pids
from offerd_isolation.cgroups.limits import Limits
from offerd_isolation.cgroups.memory_held import as_far_as_safe

MIB = 1 << 20


def test_no_limit_is_a_value_and_not_a_number(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    memory = Memory(str(tmp_path))
    assert memory.max is None
    memory.max = 64 * MIB
    assert (tmp_path / "memory.max").read_text() == str(64 * MIB)
    assert memory.max == 64 * MIB
    (tmp_path / "cpu.max").write_text("max 100000\n")
    cpu = Cpu(str(tmp_path))
    assert cpu.max == (None, 100_000)
    cpu.max = (50_000, 100_000)
    assert cpu.max == (50_000, 100_000)


def test_contents_of_every_form_are_read(tmp_path: Path) -> None:
    path = str(tmp_path)
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\n")
    (tmp_path / "cpu.pressure").write_text(
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=5\n"
    )
    (tmp_path / "io.max").write_text("8:0 rbps=1048576 wbps=max riops=max wiops=max\n")
    (tmp_path / "cpuset.cpus").write_text("0-3,7\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.procs").write_text("1\n22\n")
    (tmp_path / "memory.oom.group").write_text("1\n")
    assert Memory(path).events["oom_kill"] == 3
    assert Memory(path).oom_group
    assert Cpu(path).pressure == {"some": Stall(1.5, 0, 0, 77), "full": Stall(0.25, 0, 0, 5)}
    assert Io(path).max == {"8:0": {"rbps": MIB, "wbps": None, "riops": None, "wiops": None}}
    assert Cpuset(path).cpus == {0, 1, 2, 3, 7}
    assert Core(path).controllers == {"cpu", "memory"}
    assert Core(path).procs == [1, 22]
    (tmp_path / "cgroup.procs").write_text("")
    assert Core(path).procs == []


def test_a_missing_file_raises_another_error_than_a_refused_write(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"cannot read .*/pids.max: No such file"):
        _ = Pids(str(tmp_path)).max
    (tmp_path / "pids.max").mkdir()
    with pytest.raises(IsolationError, match=r"cannot write '7' to|cannot write .*/pids.max") as raised:
        Pids(str(tmp_path)).max = 7
    assert not isinstance(raised.value, FileMissing)


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    before = Limits(cpu_weight=50, mem_bytes=64 * MIB, no_swap=True, oom_group=True, pids=1024)
    (tmp_path / "memory.max").touch()
    controllers.apply(str(tmp_path), Limits(50, None, 32 * MIB, True, True, 1024), before)
    assert {path.name for path in tmp_path.iterdir()} == {"memory.max"}
    assert (tmp_path / "memory.max").read_text() == str(32 * MIB)


def test_limits_changed_by_somebody_else_are_set_again_and_reported(tmp_path: Path) -> None:
    wanted = Limits(
        cpu_weight=50, mem_bytes=64 * MIB, oom_group=True, pids=1024, io_max=(("8:0", (("rbps", 7),)),)
    )
    files = {"cpu.weight": "50", "memory.max": str(64 * MIB), "memory.oom.group": "1", "pids.max": "max"}
    files["io.max"] = "8:0 rbps=7 wbps=max riops=max wiops=max"
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert controllers.mend(str(tmp_path), wanted) == ["pids.max was max and is 1024 again"]
    assert (tmp_path / "pids.max").read_text() == "1024"
    assert controllers.mend(str(tmp_path), wanted) == []


def test_limits_follow_from_resources_and_options() -> None:
    task = Resources.of(cpus=0.5, mem="64M")
    usual = limits.of_task(task, {}, DEFAULT_OPTIONS)
    assert usual == Limits(50, None, 64 * MIB, no_swap=True, oom_group=True, pids=1024)
    hard = limits.of_task(task, {"offerd.oom_group": "0"}, IsolationOptions(cpu_quota=True, pids_max=None))
    assert hard == Limits(50, 50_000, 64 * MIB, no_swap=True, oom_group=False, pids=None)
    assert limits.of_task(Resources.of(cpus=1), {}, DEFAULT_OPTIONS).mem_bytes is None


def test_a_task_of_less_memory_than_a_page_is_limited_too() -> None:
    assert limits.of_task(Resources.of(cpus=1, mem=100), {}, DEFAULT_OPTIONS).mem_bytes == limits.PAGE_BYTES


def test_a_container_limit_includes_room_for_its_executor() -> None:
    def container(resources: Resources, *, unlimited: bool = False, places: bool = True) -> Limits:
        return limits.of_container(
            resources, IsolationOptions(cpu_quota=True), places_tasks=places, unlimited=unlimited
        )

    both = Resources.of(cpus=2, mem="96M")
    assert container(both).mem_bytes == 96 * MIB + limits.EXECUTOR_MEM_BYTES
    assert container(both).cpu_quota_us == 210_000
    assert container(both, places=False).cpu_quota_us == 200_000
    assert container(both, unlimited=True).mem_bytes is None
    assert container(NOTHING).mem_bytes is None
    assert container(NOTHING).cpu_quota_us == 10_000


@pytest.mark.parametrize(("millicpus", "expected"), [(0, 1), (5, 1), (500, 50), (1000, 100), (10**9, 10_000)])
def test_weights_stay_within_the_kernels_range(millicpus: int, expected: int) -> None:
    assert limits.weight(millicpus) == expected


def test_lists_of_processors_are_read_strictly() -> None:
    assert parse_cpus(" 0-2,5 ") == {0, 1, 2, 5}
    assert parse_cpus("") == frozenset()
    for wrong in ("a", "1-", "-1", "1--2", "1,,2"):
        with pytest.raises(ValueError, match="neither a cpu"):
            parse_cpus(wrong)


def test_a_task_called_like_a_control_file_has_a_cgroup_of_another_name() -> None:
    assert leaf_name(TaskID("memory.max")) == "task-memory.max"
    assert task_of_leaf("task-memory.max") == "memory.max"
    assert task_of_leaf("executor") is None


# -- how far a limit is lowered -----------------------------------------------------------------------------------------


def cgroup_with(path: Path, *, current: int, held: int, limit: int | None = None) -> Memory:
    """The files of one cgroup's memory, with sizes in MiB."""
    (path / "memory.current").write_text(str(current * MIB))
    (path / "memory.stat").write_text(
        f"anon {held * MIB}\nshmem 0\nkernel 0\nfile {(current - held) * MIB}\n"
    )
    (path / "memory.max").write_text("max" if limit is None else str(limit * MIB))
    return Memory(str(path))


@pytest.mark.parametrize(
    ("current", "held", "before", "wanted", "written"),
    [
        (50, 50, 100, 200, 200),  # raised at once
        (50, 50, 200, 100, 100),  # below the present use
        (180, 20, 200, 100, 116),  # the page cache is freed in steps ...
        (116, 20, 116, 100, 100),
        (180, 120, 200, 100, 136),  # ... but the limit stays above held memory
        (196, 195, 200, 100, 200),  # never above the former limit
    ],
)
def test_a_memory_limit_is_lowered_without_killing(
    tmp_path: Path, current: int, held: int, before: int, wanted: int, written: int
) -> None:
    memory = cgroup_with(tmp_path, current=current, held=held, limit=before)
    wished, last = Limits(mem_bytes=wanted * MIB), Limits(mem_bytes=before * MIB)
    assert as_far_as_safe(memory, wished, last).mem_bytes == written * MIB
    assert as_far_as_safe(memory, wished, None).mem_bytes == written * MIB, "found after a restart"


def test_a_first_memory_limit_is_above_the_memory_in_use(tmp_path: Path) -> None:
    memory = cgroup_with(tmp_path, current=300, held=290)
    assert as_far_as_safe(memory, Limits(mem_bytes=100 * MIB), Limits()).mem_bytes == 306 * MIB


def test_kernel_memory_counts_as_held_even_if_the_kernel_lists_it_in_parts(tmp_path: Path) -> None:
    memory = Memory(str(tmp_path))
    stat = tmp_path / "memory.stat"
    stat.write_text("anon 100\nfile 7000\nkernel 30\nkernel_stack 10\npagetables 10\nshmem 5\n")
    assert (memory.held_bytes(), memory.held_bytes(with_kernel=True)) == (105, 135)
    stat.write_text("anon 100\nfile 7000\nkernel_stack 10\npagetables 10\nshmem 5\n")  # before 5.18
    assert (memory.held_bytes(), memory.held_bytes(with_kernel=True)) == (105, 125)
