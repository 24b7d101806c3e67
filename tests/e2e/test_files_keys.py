"""Slaves' files with keys and real daemons: who may read what, and that all readers of files work."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from helpers.cli import environment, wait_until, words
from helpers.keyring import TABLES, Keyring
from helpers.recorder import Recorder
from offerd import ClusterExecutor
from offerd.drivers.account import account_name
from offerd.files_access import FilesAccess, data_path
from offerd.files_client import FileNotServed, FilesClient
from offerd.files_connection import FilesConnection
from offerd.ids import ContainerID
from offerd.messages import TaskState
from offerd.operator import OperatorClient
from offerd_cli.local_cluster import LocalCluster
from offerd_frameworks import mapreduce
from offerd_frameworks.mapreduce import blocks


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """Two owners whose tasks run as one user, so that only tokens separate them."""
    made = Keyring(tmp_path_factory.mktemp("keys"))
    owner = f'roles = ["*"]\nusers = ["{account_name()}"]'
    made.authorize(TABLES | {"alice": owner, "bob": owner})
    return made


@pytest.fixture(scope="module")
def cluster(keyring: Keyring) -> Iterator[LocalCluster]:
    """Two slaves with the key of `host`; the tests use the key of `ops`."""
    slave_words = ("--key", keyring.file("host"), "--master-key", keyring.public("master"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keyring.environment("ops").items():
            patch.setenv(name, value)
        running = LocalCluster(
            2, cpus="2", mem="512M", isolation="noop",
            master_options=tuple(keyring.master_words()), slave_options=slave_words,
        )  # fmt: skip
        with running:
            yield running


@contextmanager
def speaking_as(keyring: Keyring, name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in keyring.environment(name).items():
            patch.setenv(variable, value)
        yield


def offerd_as(
    keyring: Keyring, name: str, cluster: LocalCluster, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*arguments),
        env=environment(cluster, **keyring.environment(name)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def access_of(keyring: Keyring, name: str, cluster: LocalCluster, hostname: str = "slave-1") -> FilesAccess:
    """The access that the master gives this principal."""
    with speaking_as(keyring, name), OperatorClient(cluster.address) as client:
        return next(slave.files for slave in client.slaves() if slave.info.hostname == hostname)


def ask(
    files: FilesAccess, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    with closing(FilesConnection(files, timeout_s=10)) as connection:
        response = connection.ask(method, path, body, headers)
        return response.status, response.read()


@pytest.fixture(scope="module")
def sandbox(cluster: LocalCluster, keyring: Keyring) -> Iterator[tuple[str, ContainerID]]:
    """The host and the container of a task of alice's that has written `secret` to its stdout, and runs."""
    with speaking_as(keyring, "alice"):
        recorder = Recorder(cluster.address)
    with recorder as framework:
        framework.run("secret-task", "echo secret; sleep 600", limit_s=None)
        status = framework.wait("secret-task", TaskState.RUNNING)
        with OperatorClient(cluster.address) as client:
            (task,) = client.find_task(status.task_id)
        files = access_of(keyring, "alice", cluster, task.hostname)
        with FilesClient(files) as client:
            wait_until(
                lambda: client.read(status.container_id, "tasks/secret-task/stdout") == b"secret\n", "it"
            )
        yield task.hostname, status.container_id
        framework.driver.kill_task(status.task_id)
        framework.wait_end("secret-task")


def test_a_stranger_reads_nothing_of_a_slave(
    cluster: LocalCluster, keyring: Keyring, sandbox: tuple[str, ContainerID]
) -> None:
    hostname, container_id = sandbox
    address = access_of(keyring, "ops", cluster, hostname).address
    for path in ("/", f"/containers/{container_id}/tasks/secret-task/stdout", "/data/", "/statistics"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
                connection.request(method, path, b"x" if method == "PUT" else None)
                response = connection.getresponse()
                assert (response.status, b"secret" in response.read()) == (401, False)
    log = "".join(slave.log.read_text() for slave in cluster.slaves)
    assert "was refused: files need a token" in log


def test_another_owner_reads_and_writes_nothing_of_alices(
    cluster: LocalCluster, keyring: Keyring, sandbox: tuple[str, ContainerID]
) -> None:
    hostname, container_id = sandbox
    alices, bobs = (access_of(keyring, name, cluster, hostname) for name in ("alice", "bob"))
    path = f"/containers/{container_id}/tasks/secret-task/stdout"
    assert ask(alices, "GET", path) == (200, b"secret\n")
    assert ask(bobs, "GET", path)[0] == 404
    assert ask(bobs, "GET", f"/containers/{container_id}")[0] == 404
    assert b"secret-task" in ask(alices, "GET", "/statistics")[1]
    assert b"secret-task" not in ask(bobs, "GET", "/statistics")[1]
    mine = data_path("alice", "private", "a")
    assert ask(alices, "PUT", mine, b"secret")[0] == 201
    for method, status in (("GET", 404), ("PUT", 403), ("DELETE", 404)):
        assert ask(bobs, method, mine, b"x" if method == "PUT" else None)[0] == status
    assert ask(alices, "GET", mine) == (200, b"secret")
    assert ask(alices, "DELETE", data_path("alice", "private"))[0] == 200


def test_an_operator_reads_all_and_follows_any_log(
    cluster: LocalCluster, keyring: Keyring, sandbox: tuple[str, ContainerID]
) -> None:
    hostname, container_id = sandbox
    files = access_of(keyring, "ops", cluster, hostname)
    assert ask(files, "GET", f"/containers/{container_id}/tasks/secret-task/stdout") == (200, b"secret\n")
    logs = offerd_as(keyring, "ops", cluster, "logs", "secret-task")
    assert (logs.returncode, logs.stdout) == (0, "secret\n"), logs.stderr

    def top() -> subprocess.CompletedProcess[str]:
        return offerd_as(keyring, "ops", cluster, "top", "--once", "--every", "100ms")

    wait_until(lambda: "slave-" in top().stdout, "a row of what the task uses")


def test_run_and_map_bring_their_outputs_with_keys(cluster: LocalCluster, keyring: Keyring) -> None:
    ran = offerd_as(keyring, "bob", cluster, "run", "--", "sh", "-c", "echo out; echo err >&2")
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran.stderr
    assert "err\n" in ran.stderr
    large = offerd_as(keyring, "bob", cluster, "map", "--", "seq", "{}", ":::", "20000", "20001")
    assert (large.returncode, large.stdout.count("\n")) == (0, 40_001), large.stderr


def test_large_results_of_calls_come_with_keys(cluster: LocalCluster, keyring: Keyring) -> None:
    def letters(number: int) -> str:
        return "x" * number

    with (
        speaking_as(keyring, "alice"),
        ClusterExecutor(cluster.address, cpus="0.1", mem="32M") as executor,
    ):
        assert len(executor.submit(letters, 3_000_000).result(60)) == 3_000_000


def test_mapreduce_over_data_sets_across_slaves_with_keys(
    cluster: LocalCluster, keyring: Keyring, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"word{number % 7} tail\n" for number in range(20_000)))
    put = offerd_as(
        keyring, "alice", cluster, "data", "put", "--block-size", "16K", "--replicas", "1", "words", str(text)
    )
    assert put.returncode == 0, put.stderr
    listed = offerd_as(keyring, "alice", cluster, "data", "ls")
    assert "words" in listed.stdout
    assert "words" not in offerd_as(keyring, "bob", cluster, "data", "ls").stdout
    assert offerd_as(keyring, "bob", cluster, "data", "rm", "words").returncode == 2
    assert offerd_as(keyring, "bob", cluster, "data", "rm", "--owner", "alice", "words").returncode == 2
    assert "words" not in offerd_as(keyring, "bob", cluster, "data", "ls", "--owner", "alice").stdout
    assert "words" in offerd_as(keyring, "ops", cluster, "data", "ls", "--owner", "alice").stdout

    def count(line: str) -> Iterator[tuple[str, int]]:
        yield line.split()[0], 1

    def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key, sum(values)

    with (
        speaking_as(keyring, "alice"),
        mapreduce.MapReduce(cluster.address) as framework,
    ):
        job = mapreduce.python_job(
            count, total, input="data:words", output=tmp_path / "out", reduces=2, cpus="0.2", mem="32M"
        )
        summary = framework.submit(job).result(90)
    counts = sorted(
        line for part in (tmp_path / "out").glob("part-*") for line in part.read_text().split("\n") if line
    )
    expected = sorted(f"word{n}\t{20_000 // 7 + (n < 20_000 % 7)}" for n in range(7))
    assert counts == expected
    assert summary.maps > 4
    with speaking_as(keyring, "alice"):
        wait_until(
            lambda: blocks.names(blocks.hosts(cluster.address)) == ["words"], "the job's files to be gone"
        )
    assert offerd_as(keyring, "ops", cluster, "data", "rm", "--owner", "alice", "words").returncode == 0
    assert "words" not in offerd_as(keyring, "alice", cluster, "data", "ls").stdout


def test_access_to_one_slaves_files_is_refused_by_another_slave(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    one, other = (access_of(keyring, "ops", cluster, f"slave-{number}") for number in (1, 2))
    assert ask(one, "GET", "/statistics")[0] == 200
    forged = FilesAccess(other.address, other.fingerprint, one.name, other.generation, one.key, one.operator)
    assert ask(forged, "GET", "/statistics")[0] == 401


def test_access_survives_a_restart_of_the_slave(
    cluster: LocalCluster, keyring: Keyring, sandbox: tuple[str, ContainerID]
) -> None:
    hostname, container_id = sandbox
    held = access_of(keyring, "alice", cluster, hostname)
    cluster.kill_slave(number := int(hostname.partition("-")[2]) - 1)
    cluster.restart_slave(number)
    host, _, port = held.address.rpartition(":")

    def is_served() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    wait_until(is_served, "its files to be served again")
    with FilesClient(held) as client:
        assert client.read(container_id, "tasks/secret-task/stdout") == b"secret\n"
        with pytest.raises(FileNotServed):
            client.read(container_id, "none")
