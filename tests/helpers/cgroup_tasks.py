"""Tasks for tests of the cgroups module: the test puts processes into a task's cgroup, as executors do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.proc import Bed, Container, wait_until
from offerd.ids import ExecutorID, FrameworkID, TaskID
from offerd.messages import ExecutorInfo
from offerd.resources import Resources, total
from offerd.tasks.task_cgroups import leaf_name
from offerd_isolation.base import DEFAULT_OPTIONS, ContainerSpec, IsolationOptions
from offerd_isolation.cgroups.module import CgroupsIsolation

MIB = 1 << 20


class TaskBed(Bed):
    """One container, `box`, whose executor does nothing."""

    isolation: CgroupsIsolation

    def __init__(self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(work_dir, CgroupsIsolation(work_dir, options))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.resources: dict[str, Resources] = {}
        self.box: Container | None = None

    def start(self, user: str = "") -> Container:
        """Launch the container."""
        self.box = self.launch("forever", user=user)
        return self.box

    def restart(self, user: str = "") -> None:
        """Another module adopts the container, as after a restart of the slave."""
        assert self.box is not None
        self.isolation.close()
        self.isolation = CgroupsIsolation(self.work_dir)
        assert list(self.isolation.recover({self.box.container_id: self.box.shim})) == []
        executor = ExecutorInfo(ExecutorID("e"))
        self.isolation.adopt(
            ContainerSpec(self.box.container_id, FrameworkID("f"), executor, self.box.sandbox, user)
        )

    def cgroup(self, name: str = "") -> Path:
        """The cgroup of the container, or of one of its tasks."""
        assert self.box is not None
        (found,) = Path("/sys/fs/cgroup").glob(f"**/offerd.slice/*-{self.box.container_id}")
        return found / "tasks" / leaf_name(TaskID(name)) if name else found

    def task(
        self, name: str, *argv: str, user: int = 0, cpus: float = 0.5, mem: str | int = "64M"
    ) -> subprocess.Popen[bytes] | None:
        """Set a task's limits as the slave does, and run a command in its cgroup if there is one."""
        if self.box is None:
            self.start()
        assert self.box is not None
        container_id, task_id = self.box.container_id, TaskID(name)
        self.resources[name] = Resources.of(cpus=cpus, mem=mem)
        self.isolation.update(container_id, total(self.resources.values()))
        self.isolation.prepare_task(container_id, task_id, self.resources[name])
        return self.run(name, *argv, user=user) if argv else None

    def run(self, name: str, *argv: str, user: int = 0) -> subprocess.Popen[bytes]:
        """Run a command in a task's cgroup, as this user."""
        procs = self.cgroup(name) / "cgroup.procs"
        become = f"setpriv --reuid={user} --regid={user} --clear-groups" if user else ""
        words = ["sh", "-c", f'echo $$ > {procs}; exec {become} "$@"', "sh", *argv]
        process = subprocess.Popen(words, start_new_session=True)
        self.processes.append(process)
        wait_until(lambda: process.poll() is not None or has_execed(process.pid, argv[0]), f"{argv} runs")
        return process

    def end(self, name: str) -> None:
        """Clean up a task, as the slave does when its executor has reported the end."""
        assert self.box is not None
        container_id = self.box.container_id
        wait_until(lambda: self.isolation.cleanup_task(container_id, TaskID(name)), f"{name} is gone")
        del self.resources[name]
        self.isolation.update(container_id, total(self.resources.values()))

    def close(self) -> None:
        super().close()
        for process in self.processes:
            process.kill()
            process.wait()
        self.isolation.close()


@contextmanager
def task_bed(work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> Iterator[TaskBed]:
    """A bed that is always closed."""
    made = TaskBed(work_dir, options)
    try:
        yield made
    finally:
        made.close()


def has_execed(pid: int, program: str) -> bool:
    """Whether the process runs this program by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == program.encode()
    except OSError:
        return True


def eater(mib: int, *, then: str = "signal.pause()") -> list[str]:
    """A command that uses this much memory."""
    code = f"import os, signal, time; held = bytearray({mib} << 20); print('held', flush=True); {then}"
    return [sys.executable, "-S", "-E", "-c", code]
