"""Processes are started in their cgroups, and keep no rights of root if they belong to another user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.kernel_bed import SLICE, KernelBed, kernel_bed, leaf, leaves, wait_until
from offerd.ids import TaskID
from offerd.messages import CommandInfo, Reason, TaskState


@pytest.fixture(scope="module")
def bed() -> Iterator[KernelBed]:
    with kernel_bed(user="nobody") as made:
        yield made


def output(bed: KernelBed, name: str) -> str:
    file = next(bed.work_dir.glob(f"containers/*/sandbox/tasks/{name}/stdout"))
    return file.read_text(errors="surrogateescape")


def test_a_task_is_born_in_its_cgroup_as_its_user(bed: KernelBed) -> None:
    bed.framework.run(
        "born", "cat /proc/self/cgroup; id -u; id -G; pwd; grep -E 'NoNewPrivs|SigIgn' /proc/self/status"
    )
    assert bed.framework.wait_end("born").state is TaskState.FINISHED
    cgroup, uid, groups, directory, ignored, no_new_privs = output(bed, "born").splitlines()
    assert cgroup.startswith("0::/offerd.slice/")
    assert cgroup.endswith("/tasks/task-born")
    assert (uid, groups) == ("65534", "65534")
    assert directory.endswith("/tasks/born")
    assert ignored.split() == ["SigIgn:", "0" * 16]
    assert no_new_privs.split() == ["NoNewPrivs:", "1"]
    wait_until(lambda: leaves() == [], "the cgroup is removed")


def test_a_task_has_the_given_directory_umask_and_arguments(bed: KernelBed) -> None:
    odd = os.fsdecode(b"caf\xe9")
    argv = ["sh", "-c", 'umask; pwd; echo "$USER $0"', odd]
    bed.framework.run("plain", command=CommandInfo(argv))
    bed.framework.run("chosen", command=CommandInfo(argv, directory="/usr", umask=0o027))
    for name in ("plain", "chosen"):
        assert bed.framework.wait_end(name).state is TaskState.FINISHED
    umask, directory, words = output(bed, "plain").splitlines()
    assert (umask, directory.rpartition("/")[2], words) == ("0022", "plain", f"nobody {odd}")
    assert output(bed, "chosen").splitlines() == ["0027", "/usr", f"nobody {odd}"]


def test_shim_and_executor_live_in_the_executors_leaf(bed: KernelBed) -> None:
    bed.framework.run("waits", "sleep 1000")
    bed.framework.wait("waits", TaskState.RUNNING)
    (executor,) = bed.executor_pids()
    cgroup = Path(f"/proc/{executor}/cgroup").read_text().strip()
    assert cgroup.endswith("/executor")
    pids = (SLICE / cgroup.removeprefix("0::/offerd.slice/") / "cgroup.procs").read_text().split()
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    assert names == {"offerd-shim", "offerd-executor", "offerd-spawner"}
    assert len((leaf("waits") / "cgroup.procs").read_text().split()) >= 1
    bed.framework.driver.kill_task(TaskID("waits"))
    assert bed.framework.wait_end("waits").state is TaskState.KILLED


def test_a_program_that_cannot_be_started_is_named(bed: KernelBed) -> None:
    bed.framework.run("nosuch", command=CommandInfo(argv=["/no/such/program"]))
    status = bed.framework.wait_end("nosuch")
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.COMMAND_NOT_STARTED)
    assert "/no/such/program: No such file or directory" in status.message


def test_a_task_with_hardly_any_memory_dies_alone(bed: KernelBed) -> None:
    bed.framework.run("neighbour", "sleep 1000")
    bed.framework.wait("neighbour", TaskState.RUNNING)
    bed.framework.run("tiny", "sleep 1000", mem="16K")
    assert bed.framework.wait_end("tiny").reason == Reason.LIMIT_EXCEEDED
    bed.framework.run("after", "true")
    assert bed.framework.wait_end("after").state is TaskState.FINISHED
    assert bed.framework.states("neighbour") == [TaskState.RUNNING]
    bed.framework.driver.kill_task(TaskID("neighbour"))
    bed.framework.wait_end("neighbour")
