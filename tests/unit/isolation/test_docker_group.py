"""The cgroups of the docker module's containers, v1 and v2, in directories that look like them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.fake_cgroups import files_have_no_length
from offerd.resources import Resources
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_isolation.cgroups import limits
from offerd_isolation.cgroups.limits import Limits
from offerd_isolation.cgroups.memory_held import as_far_as_safe
from offerd_isolation.docker import v1
from offerd_isolation.docker.group import Group

MIB = 1 << 20


@pytest.fixture(autouse=True)
def control_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make writes behave as on control files."""
    files_have_no_length(monkeypatch)


def of_docker(cpus: float, mem: str, options: IsolationOptions = DEFAULT_OPTIONS) -> Limits:
    return limits.of_docker_container(Resources.of(cpus=cpus, mem=mem), options)


def proc(path: Path, mountinfo: str, cgroup: str) -> Path:
    (path / "proc/self").mkdir(parents=True)
    (path / "proc/7").mkdir()
    (path / "proc/self/mountinfo").write_text(mountinfo)
    (path / "proc/7/cgroup").write_text(cgroup)
    return path / "proc"


def on_v2(path: Path, **files: str) -> Group:
    """A group with these files; `__` stands for a dot."""
    mountinfo = f"30 24 0:26 / {path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    return filled(Group.of(7, proc(path, mountinfo, "0::/docker/abc\n")), path / "docker/abc", files)


def on_v1(path: Path, **files: str) -> Group:
    names = ("cpu", "cpuacct", "memory", "pids")
    mountinfo = "".join(f"3 2 0:2 /top {path}/all rw - cgroup cgroup rw,{name}\n" for name in names)
    cgroup = "".join(f"{n}:{name}:/top/docker/abc\n" for n, name in enumerate(names))
    return filled(Group.of(7, proc(path, mountinfo, cgroup)), path / "all/docker/abc", files)


def filled(group: Group, directory: Path, files: dict[str, str]) -> Group:
    assert group.directories == (str(directory),)
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return group


def written(path: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in path.iterdir()}


NEW_V2 = {"cpu__weight": "100", "cpu__max": "max 100000", "memory__max": "max"}
MORE_V2 = {"memory__swap__max": "max", "memory__oom__group": "0", "pids__max": "1088"}


def test_half_a_cpu_and_512_mb_on_v2(tmp_path: Path) -> None:
    group = on_v2(tmp_path, **NEW_V2, **MORE_V2)
    group.apply(of_docker(0.5, "512M"))
    assert written(tmp_path / "docker/abc") == {
        "cpu.weight": "20",
        "cpu.max": "max 100000",
        "memory.max": str(576 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "0",
        "pids.max": "1088",
    }
    assert group.mem_limit() == 576 * MIB


def test_a_quota_on_v2_has_room_for_the_executor(tmp_path: Path) -> None:
    group = on_v2(tmp_path, **NEW_V2)
    group.apply(of_docker(0.5, "512M", IsolationOptions(cpu_quota=True)))
    assert (tmp_path / "docker/abc/cpu.max").read_text() == "60000 100000"


def test_no_memory_limit_is_written_as_max_in_v2(tmp_path: Path) -> None:
    group = on_v2(tmp_path, **NEW_V2, **MORE_V2)
    limited = of_docker(1, "64M")
    group.apply(limited)
    group.apply(of_docker(1, "0M"), limited)
    found = written(tmp_path / "docker/abc")
    assert (found["memory.max"], found["memory.swap.max"], found["cpu.weight"]) == ("max", "max", "39")


NEW_V1 = {"cpu__shares": "1024", "cpu__cfs_quota_us": "-1", "memory__limit_in_bytes": str((1 << 63) - 4096)}
SWAP_V1 = {"memory__memsw__limit_in_bytes": str((1 << 63) - 4096)}


def test_half_a_cpu_and_512_mb_on_v1(tmp_path: Path) -> None:
    group = on_v1(tmp_path, **NEW_V1, **SWAP_V1)
    assert group.mem_limit() is None
    group.apply(of_docker(0.5, "512M"))
    assert written(tmp_path / "all/docker/abc") == {
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "-1",
        "memory.limit_in_bytes": str(576 * MIB),
        "memory.memsw.limit_in_bytes": str(576 * MIB),
    }
    assert group.mem_limit() == 576 * MIB


def test_on_v1_without_swap_accounting_the_other_files_are_written(tmp_path: Path) -> None:
    group = on_v1(tmp_path, **NEW_V1)
    group.apply(of_docker(0.5, "512M", IsolationOptions(cpu_quota=True)))
    found = written(tmp_path / "all/docker/abc")
    assert (found["memory.limit_in_bytes"], found["cpu.cfs_quota_us"]) == (str(576 * MIB), "60000")
    group.apply(of_docker(0.5, "0M"))
    assert (tmp_path / "all/docker/abc/memory.limit_in_bytes").read_text() == "-1"


def test_on_v1_the_limit_with_swap_is_never_below_the_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses it."""
    group = on_v1(tmp_path, **NEW_V1, **SWAP_V1)
    memory = group.memory
    assert isinstance(memory, v1.Memory)
    order: list[str] = []
    write = v1.Memory.set_property

    def set_property(self: v1.Memory, filename: bytes, value: object) -> None:
        order.append(filename.decode().removesuffix(".limit_in_bytes"))
        write(self, filename, value)

    monkeypatch.setattr(v1.Memory, "set_property", set_property)
    sizes = (of_docker(1, "64M"), of_docker(1, "128M"), of_docker(1, "32M"), of_docker(1, "0M"))
    for one, next_one in zip((None, *sizes), sizes, strict=False):
        memory.apply(next_one, one)
    lower, higher = ["memory", "memory.memsw"], ["memory.memsw", "memory"]
    assert order == [*lower, *higher, *lower, *higher]


def test_usage_is_read_on_v2(tmp_path: Path) -> None:
    group = on_v2(
        tmp_path,
        cgroup__procs="7\n8\n9\n",
        cpu__stat="usage_usec 1500000\nthrottled_usec 250000\n",
        memory__stat=f"anon {MIB}\nfile {9 * MIB}\nshmem {MIB}\nkernel_stack 4096\npagetables 4096\n",
        memory__peak=str(5 * MIB),
        memory__pressure="some avg10=2.00 avg60=0.00 avg300=0.00 total=0\n",
        memory__events="low 0\nmax 3\noom 1\noom_kill 2\n",
        memory__events__local="low 0\nmax 3\noom 1\noom_kill 0\n",
        pids__events="max 4\n",
    )
    usage = group.usage()
    assert (usage.cpu_s, usage.throttled_s, usage.processes) == (1.5, 0.25, 2)
    assert (usage.mem_bytes, usage.peak_mem_bytes) == (2 * MIB, 5 * MIB)
    assert usage.mem_pressure == 2.0
    assert group.memory.held_bytes(with_kernel=True) == 2 * MIB + 8192
    assert (group.memory.kills(), group.memory.times_at_limit(), group.pids.refused()) == (2, 1, 4)


def test_usage_is_read_on_v1(tmp_path: Path) -> None:
    group = on_v1(
        tmp_path,
        cgroup__procs="7\n8\n",
        cpuacct__usage="1500000000\n",
        cpu__stat="nr_throttled 1\nthrottled_time 250000000\n",
        memory__stat=f"rss 1\ntotal_rss {MIB}\ntotal_shmem {MIB}\n",
        memory__max_usage_in_bytes=str(5 * MIB),
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    )
    usage = group.usage()
    assert (usage.cpu_s, usage.throttled_s, usage.processes) == (1.5, 0.25, 1)
    assert (usage.mem_bytes, usage.peak_mem_bytes) == (2 * MIB, 5 * MIB)
    assert group.memory.kills() == 2


@pytest.mark.parametrize(("limit", "times"), [(64 * MIB, 2), (65 * MIB + 1, 0), (1 << 63, 0)])
def test_on_v1_a_kill_near_the_limit_counts_as_one_for_the_limit(
    tmp_path: Path, limit: int, times: int
) -> None:
    group = on_v1(
        tmp_path,
        memory__limit_in_bytes=str(limit),
        memory__max_usage_in_bytes=str(64 * MIB),
        memory__oom_control="oom_kill 2\n",
    )
    assert group.memory.times_at_limit() == times


def test_a_container_that_is_gone_uses_nothing_and_ignores_limits(tmp_path: Path) -> None:
    group = on_v2(tmp_path)
    shutil.rmtree(tmp_path / "docker/abc")
    group.apply(of_docker(1, "1M"))
    assert group.usage().mem_bytes == 0
    assert (group.memory.kills(), group.processes(), group.mem_limit()) == (0, [], None)


def test_memory_limits_are_lowered_on_v1_as_on_v2(tmp_path: Path) -> None:
    group = on_v1(
        tmp_path,
        memory__usage_in_bytes=str(180 * MIB),
        memory__stat=f"total_cache 0\ntotal_rss {120 * MIB}\ntotal_shmem 0\n",
    )
    before, wanted = of_docker(1, "136M"), of_docker(1, "36M")
    assert as_far_as_safe(group.memory, wanted, before).mem_bytes == 136 * MIB
