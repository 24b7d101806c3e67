"""Slaves and schedulers that die: how soon their tasks are taken over, and how soon the death is noticed."""

from __future__ import annotations

import datetime
import signal
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import offerd
from children import child, receive
from figures import Bound, Findings, Row, Samples
from offerd.errors import OfferdError
from offerd.ids import ExecutorID, FrameworkID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, FrameworkInfo, Offer, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources
from offerd_cli.local_cluster import LocalCluster

COMMAND = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
TASKS = 1_000
WAIT_S = 60.0
PING_S = 1.0
MISSED = 5
FRAMEWORK = FrameworkID("bench-ha")


class Sleepers(offerd.Scheduler):
    """Runs `sleep` as many times as requested."""

    def __init__(self, master: str) -> None:
        self.changed = threading.Condition()
        self.wanted = 0
        self.launched = 0
        self.running: set[TaskID] = set()
        self.ended: list[TaskStatus] = []
        self.lost_at = 0.0
        framework = FrameworkInfo("sleepers", executors=[COMMAND], failover_timeout_s=600.0)
        self.driver = offerd.SchedulerDriver(self, framework, master)

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[Offer]) -> None:
        size = Resources.of(cpus="0.001", mem="1M")
        for offer in offers:
            number = min(self.wanted - self.launched, 200)
            tasks = [
                TaskInfo(
                    TaskID(f"s{self.launched + i}"),
                    size,
                    COMMAND.executor_id,
                    CommandInfo(argv=["sleep", "600"]),
                )
                for i in range(number)
            ]
            self.launched += len(tasks)
            driver.reply_to_offer(offer.offer_id, tasks, 0.1)

    def status_update(self, driver: offerd.SchedulerDriver, status: TaskStatus) -> None:
        with self.changed:
            if status.state is TaskState.RUNNING:
                self.running.add(status.task_id)
            elif status.state.terminal:
                self.running.discard(status.task_id)
                self.ended.append(status)
            self.changed.notify_all()

    def slave_lost(self, driver: offerd.SchedulerDriver, slave_id: str) -> None:
        with self.changed:
            self.lost_at = time.monotonic()
            self.changed.notify_all()

    def run(self, number: int) -> None:
        """Wait until that many tasks run."""
        self.wanted = number
        self.driver.revive_offers()
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.running) >= number or self.ended, WAIT_S):
                raise TimeoutError(f"{len(self.running)} of {number} tasks run")
        if self.ended:
            raise OfferdError(f"a task has ended: {self.ended[0]}")


def measure(quick: bool) -> Findings:
    findings = Findings()
    _restart(findings, 100 if quick else TASKS, 1 if quick else 3)
    _promotion(findings, 1 if quick else 5)
    _detection(findings)
    return findings


def _restart(findings: Findings, tasks: int, runs: int) -> None:
    """kill -9 a slave and start it again: time until its master has all its tasks back, and until it launches the next one."""
    options = ("--long-fraction", "1", "--resources", "cpus=8,mem=8G")
    back, next_one = [], []
    with LocalCluster(slaves=1, cpus="8", mem="8G", isolation="noop", slave_options=options) as cluster:
        framework = Sleepers(cluster.address)
        framework.driver.start()
        try:
            framework.run(tasks)
            for run in range(runs):
                cluster.kill_slave(0)
                begun = time.monotonic()
                cluster.slaves[0].start()
                back.append(_registered_at(cluster, tasks + run, begun) - begun)
                framework.run(tasks + run + 1)
                next_one.append(time.monotonic() - begun)
        finally:
            framework.driver.stop()
            framework.driver.join(10)
    bound = Bound(2.0, at_least=False)
    findings.rows += [
        Row(
            f"slave restart, {tasks:,} running tasks: start to re-adopted", "s", Samples.of(back), bound=bound
        ),
        Row(
            f"slave restart, {tasks:,} running tasks: start to the next task RUNNING",
            "s",
            Samples.of(next_one),
        ),
    ]


def _registered_at(cluster: LocalCluster, tasks: int, begun: float) -> float:
    """When the master registered the restarted slave with all its tasks."""
    with cluster.ask() as client:
        while time.monotonic() < begun + WAIT_S:
            (slave,) = client.slaves()
            at = time.monotonic() - slave.since_s
            if at > begun and slave.tasks == tasks:
                return at
            time.sleep(0.005)
    raise TimeoutError("the slave did not come back with its tasks")


class Candidate(offerd.Scheduler):
    """A scheduler that reports its changes of state on a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def standing_by(self, driver: offerd.SchedulerDriver, framework_id: str, master_id: str) -> None:
        self.pipe.send(("standing by", time.time()))

    def registered(self, driver: offerd.SchedulerDriver, framework_id: str, master_id: str) -> None:
        self.pipe.send(("active", time.time()))


def be_candidate(pipe: Connection, master: str) -> None:
    info = FrameworkInfo("ha", FRAMEWORK, executors=[COMMAND], failover_timeout_s=600.0)
    driver = offerd.SchedulerDriver(Candidate(pipe), info, master, stands_by=True)
    driver.start()
    if pipe.recv() == "fail over":
        pipe.send(("leaving", time.time()))
        driver.stop(failover=True)
        driver.join(10)
    pipe.recv()


def _promotion(findings: Findings, runs: int) -> None:
    """The active scheduler dies or leaves: time until the next one knows that it is active."""
    detected, left = [], []
    for run in range(2 * runs):
        with (
            LocalCluster(
                slaves=0, master_options=("--ping-interval", f"{PING_S:g}s"), insecure=True
            ) as cluster,
            ExitStack() as first_one,
        ):
            first = first_one.enter_context(child(be_candidate, cluster.address))
            # The master is new, so it gives a scheduler that was active before it a moment to come first.
            _expect(first, "standing by")
            _expect(first, "active")
            with child(be_candidate, cluster.address) as second:
                _expect(second, "standing by")
                if run % 2:
                    first.send("fail over")
                    leaving_at = _expect(first, "leaving")
                    left.append(_expect(second, "active") - leaving_at)
                else:
                    first_one.close()  # kills the process
                    active_at = _expect(second, "active")
                    detected.append(active_at - _logged(cluster.master.log, "stood by is active"))
    bound = Bound(1.0, at_least=False)
    findings.rows += [
        Row(
            "scheduler killed: death detected to the next one active", "s", Samples.of(detected), bound=bound
        ),
        Row("scheduler that fails over: leaving to the next one active", "s", Samples.of(left), bound=bound),
    ]


def _expect(pipe: Connection, what: str) -> float:
    """When a candidate reported this, which must be its next report."""
    said = receive(pipe, f"a scheduler to be {what}")
    assert isinstance(said, tuple)
    if said[0] != what:
        raise OfferdError(f"a scheduler is {said[0]} and should be {what}")
    return float(said[1])


def _logged(log: Path, words: str) -> float:
    """The wall-clock time of the master's last log line with these words."""
    line = [line for line in log.read_text().splitlines() if words in line][-1]
    return datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _detection(findings: Findings) -> None:
    """A frozen slave: the time until its loss is reported, compared with the configured time."""
    options = ("--ping-interval", f"{PING_S:g}s", "--missed-pings", str(MISSED))
    with LocalCluster(slaves=1, isolation="noop", master_options=options) as cluster:
        framework = Sleepers(cluster.address)
        framework.driver.start()
        framework.driver.wait_registered(WAIT_S)
        try:
            frozen_at = time.monotonic()
            cluster.slaves[0].signal(signal.SIGSTOP)
            with framework.changed:
                if not framework.changed.wait_for(lambda: framework.lost_at, WAIT_S):
                    raise TimeoutError("the frozen slave was never called lost")
            cluster.slaves[0].signal(signal.SIGCONT)
        finally:
            framework.driver.stop()
            framework.driver.join(10)
    off_s = framework.lost_at - frozen_at - PING_S * MISSED
    findings.rows.append(
        Row(
            f"frozen slave called lost, after the configured {PING_S * MISSED:g} s",
            "s",
            Samples.of([off_s]),
            bound=Bound(1.0, at_least=False),
        )
    )
