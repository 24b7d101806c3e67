"""Slaves that an operator deactivates, drains and activates again."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import begin, listing, offerd, processes_with, wait_until
from helpers.recorder import Recorder, ended_once
from offerd.messages import Reason, TaskState
from offerd_cli.local_cluster import LocalCluster

RUNNING, FINISHED = TaskState.RUNNING, TaskState.FINISHED


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster:
        yield cluster


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def operate(cluster: LocalCluster, *words: str) -> None:
    done = offerd(cluster, *words)
    assert done.returncode == 0, done.stderr


def states(cluster: LocalCluster) -> dict[str, str]:
    return {slave["hostname"]: slave["state"] for slave in listing(cluster, "slaves")["slaves"]}


def test_a_deactivated_slave_keeps_its_tasks_and_gets_no_new_ones_through_restarts(
    cluster: LocalCluster,
) -> None:
    duration = unique()
    with Recorder(cluster.address, failover_timeout_s=60.0) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        wait_until(lambda: processes_with(duration), "it to sleep")
        pids = processes_with(duration)
        operate(cluster, "deactivate", "slave-1")
        framework.run("waits", "true")
        cluster.restart_slave(0)
        wait_until(lambda: "registered with" in cluster.slaves[0].last_line(), "the slave to be back")
        assert states(cluster) == {"slave-1": "deactivated"}
        cluster.restart_master()
        wait_until(lambda: states(cluster) == {"slave-1": "deactivated"}, "the new master to know it")
        wait_until(
            lambda: [f["state"] for f in listing(cluster, "frameworks")["frameworks"]] == ["active"],
            "the framework to be back",
        )
        assert framework.states("waits") == []
        assert framework.states("stays")[-1] is RUNNING
        assert processes_with(duration) == pids
        operate(cluster, "deactivate", "slave-1", "--undo")
        assert framework.wait_end("waits").state is FINISHED
        assert ended_once(framework, "waits")


def test_a_drained_slave_stays_drained_through_restarts_and_new_masters(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    done = tmp_path / "done"
    with Recorder(cluster.address, failover_timeout_s=60.0) as framework:
        framework.run("stays", f"while [ ! -e {done} ]; do sleep 0.05; done", limit_s=None)
        framework.wait("stays", RUNNING)
        drain = begin(cluster, "drain", "slave-1")
        wait_until(lambda: states(cluster) == {"slave-1": "draining"}, "it to drain")
        framework.run("waits", "true")
        # The slave remembers the drain, so it goes on whatever is restarted, also for a waiting client.
        cluster.restart_slave(0)
        cluster.restart_master()
        wait_until(lambda: states(cluster) == {"slave-1": "draining"}, "all to be back")
        assert framework.states("stays")[-1] is RUNNING
        assert drain.poll() is None
        done.touch()
        assert framework.wait_end("stays").state is FINISHED
        _, said = drain.communicate(timeout=30)
        assert drain.returncode == 0, said
        assert b"slave-1 is draining; 1 task runs there" in said
        assert b"slave-1 is drained; `offerd activate slave-1` offers it again" in said
        # As systemd does for a unit with Restart=always.
        cluster.restart_slave(0)
        wait_until(lambda: "registered with" in cluster.slaves[0].last_line(), "the slave to be back")
        assert states(cluster) == {"slave-1": "drained"}
        shown = offerd(cluster, "status").stdout.decode()
        assert "1 drained" in shown
        assert re.search(r"cpus .* 0%  0 of 0  and [\d.]+ drained\n", shown), shown
        assert framework.states("waits") == []
        operate(cluster, "activate", "slave-1")
        assert framework.wait_end("waits").state is FINISHED
        assert ended_once(framework, "stays", "waits")


def test_a_drain_with_a_deadline_ends_tasks_gracefully_or_after_their_grace(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    goodbye, stubborn = tmp_path / "goodbye", unique()
    polite = f"trap 'echo bye > {goodbye}; exit 0' TERM; while :; do sleep 0.05; done"
    with (
        LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster,
        Recorder(cluster.address, failover_timeout_s=60.0) as framework,
    ):
        framework.run("polite", polite, kill_grace_s=20.0)
        framework.run("stubborn", f"trap '' TERM; sleep {stubborn}", kill_grace_s=3.0)
        framework.wait("polite", RUNNING)
        framework.wait("stubborn", RUNNING)
        wait_until(lambda: processes_with(stubborn), "the stubborn one to sleep")
        operate(cluster, "drain", "--no-wait", "--deadline", "1h", "slave-1")
        # A second drain shortens the deadline, also from the slave's own host.
        asked = begin(None, "slave", "--drain", "--kill", "--work-dir", str(cluster.slaves[0].work_dir))
        # The stubborn task has not ended: a new master learns of the drain from the slave.
        cluster.restart_master()
        for name in ("polite", "stubborn"):
            ended = framework.wait_end(name)
            assert ended.reason == Reason.SLAVE_DRAINING, ended
        assert goodbye.read_text() == "bye\n"
        assert processes_with(stubborn) == []
        _, said = asked.communicate(timeout=30)
        assert asked.returncode == 0, said
        wait_until(lambda: states(cluster) == {"slave-1": "drained"}, "the new master to know it")
        operate(cluster, "drain", "slave-1")  # it is drained already
        activated = offerd(None, "slave", "--activate", "--work-dir", str(cluster.slaves[0].work_dir))
        assert activated.returncode == 0, activated.stderr
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        assert ended_once(framework, "polite", "stubborn", "after")
