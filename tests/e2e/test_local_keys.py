"""Keys of clusters on this host: they are in the account's store as long as the cluster runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import offerd
from helpers.cli import begin, listing, wait_until, words
from helpers.cli import offerd as run_offerd
from helpers.ensemble import needs_zookeeper
from helpers.keyring import Keyring
from offerd.errors import KeyRefused
from offerd.masters.clusters import Store, own_store, resolve
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """An account that knows no cluster yet."""
    monkeypatch.setenv("OFFERD_CONFIG", str(tmp_path / "config"))
    yield own_store()
    assert own_store().read().known == {}, "a cluster is known that has ended"
    file = tmp_path / "config" / "clusters.toml"
    assert not file.exists() or "[cluster" not in file.read_text()


def small(**more: object) -> LocalCluster:
    return LocalCluster(1, cpus="2", mem="256M", isolation="noop", **more)  # type: ignore[arg-type]


def test_two_clusters_at_once_are_found_and_the_first_stays_current(store: Store) -> None:
    with small() as first, small() as second:
        assert (first.name, second.name, store.read().current) == ("local", "local-2", "local")
        for cluster in (first, second):
            with offerd.ClusterExecutor(cluster.address) as executor:
                assert executor.submit(os.getpid).result(30) > 0
        assert resolve().address.endswith(first.address)
        unasked = run_offerd(None, "run", "--", "echo", "hello")
        assert (unasked.returncode, unasked.stdout) == (0, b"hello\n"), unasked.stderr
        named = run_offerd(None, "status", "--master", "local-2", "--json")
        assert second.address.encode() in named.stdout
        ours, theirs = first.connection(), second.connection()
        assert ours.keys is not None
        assert theirs.keys is not None
        crossed = theirs._replace(keys=ours.keys._replace(master=theirs.keys.master))
        with pytest.raises(KeyRefused), offerd.OperatorClient(crossed) as asked:
            asked.cluster()
        store.use("local-2")
        with small() as third:
            assert (third.name, store.read().current) == ("local-3", "local-2")


def test_an_account_with_keys_to_another_cluster_starts_one_with_new_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    for name, value in Keyring(tmp_path / "keys").environment("ops").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OFFERD_MASTER", "10.0.0.1:5060")
    process = begin(None, "local", "--cpus", "2", "--mem", "256M", "--port", "0")
    assert process.stdout is not None
    said = b"".join(iter(process.stdout.readline, b"Ctrl-C ends everything and leaves nothing behind.\n"))
    assert b"  unset OFFERD_KEY OFFERD_MASTER_KEY\n  export OFFERD_MASTER=127.0.0.1:" in said
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    with small() as cluster, cluster.ask() as asked:
        assert len(list(asked.slaves())) == 1
        assert b"OFFERD_KEY=" not in Path(f"/proc/{cluster.slaves[0].pid}/environ").read_bytes()


def test_an_owner_that_is_killed_leaves_nothing_in_the_store(store: Store) -> None:
    process = begin(None, "local", "--slaves", "0", "--port", "0", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    assert list(store.read().known) == ["local"]
    process.kill()
    process.communicate(timeout=30)
    wait_until(
        lambda: "local" not in Path(store.directory, "clusters.toml").read_text(), "the name to be gone"
    )


def test_the_clusters_directory_is_only_for_its_owner_and_its_tasks(store: Store) -> None:
    with small() as cluster:
        assert run_offerd(cluster, "run", "--", "true").returncode == 0
        modes = {path.name: path.stat().st_mode & 0o777 for path in cluster.base.iterdir()}
        assert cluster.base.stat().st_mode & 0o777 == 0o711
        assert (modes["keys"], modes["master.log"], modes["slave-1.log"], modes["slave-1"]) == (
            0o700,
            0o600,
            0o600,
            0o711,
        )


def test_every_daemon_has_a_key_and_knows_its_owner_by_it() -> None:
    with small() as cluster:
        (slave,) = listing(cluster, "slaves")["slaves"]
        assert slave["slave_id"].endswith("@slave-1")
        cluster.restart_master()
        cluster.restart_slave(0)
        cluster.wait_for_slaves(1)
        assert run_offerd(cluster, "run", "--", "true").returncode == 0


@needs_zookeeper
def test_a_cluster_in_a_zookeeper_has_keys_and_is_found_by_its_address(store: Store) -> None:
    with small(masters=2, zk="auto", master_options=("--zk-session-timeout", "2s")) as cluster:
        assert store.read().known["local"].master == cluster.address
        assert resolve(cluster.address).keys is not None
        done = run_offerd(cluster, "run", "--", "echo", "hello")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
        old = cluster.kill_leader()
        wait_until(lambda: cluster.leader() is not old, "the other master to lead")
        cluster.wait_for_slaves(1)
        assert run_offerd(cluster, "run", "--", "true").returncode == 0


def test_a_cluster_that_cannot_be_written_down_is_not_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setenv("OFFERD_CONFIG", str(tmp_path / "file" / "config"))
        done = run_offerd(None, "local", "--slaves", "0", "--port", "0")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"cannot write the store of credentials" in done.stderr


MODULES = ("tomllib", "zmq", "msgspec", "offerd", "offerd_cli", "offerd_slave", "offerd_isolation", "offerd_executors",
           "offerd_linux", "pwd",
           "fcntl", "array", "cloudpickle", "psutil", "cryptography", "http", "selectors")  # fmt: skip


def test_nothing_is_imported_from_the_directory_in_which_a_cluster_is_started(tmp_path: Path) -> None:
    """Otherwise root, in a directory that everybody may write, would run another account's module."""
    found = tmp_path / "found"
    place = tmp_path / "place"
    place.mkdir()
    for module in MODULES:
        (place / f"{module}.py").write_text(
            f"open({str(found)!r}, 'a').write('{module}, ')\nraise ImportError\n"
        )
    process = subprocess.Popen(
        words("local", "--cpus", "2", "--mem", "256M", "--port", "0", "--isolation", "noop", "--json"),
        cwd=place, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        done = run_offerd(None, "run", "--", "true", cwd=place)
        assert done.returncode == 0, done.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert not found.exists(), found.read_text()
