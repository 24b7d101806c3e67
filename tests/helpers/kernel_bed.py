"""A whole cluster for the kernel ring: a real master and a real slave with the cgroups module, and a framework.

In a guest the start of a Python costs seconds, so the daemons are forked from one process that has imported them.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from helpers.recorder import COMMAND, Recorder
from offerd.ids import TaskID
from offerd.messages import ExecutorInfo, TaskState
from offerd.resources import Resources
from offerd_isolation import mounts
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_linux import processes
from offerd_master.options import MasterOptions
from offerd_master.process import run_master
from offerd_master.settings import MasterSettings
from offerd_slave.options import SlaveOptions
from offerd_slave.process import run_slave
from offerd_slave.settings import SlaveSettings

T = TypeVar("T")
SLICE = Path("/sys/fs/cgroup/offerd.slice")
PATIENCE_S = 120.0
"""How long anything may take in an emulated guest on a busy host."""
SETTINGS = SlaveSettings(kill_margin_s=5.0)
"""An emulated executor is slow."""
MASTER_SETTINGS = MasterSettings(max_missed_pings=60)
"""A slave in an emulated guest on a busy host may be silent for half a minute, and must not be lost for that."""
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["helpers.kernel_bed", "helpers.recorder"])


def wait_until(condition: Callable[[], T], what: str, limit_s: float = PATIENCE_S) -> T:
    """The first true value of `condition`; an AssertionError that says `what` did not happen."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not happen within {limit_s:.0f} s: {what}"
        time.sleep(0.01)
    return value


def leaf(name: str) -> Path:
    """The cgroup of a task, which may not exist any more."""
    found = list(SLICE.glob(f"*/tasks/task-{name}"))
    return found[0] if found else SLICE / "gone" / name


def leaves() -> list[str]:
    """The tasks that have a cgroup."""
    return sorted(path.name.removeprefix("task-") for path in SLICE.glob("*/tasks/task-*"))


def cpu_s(name: str) -> float:
    """Cpu seconds that a task has used."""
    fields = (leaf(name) / "cpu.stat").read_text().split()
    return int(fields[fields.index("usage_usec") + 1]) / 1e6


def shares(window_s: float, *names: str) -> list[float]:
    """How many cpus each of these tasks uses during `window_s`."""
    before, started = [cpu_s(name) for name in names], time.monotonic()
    time.sleep(window_s)
    used = [cpu_s(name) - then for name, then in zip(names, before, strict=True)]
    elapsed_s = time.monotonic() - started
    return [each / elapsed_s for each in used]


def populated(name: str) -> bool:
    """Whether a process of the task runs."""
    try:
        return "populated 1" in (leaf(name) / "cgroup.events").read_text()
    except OSError as error:
        # ENODEV: the cgroup was removed between the opening of the file and the reading of it.
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


class KernelBed:
    """A context manager; `framework` is a recorder. The slave offers `cpus`, whatever the guest has: tests compare shares."""

    def __init__(
        self,
        *,
        isolation: str = "cgroups",
        limits: IsolationOptions = DEFAULT_OPTIONS,
        cpus: float = 8,
        mem: str = "4G",
        user: str = "",
        settings: SlaveSettings = SETTINGS,
        master_settings: MasterSettings = MASTER_SETTINGS,
        slave: Callable[[SlaveOptions], int] = run_slave,
        executors: tuple[ExecutorInfo, ...] = (COMMAND,),
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="offerd-kernel-"))
        self._folder.chmod(0o711)  # pytest's own directories are closed to other users
        self.work_dir = self._folder / "work"
        self._address_file = self._folder / "master.address"
        self._isolation, self._limits, self._settings = isolation, limits, settings
        self._resources = Resources.of(cpus=cpus, mem=mem)
        self._user = user
        self._run_slave, self._executors = slave, executors
        master_options = MasterOptions(
            port=0, insecure=True, address_file=self._address_file, settings=master_settings
        )
        self.master = self._fork(run_master, master_options)
        self.address = wait_until(self._read_address, "the master listens")
        self.slave = self._start_slave()
        self.framework = self.new_framework()
        self.framework.__enter__()

    def _fork(self, run: Callable[[T], int], options: T) -> BaseProcess:
        process = _forks.Process(target=run, args=(options,))
        process.start()
        return process

    def _read_address(self) -> str:
        return self._address_file.read_text().strip() if self._address_file.exists() else ""

    def new_framework(self) -> Recorder:
        made = Recorder(self.address, user=self._user, executors=self._executors)
        made.patience_s = PATIENCE_S
        return made

    def _start_slave(self) -> BaseProcess:
        options = SlaveOptions(
            insecure=True,
            master=self.address,
            http_port=0,
            work_dir=self.work_dir,
            resources=self._resources,
            isolation=self._isolation,
            limits=self._limits,
            settings=self._settings,
            default_user="root" if os.geteuid() == 0 else "",
        )
        return self._fork(self._run_slave, options)

    def kill_slave(self) -> None:
        """Kill the slave with SIGKILL."""
        assert self.slave.pid is not None
        os.kill(self.slave.pid, signal.SIGKILL)
        self.slave.join()

    def restart_slave(self) -> None:
        self.slave = self._start_slave()

    def executor_pids(self) -> list[int]:
        """The pids of executors, found by their title."""
        return [each.pid for each in processes.everyone() if _title(each.pid).startswith("offerd-executor")]

    def close(self) -> None:
        """End the framework with all its tasks and executors, then the daemons."""
        self.framework.__exit__(None, None, None)
        with suppress(AssertionError):
            wait_until(lambda: not list(SLICE.glob("*/executor")), "no containers")
        for daemon in (self.slave, self.master):
            daemon.terminate()
            daemon.join(PATIENCE_S)
        mounts.release_below(Path(self._folder))  # for a container that the slave had no time to destroy
        shutil.rmtree(self._folder)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def kernel_bed(**more: Any) -> Iterator[KernelBed]:
    """A cluster that is always closed."""
    made = KernelBed(**more)
    try:
        yield made
    finally:
        made.close()


def start(bed: KernelBed, name: str, shell: str, **more: object) -> None:
    """Start a task, and wait until it runs."""
    bed.framework.run(name, shell, **more)  # type: ignore[arg-type]
    bed.framework.wait(name, TaskState.RUNNING)


def kill(bed: KernelBed, *names: str) -> None:
    """Kill these tasks, and wait for their ends."""
    for name in names:
        bed.framework.driver.kill_task(TaskID(name))
    for name in names:
        bed.framework.wait_end(name)
