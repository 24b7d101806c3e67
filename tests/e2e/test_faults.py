"""Real daemons and processes, and what must hold when one of them dies."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.cli import listing, processes_with, wait_until
from helpers.recorder import COMMAND, Recorder, ended_once
from offerd.ids import ExecutorID
from offerd.messages import CommandInfo, ExecutorInfo, Reason, TaskState
from offerd_cli.local_cluster import LocalCluster

RUNNING, FINISHED, FAILED, KILLED = TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED, TaskState.KILLED


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster:
        yield cluster


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def executor_pid(cluster: LocalCluster) -> int:
    """The one executor of this cluster's one slave."""
    slave = psutil.Process(cluster.slaves[0].pid)
    (executor,) = [p for p in slave.children(recursive=True) if p.cmdline()[0].startswith("offerd-executor")]
    return executor.pid


def _environ(process: psutil.Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


# -- slaves -------------------------------------------------------------------------------------------------------------


def test_killed_slave_leaves_its_tasks_running_and_the_next_one_adopts_them(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.run("ends", "sleep 0.5; exit 7")
        framework.wait("stays", RUNNING)
        framework.wait("ends", RUNNING)
        (pid,) = processes_with(duration)
        cluster.kill_slave(0)
        (ending,) = [p for p in (pid,) if psutil.pid_exists(p)]
        wait_until(
            lambda: not _children_named(cluster, "sleep", "0.5"), "the other task to end without a slave"
        )
        cluster.restart_slave(0)
        ended = framework.wait_end("ends")
        assert (ended.state, ended.exit_status) == (FAILED, 7)
        assert processes_with(duration) == [ending], "the same process goes on"
        assert framework.states("stays") == [RUNNING]
        framework.driver.kill_task(framework.statuses["stays"][0].task_id)
        assert framework.wait_end("stays").reason == Reason.KILLED_BY_FRAMEWORK
        wait_until(lambda: processes_with(duration) == [], "the adopted task to be killed")
        assert ended_once(framework, "stays", "ends")


def _children_named(cluster: LocalCluster, *words: str) -> list[int]:
    mark = str(cluster.base)
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["cmdline"] == list(words)
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and mark in _environ(process)
    ]


def test_time_limit_goes_on_counting_while_the_slave_is_away(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework:
        framework.run("limited", f"exec sleep {duration}", limit_s=3.0)
        framework.wait("limited", RUNNING)
        cluster.restart_slave(0)
        ended = framework.wait_end("limited")
        assert (ended.state, ended.reason, ended.limit) == (KILLED, Reason.TASK_TIMEOUT, "time_limit_s=3")
        wait_until(lambda: processes_with(duration) == [], "its process to be gone")


def test_slave_killed_again_and_again_under_load_reports_every_task_once(cluster: LocalCluster) -> None:
    names = [f"t{i}" for i in range(120)]
    with Recorder(cluster.address) as framework:
        for number, name in enumerate(names):
            framework.run(name, f"sleep 0.05; exit {number % 3}", cpus=0.2)
        for wanted in (10, 40, 80):
            wait_until(
                lambda wanted=wanted: sum(bool(framework.statuses.get(n)) for n in names) >= wanted,  # type: ignore[misc]
                f"{wanted} tasks to have started",
                60,
            )
            cluster.restart_slave(0)
            cluster.wait_for_slaves(1)
        for name in names:
            framework.wait_end(name, 60)
        assert ended_once(framework, *names)
        for number, name in enumerate(names):
            last = framework.statuses[name][-1]
            if last.state in (FINISHED, FAILED) and last.exit_status is not None:
                assert last.exit_status == number % 3
            else:
                # The last reason: it was launched on an offer of the slave that died at that moment.
                assert last.reason in (
                    Reason.SLAVE_RESTARTED,
                    Reason.EXECUTOR_EXITED,
                    Reason.OFFER_INVALID,
                ), last


def test_frozen_slave_is_lost_and_comes_back_without_its_ended_tasks(tmp_path: Path) -> None:
    # a master that pings quickly, so that the test does not take half a minute
    with (
        LocalCluster(
            slaves=1, cpus="2", mem="512M", isolation="noop", master_options=("--ping-interval", "200ms")
        ) as cluster,
        Recorder(cluster.address) as framework,
    ):
        duration = unique()
        framework.run("away", f"exec sleep {duration}", limit_s=None)
        framework.wait("away", RUNNING)
        cluster.slaves[0].signal(signal.SIGSTOP)
        ended = framework.wait_end("away")
        assert (ended.state, ended.reason) == (TaskState.LOST, Reason.SLAVE_LOST)
        assert framework.lost_slaves
        cluster.slaves[0].signal(signal.SIGCONT)
        wait_until(lambda: processes_with(duration) == [], "the task reported as lost to be ended")
        cluster.wait_for_slaves(1)
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        assert ended_once(framework, "away", "after")


# -- masters ------------------------------------------------------------------------------------------------------------


def test_a_restarted_master_learns_everything_again_and_no_task_is_affected(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address, failover_timeout_s=60.0) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        (pid,) = processes_with(duration)
        cluster.restart_master()
        cluster.wait_for_slaves(1)
        framework.run("after", "exit 0")
        assert framework.wait_end("after", 60).state is FINISHED
        assert processes_with(duration) == [pid]
        running = [
            task["task_id"] for task in listing(cluster, "tasks")["tasks"] if task["state"] == "TASK_RUNNING"
        ]
        assert running == ["stays"]
        assert framework.states("stays").count(RUNNING) >= 1
        assert not any(state.terminal for state in framework.states("stays"))


# -- executors and shims ------------------------------------------------------------------------------------------------


def test_killed_executor_is_reported_with_its_signal_and_leaves_nothing(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework:
        framework.run("victim", f"setsid sleep {duration} & exec sleep {duration}", limit_s=None)
        framework.wait("victim", RUNNING)
        wait_until(lambda: len(processes_with(duration)) == 2, "both processes to run")
        os.kill(executor_pid(cluster), signal.SIGKILL)
        ended = framework.wait_end("victim")
        assert (ended.state, ended.reason, ended.exit_status) == (FAILED, Reason.EXECUTOR_EXITED, -9)
        assert processes_with(duration) == [], "the end is reported when nothing of it is left"
        wait_until(lambda: framework.lost_executors, "the scheduler to hear of its executor")
        assert framework.lost_executors == [("command", -9)]
        framework.run("next", "true")
        assert framework.wait_end("next").state is FINISHED


def test_killed_shim_takes_its_executor_and_tasks_with_it(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework:
        framework.run("victim", f"setsid sleep {duration} & exec sleep {duration}", limit_s=None)
        framework.wait("victim", RUNNING)
        wait_until(lambda: len(processes_with(duration)) == 2, "both processes to run")
        shim = psutil.Process(executor_pid(cluster)).ppid()
        os.kill(shim, signal.SIGKILL)
        ended = framework.wait_end("victim")
        assert (ended.state, ended.reason) == (FAILED, Reason.SHIM_DIED)
        assert processes_with(duration) == []


def test_executor_that_never_registers_is_ended_and_its_task_fails() -> None:
    duration = unique()
    silent = ExecutorInfo(ExecutorID("silent"), command=CommandInfo(argv=["sleep", duration]))
    options = ("--executor-registration-timeout", "500ms")
    with (
        LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop", slave_options=options) as cluster,
        Recorder(cluster.address, executors=(silent, COMMAND)) as framework,
    ):
        framework.run("never", "true", executor_id=silent.executor_id)
        ended = framework.wait_end("never")
        assert (ended.state, ended.reason) == (FAILED, Reason.EXECUTOR_REGISTRATION_TIMEOUT)
        assert processes_with(duration) == []
        framework.run("other", "true")
        assert framework.wait_end("other").state is FINISHED


def test_executor_program_that_does_not_exist_fails_its_tasks_with_the_reason(cluster: LocalCluster) -> None:
    missing = ExecutorInfo(ExecutorID("missing"), command=CommandInfo(argv=["/no/such/executor"]))
    with Recorder(cluster.address, executors=(missing,)) as framework:
        framework.run("t", "true", executor_id=missing.executor_id)
        ended = framework.wait_end("t")
        assert (ended.state, ended.reason) == (FAILED, Reason.EXECUTOR_NOT_LAUNCHED)
        assert "/no/such/executor" in ended.message


# -- time limits and frameworks -----------------------------------------------------------------------------------------


def test_task_over_its_limit_is_killed_with_children_that_left_its_session(cluster: LocalCluster) -> None:
    duration = unique()
    script = f"trap '' TERM; setsid env -i sleep {duration} & (setsid sleep {duration} &) ; while :; do sleep {duration}; done"
    with Recorder(cluster.address) as framework:
        framework.run("stubborn", script, limit_s=1.0, kill_grace_s=0.5)
        framework.wait("stubborn", RUNNING)
        wait_until(lambda: len(processes_with(duration)) == 3, "its children to run")
        ended = framework.wait_end("stubborn")
        assert (ended.state, ended.reason) == (KILLED, Reason.TASK_TIMEOUT)
        assert processes_with(duration) == []


def test_framework_that_leaves_takes_its_tasks_and_executors_with_it(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address) as framework:
        framework.run("left", f"exec sleep {duration}", limit_s=None)
        framework.wait("left", RUNNING)
    wait_until(lambda: processes_with(duration) == [], "its task to be ended")
    wait_until(lambda: listing(cluster, "slaves")["slaves"][0]["executors"] == 0, "its executor to be gone")


def test_bad_tasks_fail_alone_with_their_reasons(cluster: LocalCluster) -> None:
    with Recorder(cluster.address) as framework:
        framework.run("good", "sleep 2", cpus=1)
        framework.wait("good", RUNNING)
        framework.run("good", "true")
        framework.run("nothing-to-run", "")
        framework.run("unknown-executor", "true", executor_id=ExecutorID("nobody"))
        assert framework.wait_end("nothing-to-run").state in (TaskState.ERROR, FAILED)
        assert framework.wait_end("unknown-executor").reason == Reason.TASK_INVALID
        wait_until(lambda: len(framework.statuses["good"]) >= 2, "the duplicate to be refused")
        assert framework.statuses["good"][1].reason == Reason.TASK_ID_DUPLICATE
        wait_until(lambda: FINISHED in framework.states("good"), "the first of the name to finish")
