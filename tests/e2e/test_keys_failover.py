"""Keys with hot standbys: one pair for all masters, and the owner of an id survives the leader that gave it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from helpers.cli import listing, offerd, wait_until
from helpers.ensemble import needs_zookeeper
from helpers.keyring import TABLES, Keyring
from helpers.recorder import Recorder
from offerd.addresses import tcp
from offerd.errors import FrameworkError, KeyRefused
from offerd.ids import owner_of
from offerd.messages import Reason, TaskState
from offerd.operator import OperatorClient
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_cli.local_cluster import Daemon, LocalCluster

pytestmark = needs_zookeeper


@pytest.fixture
def keyring(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """The tests use the key of `ops`, unless they say otherwise."""
    made = Keyring(tmp_path_factory.mktemp("keys"))
    for name, value in made.environment("ops").items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def cluster(keyring: Keyring) -> Iterator[LocalCluster]:
    with LocalCluster(
        slaves=1,
        masters=2,
        zk="auto",
        cpus="2",
        mem="512M",
        isolation="noop",
        master_options=(*keyring.master_words(), "--zk-session-timeout", "2s"),
        slave_options=("--key", keyring.file("host"), "--master-key", keyring.public("master")),
    ) as running:
        yield running


def _recorder(cluster: LocalCluster, keyring: Keyring, name: str) -> Recorder:
    """A scheduler with this principal's key."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in keyring.environment(name).items():
            patch.setenv(variable, value)
        return Recorder(cluster.address, role="science", failover_timeout_s=60.0)


def test_tasks_ids_and_refusals_are_the_same_under_the_next_leader(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    (slave,) = listing(cluster, "slaves")["slaves"]
    with _recorder(cluster, keyring, "alice") as framework:
        framework.run("stays", "sleep 60")
        framework.wait("stays", TaskState.RUNNING)
        mine = framework.driver.framework_id
        assert (owner_of(slave["slave_id"]), owner_of(mine)) == ("host", "alice")

        old = cluster.kill_leader()
        wait_until(lambda: cluster.leader() is not old, "the other master to lead")
        cluster.wait_for_slaves(1)
        framework.run("after", "true")
        assert framework.wait_end("after").state is TaskState.FINISHED

        assert [each["slave_id"] for each in listing(cluster, "slaves")["slaves"]] == [slave["slave_id"]]
        assert framework.driver.framework_id == mine
        assert framework.states("stays") == [TaskState.RUNNING]
        with pytest.raises(FrameworkError) as caught:
            _recorder(cluster, keyring, "bob").driver.run()
        assert caught.value.reason == Reason.NOT_AUTHORIZED
        assert offerd(cluster, "kill", "stays").returncode == 0
        assert framework.wait_end("stays").state is TaskState.KILLED


def _lets_in(master: Daemon, keyring: Keyring, name: str) -> bool:
    """Whether this master, leading or not, takes a connection under this key."""
    context = new_context()
    port = master.words[master.words.index("--port") + 1]
    client = Client(
        context, tcp(f"127.0.0.1:{port}", 0), codec.to_operator, monitored=True, keys=keyring.keys(name)
    )
    try:
        wait_until(lambda: client.link.socket.poll(0), "the handshake")
        return list(client.link.changes()) == [True]
    except KeyRefused:
        return False
    finally:
        client.close()
        context.term()


def test_a_standby_master_uses_the_keys_that_it_has_read_at_sighup(
    cluster: LocalCluster, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    (standby,) = (master for master in cluster.masters if master is not cluster.leader())
    tables = {name: table for name, table in TABLES.items() if name != "bob"}
    keyring.authorize({**tables, "stranger": TABLES["ops"]})
    assert (_lets_in(standby, keyring, "bob"), _lets_in(standby, keyring, "stranger")) == (True, False)
    standby.signal(signal.SIGHUP)
    wait_until(lambda: not _lets_in(standby, keyring, "bob"), "the key taken away to be refused")
    assert _lets_in(standby, keyring, "stranger")
    for name, value in keyring.environment("stranger").items():
        monkeypatch.setenv(name, value)
    cluster.kill_leader()
    wait_until(lambda: cluster.leader() is standby, "it to lead")
    with OperatorClient(cluster.address, timeout_s=30) as asked:
        assert asked.cluster()
