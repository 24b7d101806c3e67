"""A default cluster of root, and an account of the same host without a key: no port, path socket or file answers it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.recorder import Recorder
from offerd.messages import TaskState
from offerd_cli.local_cluster import LocalCluster

pytestmark = pytest.mark.root

HELPER = Path(__file__).resolve().parents[1] / "helpers" / "stranger.py"
NOBODY = 65534


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster as `offerd local` makes it, with the default keys."""
    with LocalCluster(slaves=2, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


def as_nobody(*arguments: str) -> list[dict[str, object]]:
    """What the helper found, run as `nobody`."""
    done = subprocess.run(
        [sys.executable, str(HELPER), str(NOBODY), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def processes(cluster: LocalCluster) -> list[psutil.Process]:
    """The daemons, and all processes that they have started."""
    found = []
    for daemon in cluster.daemons():
        process = psutil.Process(daemon.pid)
        found += [process, *process.children(recursive=True)]
    return found


def test_no_port_that_the_cluster_listens_on_answers_without_a_key(cluster: LocalCluster) -> None:
    with Recorder(cluster.address) as framework:
        framework.run("t", "sleep 30")
        framework.wait("t", TaskState.RUNNING)
        listening = {
            f"{where.laddr.ip}:{where.laddr.port}"
            for process in processes(cluster)
            for where in process.net_connections("tcp")
            if where.status == psutil.CONN_LISTEN
        }
        assert cluster.address in listening
        assert len(listening) >= 3, "the master's port and each slave's files"
        found = as_nobody(*sorted(listening))
        framework.driver.kill_task(framework.statuses["t"][0].task_id, 0.0)
        framework.wait_end("t")
    assert [one["answers"] for one in found] == [[]] * len(listening), found


def test_no_path_socket_of_the_cluster_takes_connections_of_another_account(cluster: LocalCluster) -> None:
    with Recorder(cluster.address) as framework:
        framework.run("t", "sleep 30")
        framework.wait("t", TaskState.RUNNING)
        paths = {
            str(where.laddr)
            for process in processes(cluster)
            for where in process.net_connections("unix")
            if where.laddr
        }
        assert any(path.startswith(str(cluster.base)) for path in paths), (
            "the executors' sockets are among them"
        )
        assert [path for path in paths if path.startswith("@")] == [], "an abstract socket has no owner"
        found = as_nobody(*sorted(paths))
        framework.driver.kill_task(framework.statuses["t"][0].task_id, 0.0)
        framework.wait_end("t")
    assert [one for one in found if one["answers"]] == []


def test_no_file_of_the_cluster_can_be_read_by_another_account(cluster: LocalCluster) -> None:
    with Recorder(cluster.address) as framework:
        framework.run("t", "echo secret; echo more >&2; echo kept > file")
        framework.wait_end("t")
        # Where the master listens is no secret: whoever looks for ports finds it.
        files = [
            str(path) for path in cluster.base.rglob("*") if path.is_file() and path.suffix != ".address"
        ]
        assert any(path.endswith("/file") for path in files), "the sandbox is among them"
        found = as_nobody(*files)
    assert [one for one in found if one["answers"]] == []
