"""The slave is killed at every step of launch, run and end: the next one adopts what runs, and every task has one end."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from helpers.kernel_bed import SLICE, KernelBed, kernel_bed, leaf, leaves, populated, wait_until
from helpers.mortal_slave import Adopted, Fate, run_mortal_slave
from helpers.recorder import COMMAND, ended_once
from offerd.ids import ExecutorID, TaskID
from offerd.messages import TaskState
from offerd_linux import processes
from offerd_slave.checkpoint import read_checkpoint, write_checkpoint
from offerd_slave.records import ContainerCheckpoint, ProcessCheckpoint
from offerd_slave.settings import SlaveSettings

ADOPTED_WITHIN_S = 5.0
ADOPTED_WITHIN_STARTS = 3.0
"""... or, in an emulated guest on a busy host, so many times what the first slave took to register with nothing to adopt."""
OF_CONTAINERS = (
    ("before", "checkpoint"),
    ("before", "prepare"),
    ("before", "launch"),
    ("before", "checkpoint with shim"),
    ("before", "isolate"),
    ("after", "isolate"),
    ("before", "cleanup"),
    ("after", "cleanup"),
    ("after", "forget"),
)
OF_TASKS = (
    ("before", "update"),
    ("before", "prepare_task"),
    ("after", "prepare_task"),
    ("after", "journal delivered"),
    ("before", "journal running"),
    ("after", "journal running"),
    ("before", "kill_task"),
    ("after", "kill_task"),
    ("before", "cleanup_task"),
    ("after", "cleanup_task"),
    ("after", "journal ended"),
    ("after", "journal acknowledged"),
)
"""The steps of an executor's life and of a task's, in their order. What is not here is the same moment: `after prepare` is
`before launch`."""
STEPS = (
    (*OF_CONTAINERS, *OF_TASKS)
    if os.environ.get("OFFERD_ALL_STEPS")
    else (*OF_CONTAINERS[2::3], *OF_TASKS[1::2])
)
"""Every step takes ten seconds of a guest: `make test-nightly` has all."""
OTHERS = [ExecutorID(f"other-{number}") for number in range(len(STEPS) + 3)]
SETTINGS = SlaveSettings(kill_margin_s=1.0)
_numbers = count()


class DeathBed:
    """A cluster whose slave dies at chosen steps, with one task that runs all the time."""

    def __init__(self, bed: KernelBed, fate: Fate) -> None:
        self.bed, self.framework, self.fate = bed, bed.framework, fate
        first = wait_until(lambda: fate.adopted(bed.slave.pid), "the first slave is registered")
        assert first is not None
        self.adopted_within_s = max(ADOPTED_WITHIN_S, ADOPTED_WITHIN_STARTS * first.after_s)
        self._executors = iter(OTHERS)
        self.framework.run("long", "sleep 10000 & wait", limit_s=None)
        self.framework.wait("long", TaskState.RUNNING)
        wait_until(lambda: len(self.long_pids()) == 2, "both of its processes are there")
        self.pids = self.long_pids()

    def long_pids(self) -> list[tuple[int, int]]:
        """The processes of the long task, with their time of start."""
        pids = map(int, (leaf("long") / "cgroup.procs").read_text().split())
        found = (processes.read(pid) for pid in pids)
        return sorted((each.pid, each.start_ticks) for each in found if each is not None)

    def is_dead(self) -> bool:
        return self.bed.slave.exitcode is not None

    def new_executor(self) -> ExecutorID:
        """One whose life begins with its first task."""
        return next(self._executors)

    def restart(self) -> Adopted:
        """Another slave, as soon as it has found everything."""
        self.fate.disarm()
        self.bed.restart_slave()
        pid = self.bed.slave.pid
        wait_until(lambda: self.fate.adopted(pid) is not None, "the new slave has all executors back")
        found = self.fate.adopted(pid)
        assert found is not None
        return found

    def kill(self, name: str) -> None:
        self.framework.driver.kill_task(TaskID(name))

    def others(self) -> list[Path]:
        """Containers other than that of the long task."""
        return [path for path in SLICE.glob("*/executor") if not (path.parent / "tasks/task-long").exists()]

    def end_other_executors(self) -> None:
        for path in self.others():
            for pid in map(int, (path / "cgroup.procs").read_text().split()):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "offerd-executor":
                    os.kill(pid, signal.SIGKILL)

    def left(self) -> list[str]:
        """What is left beside the long task with its executor, and one slave's zygote."""
        expected = ["offerd-executor", "offerd-shim", "offerd-spawner", "offerd-zygote"]
        found = [_read(Path(f"/proc/{each.pid}/comm")) for each in processes.everyone()]
        for name in expected:
            if name in found:
                found.remove(name)
        tasks = [name for name in leaves() if name != "long"]
        return [*tasks, *map(str, self.others()), *(name for name in found if name.startswith("offerd-"))]

    def wait_clean(self) -> None:
        try:
            wait_until(lambda: not self.left(), "nothing but the long task is left")
        except AssertionError:
            pytest.fail(f"left: {self.left()}")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(scope="module")
def deathbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeathBed]:
    folder = tmp_path_factory.mktemp("fate")
    executors = (COMMAND, *(msgspec.structs.replace(COMMAND, executor_id=name) for name in OTHERS))
    with kernel_bed(
        slave=functools.partial(run_mortal_slave, folder), executors=executors, settings=SETTINGS
    ) as bed:
        yield DeathBed(bed, Fate(folder))


@pytest.mark.parametrize(("when", "step"), STEPS)
def test_after_a_kill_at_any_step_the_next_slave_goes_on(deathbed: DeathBed, when: str, step: str) -> None:
    bed, framework = deathbed, deathbed.framework
    number = next(_numbers)
    short, victim = f"short-{number}", f"victim-{number}"
    executor_id = bed.new_executor() if (when, step) in OF_CONTAINERS else COMMAND.executor_id
    bed.fate.arm(step, when)
    framework.run(short, "true", executor_id=executor_id)
    framework.run(victim, "sleep 1000 & wait", executor_id=executor_id, limit_s=None, kill_grace_s=0.1)
    frozen = bed.bed.executor_pids() if step == "kill_task" else []

    def runs() -> bool:
        return TaskState.RUNNING in framework.states(victim)

    wait_until(
        lambda: bed.is_dead() or (runs() and ended_once(framework, short)), "both have begun, or it died"
    )
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    if step in ("cleanup", "forget"):
        bed.end_other_executors()
    elif not bed.is_dead():
        bed.kill(victim)
    wait_until(bed.is_dead, f"the slave dies {when} {step}")
    assert bed.bed.slave.exitcode == -signal.SIGKILL
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    was_running = [name for name in (short, victim) if populated(name)]

    adopted = bed.restart()
    assert adopted.after_s <= bed.adopted_within_s
    assert "long" in adopted.tasks
    assert bed.long_pids() == bed.pids
    wait_until(lambda: runs() or ended_once(framework, victim), "the victim's state is known")
    bed.kill(victim)
    ends = {name: framework.wait_end(name).state for name in (short, victim)}
    was_seen_running = {name: TaskState.RUNNING in framework.states(name) for name in ends}
    # A task that no executor had yet is lost; one that was seen running ends normally.
    assert ends[short] in (
        {TaskState.FINISHED} if was_seen_running[short] else {TaskState.FINISHED, TaskState.LOST}
    )
    if step not in ("cleanup", "forget"):
        # Where the slave itself has killed it and died, its executor may see the death before it reads of the order.
        killed = {TaskState.KILLED, TaskState.FAILED} if step == "kill_task" else {TaskState.KILLED}
        assert ends[victim] in killed or not (was_seen_running[victim] or was_running)
    bed.end_other_executors()
    bed.wait_clean()
    assert ended_once(framework, short, victim)


def test_every_task_has_had_one_end(deathbed: DeathBed) -> None:
    """Also the first tasks, after all later deaths of the slave."""
    names = [name for name in deathbed.framework.statuses if name != "long"]
    assert len(names) >= 2
    assert ended_once(deathbed.framework, *names)
    assert deathbed.framework.states("long") == [TaskState.RUNNING]


@pytest.mark.parametrize("other", ["start", "boot"])
def test_another_process_with_a_recorded_pid_is_left_alone(deathbed: DeathBed, other: str) -> None:
    """The shim's pid belongs to another process: of another start time, or of another boot."""
    bed, name = deathbed, f"orphan-{other}"
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        bed.framework.run(name, "sleep 1000 & wait", executor_id=bed.new_executor(), limit_s=None)
        container_id = bed.framework.wait(name, TaskState.RUNNING).container_id
        bed.bed.kill_slave()
        path = bed.bed.work_dir / "containers" / container_id / "container.ckpt"
        checkpoint = read_checkpoint(path, ContainerCheckpoint)
        process = processes.read(stranger.pid)
        assert checkpoint.shim is not None
        assert process is not None
        wrong = (
            ProcessCheckpoint(checkpoint.shim.boot_id, stranger.pid, process.start_ticks - 1)
            if other == "start"
            else ProcessCheckpoint("another boot", stranger.pid, process.start_ticks)
        )
        write_checkpoint(path, msgspec.structs.replace(checkpoint, shim=wrong))
        bed.restart()
        assert bed.framework.wait_end(name).state is TaskState.FAILED
        bed.wait_clean()
        assert stranger.poll() is None
        assert ended_once(bed.framework, name)
        assert bed.long_pids() == bed.pids
    finally:
        stranger.kill()
        stranger.wait()
