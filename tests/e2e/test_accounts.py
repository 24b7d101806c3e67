"""Other accounts of a host on which root runs a cluster have no access, and root itself needs no settings."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.accounts import as_nobody, offerd_as_nobody
from helpers.cli import words
from offerd.masters.clusters import own_store
from offerd_cli.local_cluster import LocalCluster

pytestmark = pytest.mark.root

COMMANDS = (
    "run -- true", "map echo ::: a", "status", "slaves", "frameworks", "tasks --all", "top --once", "metrics", "logs t",
    "kill t",
    "explain f", "drain slave-1", "deactivate slave-1", "activate slave-1", "data ls", "data rm a", "data put a /etc/hostname",
    "mapreduce --mapper cat --reducer cat --input /etc/hostname --output /nonexistent/a", "mpi -n 1 -- true",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, cpus="2", mem="512M", isolation="noop") as running:
        yield running


@pytest.mark.parametrize("command", COMMANDS)
def test_another_account_has_no_key_for_the_cluster_whatever_it_tries(
    cluster: LocalCluster, command: str
) -> None:
    done = offerd_as_nobody(*command.split(), OFFERD_MASTER=cluster.address)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"no key for the cluster at {cluster.address} here" in done.stderr
    assert done.stdout == ""


def test_another_account_cannot_use_the_owners_store_of_keys(
    cluster: LocalCluster,
) -> None:
    store = own_store().directory
    done = offerd_as_nobody("status", OFFERD_CONFIG=store)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"cannot read the store of credentials {store}" in done.stderr
    home = offerd_as_nobody("status", XDG_CONFIG_HOME=store, OFFERD_MASTER=cluster.address)
    assert (home.returncode, "no key for the cluster" in home.stderr) == (1, True)


def test_another_account_reads_neither_keys_nor_logs_nor_the_store(cluster: LocalCluster) -> None:
    store = Path(own_store().directory)
    assert cluster.base.stat().st_mode & 0o777 == 0o711
    secrets = [*cluster.base.glob("keys/*"), *cluster.base.glob("*.log"), *store.rglob("*")]
    assert {"master.key", "authorized.toml", "slave-1.key", "master.log", "slave-1.log", "clusters.toml"} <= {
        path.name for path in secrets
    }
    for path in secrets:
        assert as_nobody("cat", "--", str(path)).returncode != 0, path
    for directory in (cluster.base, cluster.base / "keys", store):
        assert as_nobody("ls", "--", str(directory)).returncode != 0, directory


def test_the_owner_of_a_cluster_sets_nothing_and_may_run_tasks_as_others(cluster: LocalCluster) -> None:
    unset = {name: value for name, value in os.environ.items() if name != "OFFERD_MASTER"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words("run", *arguments), env=unset, capture_output=True, text=True, timeout=60, check=False
        )

    own_store().use(cluster.name)
    done = run("--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    other = run("--user", "nobody", "--", "sh", "-c", "id -un && touch here && cat here")
    # The masters accept the task; whether that account can read the Python depends on the host.
    assert (other.returncode, other.stdout) == (0, "nobody\n") or "EXECUTOR_NOT_LAUNCHED" in other.stderr


def test_a_slave_that_runs_as_root_refuses_a_master_without_keys_unless_insecure(tmp_path: Path) -> None:
    with LocalCluster(0, insecure=True) as plain:
        line = words(
            "slave", "--master", plain.address, "--work-dir", str(tmp_path / "work"), "--http-port", "0"
        )
        refused = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"no key for the master at {plain.address}" in refused.stderr
        assert "--insecure" in refused.stderr
        assert not (tmp_path / "work").exists()
        slave = subprocess.Popen([*line, "--insecure", "--ephemeral"], stderr=subprocess.PIPE, text=True)
        try:
            assert slave.stderr is not None
            lines = iter(slave.stderr.readline, "")
            assert any("WARNING without keys: whoever listens at" in line for line in lines)
            plain.wait_for_slaves(1)
        finally:
            slave.terminate()
            slave.communicate(timeout=30)
