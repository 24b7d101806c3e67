"""Faults of a slave's host: it is reset, pids are reused, the disk fills up, the wall clock jumps. And of a scheduler's host,
which is gone.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from helpers.cli import WAIT_S, listing, offerd, processes_with, wait_until
from helpers.recorder import Recorder, ended_once
from offerd.drivers.account import account_name
from offerd.ids import FrameworkID
from offerd.messages import Reason, TaskState
from offerd_cli.local_cluster import Daemon, LocalCluster
from offerd_linux import processes
from offerd_slave.checkpoint import read_checkpoint, write_checkpoint
from offerd_slave.records import ContainerCheckpoint, ProcessCheckpoint

RUNNING, FINISHED = TaskState.RUNNING, TaskState.FINISHED
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
DISK_BYTES = 8 << 20
SCHEDULER = """
import sys, time
from helpers.recorder import Recorder
from offerd.messages import TaskState
_, master, framework_id, failover_timeout_s, duration = sys.argv
framework = Recorder(master, framework_id=framework_id, failover_timeout_s=float(failover_timeout_s))
framework.__enter__()
framework.run("stays", f"exec sleep {duration}", limit_s=None)
framework.wait("stays", TaskState.RUNNING)
print("running", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster:
        yield cluster


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


# -- resets and pids ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not belong to offerd."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cut_power(cluster: LocalCluster) -> None:
    """Kill everything of the slave: only its files are left."""
    slave = psutil.Process(cluster.slaves[0].pid)
    everything = [slave, *slave.children(recursive=True)]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.kill_slave(0)
    _, alive = psutil.wait_procs(everything[1:], WAIT_S)
    assert not alive


def shim_was(cluster: LocalCluster, pid: int, *, same_start: bool) -> None:
    """Write this pid as the shim's into the checkpoint of the slave's only container."""
    work_dir = cluster.slaves[0].work_dir
    assert work_dir is not None
    (path,) = work_dir.glob("containers/*/container.ckpt")
    container = read_checkpoint(path, ContainerCheckpoint)
    assert container.shim is not None
    started = next(each.start_ticks for each in processes.everyone() if each.pid == pid)
    # Not the real shim's start: both may have begun within one tick.
    shim = ProcessCheckpoint(container.shim.boot_id, pid, started if same_start else started - 1)
    write_checkpoint(path, msgspec.structs.replace(container, shim=shim))


def test_a_reused_pid_is_not_taken_for_the_shim(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework, stranger() as other:
        framework.run("gone", f"exec sleep {duration}", limit_s=None)
        framework.wait("gone", RUNNING)
        cut_power(cluster)
        shim_was(cluster, other.pid, same_start=False)
        cluster.slaves[0].start()
        framework.wait_end("gone")
        cluster.wait_for_slaves(1)
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        assert ended_once(framework, "gone", "after")
        assert other.poll() is None


@pytest.mark.root
def test_after_a_reset_of_the_host_tasks_are_lost_once_and_no_old_pid_is_signalled(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    duration = unique()
    boot_id = tmp_path / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    with Recorder(cluster.address) as framework, stranger() as other:
        framework.run("gone", f"exec sleep {duration}", limit_s=None)
        framework.wait("gone", RUNNING)
        cut_power(cluster)
        # Only the boot id distinguishes this process from the shim: pid and start time are the same.
        shim_was(cluster, other.pid, same_start=True)
        slave = cluster.slaves[0]
        script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        slave.program = ["unshare", "-m", "sh", "-c", script, str(boot_id), *slave.program]
        slave.start()
        ended = framework.wait_end("gone")
        assert (ended.state, ended.reason) == (TaskState.LOST, Reason.HOST_REBOOTED), ended
        assert not framework.lost_slaves, "nobody waited for missed pings"
        cluster.wait_for_slaves(1)
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        assert ended_once(framework, "gone", "after")
        assert other.poll() is None


# -- disks --------------------------------------------------------------------------------------------------------------


class SmallDisk(LocalCluster):
    """One slave, whose work directory is on a disk of its own."""

    def __init__(self, disk: Path) -> None:
        options = ("--ping-interval", "500ms")
        super().__init__(slaves=1, cpus="4", mem="1G", isolation="noop", master_options=options)
        self.disk = disk

    def _slave(self, number: int) -> Daemon:
        daemon = super()._slave(number)
        daemon.words[daemon.words.index("--work-dir") + 1] = str(self.disk / "work")
        return daemon


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0711", "offerd", str(path)], check=True
    )
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def disk_state(cluster: LocalCluster) -> tuple[bool, dict[str, int]]:
    """Whether the master knows the disk of its only slave as full, and what of it is offered."""
    (slave,) = listing(cluster, "slaves")["slaves"]
    return slave["disk_full"], slave["offered"]


@pytest.mark.root
def test_a_full_disk_starts_nothing_loses_nothing_and_recovers_by_itself(disk: Path) -> None:
    duration = unique()
    filler = disk / "filler"
    with SmallDisk(disk) as cluster, Recorder(cluster.address) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        wait_until(lambda: processes_with(duration), "it to sleep")
        pids = processes_with(duration)
        with filler.open("wb", buffering=0) as file:
            for piece in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * piece)
        # More than the rest of the journal's last page can hold.
        names = [f"waits{number}" for number in range(80)]
        for name in names:
            framework.run(name, "true", cpus=0.02, mem="1M")
        wait_until(
            lambda: "cannot write to" in cluster.slaves[0].log.read_text(), "the slave to find its disk full"
        )
        waiting = [name for name in names if not any(state.terminal for state in framework.states(name))]
        assert waiting, "a task that cannot be written down is not started"
        wait_until(lambda: disk_state(cluster) == (True, {}), "offers of it to end", 10)
        framework.run("late", "true")
        assert b"disk full" in offerd(cluster, "slaves").stdout
        assert b"1 disk full" in offerd(cluster, "status").stdout
        assert b"their disks are full" in offerd(cluster, "explain", "recorder").stdout
        assert "late" not in framework.statuses
        filler.unlink()
        for name in waiting:
            ended = framework.wait_end(name)
            assert ended.state is FINISHED or ended.reason == Reason.DISK_PRESSURE, ended
            assert ended.state is FINISHED or RUNNING not in framework.states(name)
        assert framework.wait_end("late").state is FINISHED, "it is offered again"
        assert not disk_state(cluster)[0]
        assert ended_once(framework, *names, "late")
        assert framework.states("stays") == [RUNNING]
        assert processes_with(duration) == pids
        assert not framework.lost_slaves


# -- clocks -------------------------------------------------------------------------------------------------------------


class MovedClock(LocalCluster):
    """Daemons whose wall clock the test can move."""

    def __init__(self, clock: Path) -> None:
        self.clock = clock
        self.move("+0")
        options = ("--ping-interval", "500ms")
        super().__init__(slaves=1, cpus="4", mem="1G", isolation="noop", master_options=options)

    def __enter__(self) -> MovedClock:
        self.start()
        return self

    def move(self, offset: str) -> None:
        self.clock.write_text(f"{offset}\n")

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def is_off_by(self, least: datetime.timedelta, most: datetime.timedelta) -> bool:
        """Whether the master's clock is, when it next has something to log."""
        time.sleep(1)  # the clock is read once a second; and of one peer a master writes sixty lines a minute
        with Recorder(self.address):
            words = self.master.last_line().split(",")[0]
        try:
            logged = datetime.datetime.strptime(words, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            return False
        return least <= logged - datetime.datetime.now() <= most


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime: apt install faketime")
def test_wall_clock_that_jumps_ends_no_lease_and_no_time_limit_early(tmp_path: Path) -> None:
    duration = unique()
    days, minutes = datetime.timedelta(days=1), datetime.timedelta(minutes=1)
    with MovedClock(tmp_path / "clock") as cluster, Recorder(cluster.address) as framework:
        framework.run("limited", f"exec sleep {duration}", limit_s=59.0)
        framework.wait("limited", RUNNING)
        for offset, least, most in (("+2y", 700 * days, 760 * days), ("-1h", -61 * minutes, -59 * minutes)):
            cluster.move(offset)
            wait_until(lambda a=least, b=most: cluster.is_off_by(a, b), f"the clock to be at {offset}")  # type: ignore[misc]
            framework.run(f"at{offset}", "sleep 600", limit_s=1.0)
            begun = time.monotonic()
            ended = framework.wait_end(f"at{offset}")
            assert ended.reason == Reason.TASK_TIMEOUT
            assert time.monotonic() - begun >= 1.0, "no limit ends early"
            assert framework.states("limited") == [RUNNING]
            assert not framework.lost_slaves


# -- schedulers ---------------------------------------------------------------------------------------------------------


def killed_scheduler(cluster: LocalCluster, name: str, failover_timeout_s: float, duration: str) -> None:
    """Start a scheduler that launches a task, and kill it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    words = [cluster.address, name, str(failover_timeout_s), duration]
    with subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, *words], stdout=subprocess.PIPE, env=environment
    ) as scheduler:
        assert scheduler.stdout is not None
        assert scheduler.stdout.readline() == b"running\n"
        scheduler.send_signal(signal.SIGKILL)


def test_killed_scheduler_finds_its_task_if_it_returns_in_time(cluster: LocalCluster) -> None:
    duration = unique()
    mine = FrameworkID(f"returns@{account_name()}")
    killed_scheduler(cluster, mine, 120.0, duration)
    pids = processes_with(duration)
    assert pids
    with Recorder(cluster.address, framework_id=mine, failover_timeout_s=120.0) as framework:
        framework.driver.reconcile_tasks()
        framework.wait("stays", RUNNING)
        assert processes_with(duration) == pids
        framework.driver.kill_task(framework.statuses["stays"][0].task_id)
        assert framework.wait_end("stays").reason == Reason.KILLED_BY_FRAMEWORK
        assert ended_once(framework, "stays")


def test_tasks_of_a_killed_scheduler_are_ended_when_its_time_to_return_is_over(cluster: LocalCluster) -> None:
    duration = unique()
    killed_scheduler(cluster, f"gone@{account_name()}", 1.0, duration)
    assert processes_with(duration), "not before"
    wait_until(lambda: not processes_with(duration), "its task to be ended", 60)
