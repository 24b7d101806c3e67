"""A hostile task of an unprivileged user: nothing that it tries succeeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from helpers.kernel_bed import KernelBed, kernel_bed, leaf, wait_until
from helpers.recorder import Recorder
from offerd.ids import TaskID
from offerd.messages import CommandInfo, TaskState

HOSTILE = Path(__file__).with_name("hostile_task.py")


def pids_by_name(cgroup: Path) -> dict[str, int]:
    pids = map(int, (cgroup / "cgroup.procs").read_text().split())
    return {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in pids}


def start(bed: KernelBed, framework: Recorder, name: str) -> Path:
    """A task that waits; its cgroup."""
    framework.run(name, "sleep 1000 & wait", limit_s=None)
    framework.wait(name, TaskState.RUNNING)
    return leaf(name)


def test_a_hostile_task_can_neither_leave_its_limits_nor_reach_its_parents() -> None:
    with kernel_bed(user="nobody") as bed, Recorder(bed.address, user="daemon") as neighbour:
        neighbour.patience_s = bed.framework.patience_s
        other = start(bed, neighbour, "other")
        start(bed, bed.framework, "same-user")
        executor_leaf = leaf("same-user").parent.parent / "executor"
        ours = pids_by_name(executor_leaf)
        (container_id,) = [
            status.container_id
            for status in bed.framework.statuses["same-user"]
            if status.state is TaskState.RUNNING
        ]
        container = bed.work_dir / "containers" / container_id
        words = [
            f"executor={ours['offerd-executor']}",
            f"shim={ours['offerd-shim']}",
            f"spawner={ours['offerd-spawner']}",
            f"other={(other / 'cgroup.procs').read_text().split()[0]}",
            *map(
                str,
                (container / "container.ckpt", bed.work_dir / "tasks.journal", bed.work_dir / "slave.ckpt"),
            ),
        ]
        before = {path: path.read_text() for path in (other / "memory.max", other / "cpu.weight")}
        command = CommandInfo(argv=[sys.executable, "-S", "-E", str(HOSTILE), *words])
        bed.framework.run("hostile", command=command, mem="64M")
        status = bed.framework.wait_end("hostile")
        folder = container / "sandbox/tasks/hostile"
        assert status.state is TaskState.FINISHED, (folder / "stderr").read_text()
        found = json.loads((folder / "stdout").read_text())
        # Two tasks of one user are one to the kernel: what is delegated to one is the other's to divide, no limit of it.
        shared = str(leaf("same-user"))
        allowed = {f"open {shared}/{name}" for name in ("cgroup.procs", "cgroup.subtree_control")}
        allowed |= {f"mkdir in {shared}", f"chmod {shared}"}
        assert set(found["could"]) == allowed
        assert found["tried"] > 200
        assert found["secrets"] == []
        assert found["fds"] <= 1  # the listing's own
        assert {path: path.read_text() for path in before} == before
        assert pids_by_name(executor_leaf) == ours
        assert neighbour.states("other") == [TaskState.RUNNING]
        for framework, name in ((bed.framework, "same-user"), (neighbour, "other")):
            framework.driver.kill_task(TaskID(name))
            framework.wait_end(name)
        wait_until(lambda: not leaf("same-user").exists(), "what was made in it is removed, too")
