"""A kernel without clone3 and cgroup.kill: the slave does the same in smaller steps."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from helpers.kernel_bed import kernel_bed, leaf, populated, wait_until
from helpers.old_kernel import run_slave_of_an_old_kernel
from offerd.ids import TaskID
from offerd.messages import CommandInfo, Reason, TaskState
from offerd_slave.settings import SlaveSettings


def test_a_task_is_in_its_cgroup_before_its_first_instruction_and_is_killed_whole() -> None:
    settings = SlaveSettings(kill_margin_s=1.0)
    with kernel_bed(user="nobody", slave=run_slave_of_an_old_kernel, settings=settings) as bed:
        words = ["grep", "-h", "-E", "^0::|^Seccomp:|^Uid:", "/proc/self/cgroup", "/proc/self/status"]
        bed.framework.run("born", command=CommandInfo(argv=words))
        assert bed.framework.wait_end("born").state is TaskState.FINISHED
        output = next(bed.work_dir.glob("containers/*/sandbox/tasks/born/stdout")).read_text()
        cgroup, uid, seccomp = output.splitlines()
        assert cgroup.endswith("/tasks/task-born")
        assert uid.split()[1:] == ["65534"] * 4
        assert seccomp.split() == ["Seccomp:", "2"]

        shell = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' & sleep 1000"
        bed.framework.run("tree", shell, limit_s=None, kill_grace_s=0.1)
        bed.framework.wait("tree", TaskState.RUNNING)
        procs: Path = leaf("tree") / "cgroup.procs"
        wait_until(lambda: len(procs.read_text().split()) >= 4, "the whole tree is in the cgroup")
        (executor,) = bed.executor_pids()
        os.kill(executor, signal.SIGSTOP)  # so that the slave kills
        bed.framework.driver.kill_task(TaskID("tree"))
        wait_until(lambda: not populated("tree"), "nothing of it runs")
        os.kill(executor, signal.SIGCONT)
        assert bed.framework.wait_end("tree").reason == Reason.KILLED_BY_FRAMEWORK
        assert bed.executor_pids() == [executor]
