"""The fingerprint of this host and of simulated ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd.resources import Resources
from offerd_slave.fingerprint import (
    GIB,
    cgroup_mode,
    fingerprint,
    gpus,
    memory_bytes,
    millicpus,
    numa_nodes,
    reserve,
)


class Host:
    """A tree that looks like /proc, /sys and /dev."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc, self.sys, self.dev = root / "proc", root / "sys", root / "dev"
        self.dev.mkdir()
        self.write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n")
        self.write("proc/sys/kernel/random/boot_id", "boot-1\n")

    def write(self, path: str, text: str = "") -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


ALL_MILLICPUS = 1000 * len(os.sched_getaffinity(0))


def test_this_host_has_something_to_offer(tmp_path: Path) -> None:
    found = fingerprint(tmp_path)
    assert 0 < found.resources.millicpus <= ALL_MILLICPUS
    assert found.resources.mem_bytes > 0
    assert found.resources.ranges == {"ports": [(31000, 32000)]}
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.hostname
    assert all(found.facts.values())
    assert {"kernel", "cgroup", "numa_nodes", "python", "offerd"} <= found.facts.keys()


def test_chosen_resources_replace_found_ones_by_name(host: Host) -> None:
    chosen = Resources.parse("cpus=0.5,ports=[40000-40009],licences=3,disks={a,b}")
    found = fingerprint(host.root, chosen, proc=host.proc, sys=host.sys, dev=host.dev).resources
    assert found.millicpus == 500
    assert found.mem_bytes == 15 * GIB
    assert found.ranges == {"ports": [(40000, 40009)]}
    assert found.scalars["licences"] == 3000
    assert found.sets == {"disks": ["a", "b"]}


@pytest.mark.parametrize(("total_gib", "offered_gib"), [(16, 15), (2, 1), (1, 0.5)])
def test_a_gibibyte_of_memory_is_kept_or_half_of_a_small_host(total_gib: int, offered_gib: float) -> None:
    assert reserve(total_gib * GIB, GIB) == int(offered_gib * GIB)


@pytest.mark.parametrize(
    ("written", "millis"),
    [("50000 100000", 500), ("max 100000", ALL_MILLICPUS), ("99999999 100000", ALL_MILLICPUS)],
)
def test_quota_of_v2_bounds_the_cpus(host: Host, written: str, millis: int) -> None:
    host.write("proc/self/cgroup", "0::/a/b\n")
    host.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    host.write("sys/fs/cgroup/a/cpu.max", written)
    assert millicpus(host.proc, host.sys) == millis


@pytest.mark.parametrize(("quota", "millis"), [("25000", 250), ("-1", ALL_MILLICPUS)])
def test_quota_of_v1_bounds_the_cpus(host: Host, quota: str, millis: int) -> None:
    host.write("proc/self/cgroup", "3:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n")
    host.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", quota)
    host.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000")
    assert millicpus(host.proc, host.sys) == millis


def test_the_memory_limit_of_the_slaves_cgroup_counts_as_the_hosts_memory(host: Host) -> None:
    host.write("proc/self/cgroup", "0::/a\n")
    host.write("sys/fs/cgroup/a/memory.max", str(4 * GIB))
    assert memory_bytes(host.proc, host.sys) == 4 * GIB
    host.write("sys/fs/cgroup/a/memory.max", "max")
    assert memory_bytes(host.proc, host.sys) == 16 * GIB


def test_unlimited_memory_of_v1_is_no_limit(host: Host) -> None:
    host.write("proc/self/cgroup", "5:memory:/a\n")
    host.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712")
    assert memory_bytes(host.proc, host.sys) == 16 * GIB


def test_cgroup_modes_are_recognized(host: Host) -> None:
    v1 = f"32 31 0:29 / {host.sys}/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    v2 = f"41 31 0:38 / {host.sys}/elsewhere rw - cgroup2 cgroup2 rw\n"
    host.write("sys/elsewhere/cgroup.controllers", "cpu memory pids\n")
    assert cgroup_mode(host.proc) == ("none", [])
    host.write("proc/self/mountinfo", v1)
    assert cgroup_mode(host.proc) == ("v1", [])
    host.write("proc/self/mountinfo", v1 + v2)
    assert cgroup_mode(host.proc) == ("hybrid", ["cpu", "memory", "pids"])
    host.write("proc/self/mountinfo", v2)
    assert cgroup_mode(host.proc) == ("v2", ["cpu", "memory", "pids"])


def test_gpus_are_those_of_the_driver_or_of_the_device_files(host: Host) -> None:
    assert gpus(host.proc, host.dev) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        host.write(f"dev/{name}")
    assert gpus(host.proc, host.dev) == 2
    host.write("proc/driver/nvidia/gpus/0000:01:00.0/information")
    assert gpus(host.proc, host.dev) == 1
    assert (
        fingerprint(host.root, proc=host.proc, sys=host.sys, dev=host.dev).resources.scalars["gpus"] == 1000
    )


def test_numa_nodes_are_counted(host: Host) -> None:
    assert numa_nodes(host.sys) == 1
    host.write("sys/devices/system/node/online", "0-1,4\n")
    assert numa_nodes(host.sys) == 3
