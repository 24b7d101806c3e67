"""Two masters, a real ZooKeeper, and the end of the one that leads."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import begin, listing, offerd, processes_with, wait_until
from helpers.ensemble import needs_zookeeper
from helpers.recorder import Recorder, ended_once
from offerd.messages import Reason, TaskState
from offerd_cli.local_cluster import Daemon, LocalCluster

pytestmark = needs_zookeeper

RUNNING, FINISHED = TaskState.RUNNING, TaskState.FINISHED


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        slaves=2,
        masters=2,
        zk="auto",
        cpus="4",
        mem="1G",
        isolation="noop",
        master_options=("--zk-session-timeout", "2s"),
    ) as cluster:
        yield cluster


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, (out + err).decode()


def wait_for_another_leader(cluster: LocalCluster, old: Daemon) -> Daemon:
    """The master that leads instead of `old`."""
    (other,) = (master for master in cluster.masters if master is not old)
    wait_until(lambda: cluster.leader() is other, "the other master to lead")
    return other


def ages_of(cluster: LocalCluster) -> list[float]:
    """How long the task has run, and its framework and each slave have been registered, as listings show."""
    (task,) = listing(cluster, "tasks")["tasks"]
    (framework,) = listing(cluster, "frameworks")["frameworks"]
    slaves = sorted(listing(cluster, "slaves")["slaves"], key=lambda slave: str(slave["slave_id"]))
    return [task["ran_s"], framework["since_s"], *(slave["since_s"] for slave in slaves)]


def test_command_goes_on_when_the_leading_master_is_killed(cluster: LocalCluster, tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = ("sh", "-c", f"echo >> {started}; sleep 0.3; echo done")
    running = begin(cluster, "run", "--instances", "60", "--cpus", "0.5", "--timeout", "50s", "--", *command)
    wait_until(lambda: listing(cluster, "tasks")["tasks"], "tasks to run")
    old = cluster.kill_leader()
    status, output = finish(running)
    # A task whose launch had just reached the leader is lost with it, which is reported after a minute.
    lost = output.count("lost, TASK_UNKNOWN")
    assert (status, output.count("done")) == (1 if lost else 0, 60 - lost), output
    assert lost <= 16, "at most as many as fit at once"
    assert started.read_text().count("\n") == 60 - lost, "each once, and none that was reported as lost"
    wait_for_another_leader(cluster, old)


def test_tasks_run_through_a_failover_and_the_new_leader_knows_them(cluster: LocalCluster) -> None:
    duration = unique()
    with Recorder(cluster.address, failover_timeout_s=60.0) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        # It runs as soon as its shell does, which has yet to become the command.
        wait_until(lambda: processes_with(duration), "the command to run")
        pids = processes_with(duration)
        before = listing(cluster, "frameworks")["frameworks"][0]
        ages = ages_of(cluster)
        old = cluster.kill_leader()
        other = wait_for_another_leader(cluster, old)
        cluster.wait_for_slaves(2)
        wait_until(lambda: listing(cluster, "tasks")["tasks"], "the task to be known again")
        (task,) = listing(cluster, "tasks")["tasks"]
        assert (task["task_id"], task["state"]) == ("stays", "TASK_RUNNING")
        assert processes_with(duration) == pids
        wait_until(
            lambda: [f["state"] for f in listing(cluster, "frameworks")["frameworks"]] == ["active"],
            "the framework to be back",
        )
        (after,) = listing(cluster, "frameworks")["frameworks"]
        for same in ("framework_id", "name", "role", "used", "dominant_share"):
            assert after[same] == before[same], same
        assert all(now >= then > 0 for now, then in zip(ages_of(cluster), ages, strict=True)), ages
        status = listing(cluster, "status")
        assert (status["master"], status["leader"].rpartition(":")[2]) == (cluster.address, other.words[2])
        assert f", {status['leader']} leads".encode() in offerd(cluster, "status").stdout
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        framework.driver.kill_task(framework.statuses["stays"][0].task_id)
        assert framework.wait_end("stays").reason == Reason.KILLED_BY_FRAMEWORK
        assert ended_once(framework, "stays", "after")


def test_frozen_leader_is_replaced_and_ends_as_soon_as_it_wakes(cluster: LocalCluster) -> None:
    old = cluster.leader()
    old.signal(signal.SIGSTOP)
    try:
        wait_for_another_leader(cluster, old)
        cluster.wait_for_slaves(2)
    finally:
        old.signal(signal.SIGCONT)
    assert old.wait(5)
    assert old.exit_status == 1
    assert "no longer leads" in old.last_line() or "cannot be sure" in old.last_line()
    with Recorder(cluster.address) as framework:
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED


def test_standby_sends_an_operator_to_the_leader(cluster: LocalCluster) -> None:
    (standby,) = (master for master in cluster.masters if master is not cluster.leader())
    done = offerd(cluster, "slaves", "--master", f"127.0.0.1:{standby.words[2]}", *cluster.key_words())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"active") == 2


def test_leader_that_is_stopped_hands_over_at_once(cluster: LocalCluster) -> None:
    old = cluster.leader()
    old.signal(signal.SIGTERM)
    assert old.wait(5)
    assert old.exit_status == 0
    wait_for_another_leader(cluster, old)


def test_tasks_run_on_while_there_is_no_zookeeper_and_the_leader_ends(cluster: LocalCluster) -> None:
    duration = unique()
    assert cluster.zookeeper is not None
    with Recorder(cluster.address, failover_timeout_s=60.0) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        wait_until(lambda: processes_with(duration), "it has begun its program")
        pids = processes_with(duration)
        leader = cluster.leader()
        cluster.zookeeper.signal(signal.SIGKILL)
        cluster.zookeeper.wait(5)
        assert leader.wait(10), "a leader without ZooKeeper ends with its session's time-out"
        assert leader.exit_status == 1
        assert processes_with(duration) == pids
        cluster.zookeeper.start()
        leader.start()
        wait_until(lambda: cluster.leader().running, "one to lead", 30)
        cluster.wait_for_slaves(2)
        assert processes_with(duration) == pids
        framework.run("after", "true")
        assert framework.wait_end("after", 60).state is FINISHED
        assert framework.states("stays")[-1] is RUNNING
