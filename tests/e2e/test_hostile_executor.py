"""Hostile executors beside a normal one: the slave runs on, stays small, and serves the other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import offerd
from helpers.cli import wait_until
from helpers.recorder import COMMAND, Recorder
from offerd.ids import ExecutorID
from offerd.messages import CommandInfo, ExecutorInfo, Reason, TaskState, TaskStatus
from offerd_cli.local_cluster import LocalCluster

TESTS = Path(__file__).resolve().parents[1]
MIB = 1 << 20
MOST_GROWTH_BYTES = 60 * MIB


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster:
        yield cluster


def hostile(what: str) -> ExecutorInfo:
    command = CommandInfo(
        argv=[sys.executable, "-m", "helpers.hostile_executor", what], environment={"PYTHONPATH": str(TESTS)}
    )
    return ExecutorInfo(ExecutorID(what), command=command)


def memory_bytes(cluster: LocalCluster) -> int:
    return int(psutil.Process(cluster.slaves[0].pid).memory_info().rss)


def journal_bytes(cluster: LocalCluster) -> int:
    path = cluster.slaves[0].work_dir
    assert path is not None
    return (path / "tasks.journal").stat().st_size


class Unresponsive(Recorder):
    """Handles one status and is then busy: the others are not acknowledged."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.may_go_on = threading.Event()

    def __enter__(self) -> Unresponsive:
        super().__enter__()
        return self

    def status_update(self, driver: offerd.SchedulerDriver, status: TaskStatus) -> None:
        self.may_go_on.wait()


def wait_for_registrations(cluster: LocalCluster, count: int) -> None:
    log = cluster.slaves[0].log
    wait_until(lambda: log.read_text().count("registered with master") == count, "the slave to be back")


def assert_serves(framework: Recorder, name: str) -> None:
    framework.run(name, "exit 0", executor_id=COMMAND.executor_id)
    assert framework.wait_end(name).state is TaskState.FINISHED


def test_a_status_with_an_impossible_number_ends_its_executor_and_no_slave(
    cluster: LocalCluster,
) -> None:
    pid = cluster.slaves[0].pid
    with Recorder(cluster.address, executors=(COMMAND, hostile("poison"))) as framework:
        framework.run("poisoned", executor_id=ExecutorID("poison"))
        ended = framework.wait_end("poisoned")
        assert (ended.state, ended.reason) == (TaskState.FAILED, Reason.EXECUTOR_INVALID)
        assert "sent something that is not a message of offerd" in ended.message
        assert cluster.slaves[0].pid == pid
        assert psutil.pid_exists(pid)
        for start in range(3):
            cluster.restart_slave(0)
            wait_for_registrations(cluster, start + 2)
            assert_serves(framework, f"after-{start}")


def test_a_message_without_an_end_costs_the_slave_no_memory(cluster: LocalCluster) -> None:
    with Recorder(cluster.address, executors=(COMMAND, hostile("parts"))) as framework:
        assert_serves(framework, "before")
        before = memory_bytes(cluster)
        framework.run("endless", executor_id=ExecutorID("parts"))
        ended = framework.wait_end("endless")
        assert ended.reason == Reason.EXECUTOR_INVALID
        assert "several parts" in ended.message
        assert memory_bytes(cluster) - before < MOST_GROWTH_BYTES
        assert_serves(framework, "after")


def test_unacknowledged_statuses_wait_in_their_executor_not_in_the_slave(
    cluster: LocalCluster,
) -> None:
    with Recorder(cluster.address) as framework:
        assert_serves(framework, "before")
        with Unresponsive(cluster.address, executors=(hostile("unheard"),)) as unresponsive:
            before = memory_bytes(cluster)
            unresponsive.run("talks", executor_id=ExecutorID("unheard"))
            log = cluster.slaves[0].log
            wait_until(
                lambda: "its executors wait until it acknowledges them" in log.read_text(),
                "the slave to say so",
            )
            assert_serves(framework, "meanwhile")
            assert memory_bytes(cluster) - before < MOST_GROWTH_BYTES
            assert journal_bytes(cluster) < MOST_GROWTH_BYTES
            unresponsive.may_go_on.set()


def test_registrations_with_unknown_tasks_cost_a_line_and_nothing_in_the_journal(
    cluster: LocalCluster,
) -> None:
    with Recorder(cluster.address, executors=(COMMAND, hostile("names"))) as framework:
        assert_serves(framework, "before")
        before, log = memory_bytes(cluster), cluster.slaves[0].log
        framework.run("names", executor_id=ExecutorID("names"))
        wait_until(
            lambda: log.read_text().count("16000 tasks that this slave has no record of") == 4,
            "four registrations",
        )
        assert_serves(framework, "after")
        assert memory_bytes(cluster) - before < MOST_GROWTH_BYTES
        assert journal_bytes(cluster) < MIB
        assert log.stat().st_size < MIB // 4
