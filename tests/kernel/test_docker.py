"""Containers of a Docker engine on cgroup v2, which is what most hosts have; the rest of the module is `tests/e2e/docker`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from helpers import docker_engine
from helpers.docker_engine import SMALL, DockerEngine
from helpers.kernel_bed import KernelBed, kernel_bed, kill, start, wait_until
from offerd.messages import Reason, TaskState
from offerd_isolation.base import IsolationOptions
from offerd_isolation.cgroups.limits import CONTAINER_EXTRA_PIDS, EXECUTOR_MEM_BYTES
from offerd_slave.options import SlaveOptions
from offerd_slave.process import run_slave

pytestmark = pytest.mark.skipif(bool(docker_engine.missing()), reason=docker_engine.missing())

CGROUPS = Path("/sys/fs/cgroup")
LIMITS = IsolationOptions(image=SMALL, pull="never", pids_max=64, engine_timeout_s=250.0)
MIB = 1 << 20


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with docker_engine.engine() as made:
        yield made


def run_slave_of(address: str, options: SlaveOptions) -> int:
    """Run a slave with this engine, in a process that was forked before the engine existed."""
    os.environ["DOCKER_HOST"] = address
    return run_slave(options)


@pytest.fixture(scope="module")
def bed(engine: DockerEngine) -> Iterator[KernelBed]:
    with kernel_bed(isolation="docker", limits=LIMITS, slave=partial(run_slave_of, engine.address)) as made:
        yield made


def groups(engine: DockerEngine) -> list[Path]:
    """The cgroups of its containers, as the kernel has them."""
    return sorted(CGROUPS.joinpath(engine.root.name).glob("*"))


def containers(engine: DockerEngine) -> list[Path]:
    return [group for group in groups(engine) if group.is_dir()]


def value(group: Path, name: str) -> int | str:
    text = group.joinpath(name).read_text().strip()
    return int(text) if text.isdigit() else text


def test_limits_of_the_kernel_follow_the_tasks(bed: KernelBed, engine: DockerEngine) -> None:
    start(bed, "one", "sleep 1000", cpus=0.5, mem="128M")
    (group,) = containers(engine)
    start(bed, "two", "sleep 1000", cpus=0.5, mem="128M")
    assert value(group, "memory.max") == 256 * MIB + EXECUTOR_MEM_BYTES
    assert value(group, "memory.swap.max") == 0
    assert value(group, "pids.max") == 64 + CONTAINER_EXTRA_PIDS
    share = value(group, "cpu.weight")
    kill(bed, "two")
    wait_until(
        lambda: value(group, "memory.max") == 128 * MIB + EXECUTOR_MEM_BYTES, "the limit of one task alone"
    )
    assert isinstance(share, int)
    assert isinstance(left := value(group, "cpu.weight"), int)
    assert 0 < left < share
    kill(bed, "one")


def test_a_memory_hog_fails_with_the_limit_and_its_peak(bed: KernelBed) -> None:
    command = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}"
    bed.framework.run("hog", command, mem="64M", limit_s=1000.0)  # an emulated guest on a busy host is slow
    status = bed.framework.wait_end("hog")
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.LIMIT_EXCEEDED)
    assert status.limit.startswith("memory.max="), "its container's, not the host's"
    assert "of memory they have" in status.message


def programs(group: Path) -> set[str]:
    """The programs that run in a container."""
    found = set()
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.add(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


def test_a_fork_bomb_stays_below_pids_max_and_ends_with_its_time_limit(
    bed: KernelBed, engine: DockerEngine
) -> None:
    bed.framework.run("bomb", "(b() { b | b & }; b) & exec sleep 60", limit_s=3.0, kill_grace_s=0.1)
    bed.framework.wait("bomb", TaskState.RUNNING)
    (group,) = containers(engine)
    wait_until(lambda: (group / "pids.events").read_text() != "max 0\n", "the bomb to be refused processes")
    assert int((group / "pids.current").read_text()) <= 64 + CONTAINER_EXTRA_PIDS
    assert bed.framework.wait_end("bomb").reason == Reason.TASK_TIMEOUT
    assert not programs(group) & {"sh", "sleep"}


def test_stubborn_processes_in_other_sessions_are_killed_with_their_task_only(
    bed: KernelBed, engine: DockerEngine
) -> None:
    start(bed, "calm", "exec sleep 1000")
    stubborn = "trap '' TERM; setsid sh -c \"trap '' TERM; tail -f /dev/null\" & tail -f /dev/null"
    start(bed, "stubborn", stubborn, kill_grace_s=0.1)
    (group,) = containers(engine)
    kill(bed, "stubborn")
    assert programs(group) & {"tail", "sleep"} == {"sleep"}
    kill(bed, "calm")
    assert "sleep" not in programs(group)


def test_only_the_task_that_had_too_many_processes_is_given_that_limit(
    bed: KernelBed,
) -> None:
    bed.framework.run("many", "for n in $(seq 200); do sleep 1000 & done; exit 1")
    assert "128 processes and threads" in bed.framework.wait_end("many").message
    bed.framework.run("plain", "exit 1")
    assert "processes and threads" not in bed.framework.wait_end("plain").message
