"""Keys with real daemons: which principals are accepted, and how others are logged and counted."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import environment, wait_until, words
from helpers.keyring import TABLES, Keyring
from helpers.recorder import Recorder
from offerd import messages as m
from offerd.addresses import tcp
from offerd.credentials.keys import KEY_VARIABLE, MASTER_KEY_VARIABLE, Keys, public_of, read_secret
from offerd.errors import FrameworkError, KeyRefused, OfferdError
from offerd.ids import FrameworkID, SlaveID, owner_of
from offerd.messages import Reason, TaskState
from offerd.operator import OperatorClient
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import Client, new_context
from offerd_cli.local_cluster import LocalCluster

WAIT_MS = 20_000
LITTLE = Resources.parse("cpus=1,mem=64M")


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def cluster(keyring: Keyring) -> Iterator[LocalCluster]:
    """One slave with the key of `host`; the tests themselves ask as `ops`."""
    slave_words = ("--key", keyring.file("host"), "--master-key", keyring.public("master"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keyring.environment("ops").items():
            patch.setenv(name, value)
        running = LocalCluster(
            1, cpus="2", mem="512M", isolation="noop",
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


@contextmanager
def connection(cluster: LocalCluster, keys: Keys | None, decoder: Any) -> Iterator[Client[Any]]:
    context = new_context()
    client: Client[Any] = Client(context, tcp(cluster.address, 0), decoder, monitored=True, keys=keys)
    try:
        yield client
    finally:
        client.close()
        context.term()


def answer_to(cluster: LocalCluster, keys: Keys, message: m.Message, decoder: Any) -> m.Message:
    """The master's first message after this one."""
    with connection(cluster, keys, decoder) as client:
        client.send(message)
        client.flush()
        assert client.socket.poll(WAIT_MS), "the master is silent"
        answer: m.Message = next(answers[0] for _, answers in client.drain())
        return answer


def refused(cluster: LocalCluster) -> int:
    with cluster.ask() as asked:
        return asked.cluster().refused


def log_of(cluster: LocalCluster) -> str:
    return cluster.master.log.read_text()


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


def test_a_principals_task_runs_and_its_ids_contain_its_name(cluster: LocalCluster, keyring: Keyring) -> None:
    with cluster.ask() as asked:
        (slave,) = asked.slaves()
    assert owner_of(slave.info.slave_id) == "host"
    with speaking_as(keyring, "alice"):
        recorder = Recorder(cluster.address, role="science")
    with recorder as framework:
        framework.run("t", "true")
        assert framework.wait_end("t").state is TaskState.FINISHED
        assert owner_of(framework.driver.framework_id) == "alice"


def test_the_command_line_uses_the_key_of_an_option_or_of_the_environment(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    asked = offerd_as(keyring, "ops", cluster, "slaves", "--json")
    assert (asked.returncode, "@host" in asked.stdout) == (0, True), asked.stderr
    flags = ("--key", keyring.file("ops"), "--master-key", keyring.public("master"))
    assert offerd_as(keyring, "bob", cluster, "frameworks", *flags).returncode == 0
    denied = offerd_as(keyring, "bob", cluster, "drain", "slave-1")
    assert (denied.returncode, denied.stderr.count("\n")) == (1, 1)
    assert "the master refuses: bob may not drain, deactivate or activate slaves: " in denied.stderr


def test_an_unknown_key_is_refused_at_the_handshake_written_down_and_counted(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    before = refused(cluster)
    with connection(cluster, keyring.keys("stranger"), codec.to_slave) as client:
        client.send(m.RegisterSlave(m.SlaveInfo("stranger", LITTLE)))
        client.flush()
        assert client.link.socket.poll(WAIT_MS)
        with pytest.raises(KeyRefused):
            list(client.link.changes())
    wait_until(lambda: refused(cluster) > before, "the refusal to be counted")
    assert f"nobody here has its key {keyring.public('stranger')}" in log_of(cluster)
    with cluster.ask() as asked:
        assert [slave.info.hostname for slave in asked.slaves()] == ["slave-1"]


@pytest.mark.parametrize("what", ["no key", "the key of another master"])
def test_connections_without_a_key_or_with_another_masters_are_refused_and_counted(
    cluster: LocalCluster, keyring: Keyring, what: str
) -> None:
    keys = None if what == "no key" else Keys(keyring.keys("alice").secret, keyring.public("bob"))
    before = refused(cluster)
    with connection(cluster, keys, codec.to_slave) as client:
        client.send(m.RegisterSlave(m.SlaveInfo("stranger", LITTLE)))
        client.flush()
        wait_until(lambda: refused(cluster) > before, "the refusal to be counted")
        assert client.socket.poll(0) == 0
    assert "refused peers without a key, or with the key of another master" in log_of(cluster)


def test_a_slave_and_a_scheduler_whose_keys_are_unknown_end_with_one_line(
    cluster: LocalCluster, keyring: Keyring, tmp_path: Path
) -> None:
    slave = offerd_as(
        keyring, "stranger", cluster,
        "slave", "--master", cluster.address, "--work-dir", str(tmp_path / "work"), "--isolation", "noop", "--http-port", "0",
    )  # fmt: skip
    assert slave.returncode == 1
    assert slave.stderr.splitlines()[-1].startswith("offerd: the master does not know our key")
    run = offerd_as(keyring, "stranger", cluster, "run", "--", "true")
    assert run.returncode not in (0, None)
    assert "the master does not know our key" in run.stderr


def test_a_foreign_slave_id_is_refused_and_the_slave_stays(cluster: LocalCluster, keyring: Keyring) -> None:
    with cluster.ask() as asked:
        (slave,) = asked.slaves()
    before = refused(cluster)
    registration = m.RegisterSlave(m.SlaveInfo("thief", LITTLE, slave.info.slave_id))
    for name, word in (("rack", "was not given to rack"), ("alice", "alice may not be a slave")):
        answer = answer_to(cluster, keyring.keys(name), registration, codec.to_slave)
        assert isinstance(answer, m.SlaveRefused)
        assert answer.reason == Reason.NOT_AUTHORIZED
        assert word in answer.message
        assert word in log_of(cluster)
    assert refused(cluster) == before + 2
    with cluster.ask() as asked:
        assert [known.info for known in asked.slaves()] == [slave.info]


def test_a_foreign_framework_id_role_or_user_is_refused_and_gets_no_offer(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with speaking_as(keyring, "alice"):
        recorder = Recorder(cluster.address, role="science", failover_timeout_s=60.0)
    with recorder as framework:
        framework.run("t", "sleep 60")
        framework.wait("t", TaskState.RUNNING)
        mine = framework.driver.framework_id
        before = refused(cluster)
        for info, word in (
            (m.FrameworkInfo("thief", mine), f"framework id {mine} was not given to bob"),
            (
                m.FrameworkInfo("thief", role="science"),
                "bob may not have frameworks of role science, only of *",
            ),
            (m.FrameworkInfo("thief", user="root"), "bob may not run tasks as user root"),
        ):
            with connection(cluster, keyring.keys("bob"), codec.to_scheduler) as client:
                client.send(m.RegisterFramework(info))
                client.send(m.ReviveOffers())
                client.flush()
                heard: list[m.Message] = []
                while not any(isinstance(message, m.NotRegistered) for message in heard):
                    assert client.socket.poll(WAIT_MS), f"the master is silent after {heard}"
                    heard += [message for _, messages in client.drain() for message in messages]
                # The second message comes from an unregistered peer, as the registration was refused.
                first, *_ = heard
                assert isinstance(first, m.FrameworkRefused)
                assert (first.reason, first.message) == (Reason.NOT_AUTHORIZED, word)
                assert not any(isinstance(message, m.ResourceOffers) for message in heard)
            assert word in log_of(cluster)
        assert refused(cluster) == before + 3
        assert framework.states("t") == [TaskState.RUNNING]
        framework.driver.kill_task(framework.wait("t", TaskState.RUNNING).task_id)
        framework.wait_end("t")


def test_a_scheduler_of_a_foreign_role_ends_with_the_reason(cluster: LocalCluster, keyring: Keyring) -> None:
    with speaking_as(keyring, "bob"):
        recorder = Recorder(cluster.address, role="science")
    with pytest.raises(FrameworkError, match="role science") as caught:
        recorder.driver.run()
    assert caught.value.reason == Reason.NOT_AUTHORIZED


def test_ids_stay_with_their_owners_and_tasks_run_on_through_a_restart_of_the_master(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with cluster.ask() as asked:
        (slave,) = asked.slaves()
    with speaking_as(keyring, "alice"):
        recorder = Recorder(cluster.address, role="science", failover_timeout_s=60.0)
    with recorder as framework:
        framework.run("before", "sleep 60")
        framework.wait("before", TaskState.RUNNING)
        mine = framework.driver.framework_id
        cluster.master.signal(signal.SIGKILL)
        cluster.master.wait(10)
        cluster.master.start()
        # The impostors may come before the owners: a new master knows neither.
        stolen = m.RegisterFramework(m.FrameworkInfo("thief", FrameworkID(mine)))
        assert isinstance(
            answer_to(cluster, keyring.keys("bob"), stolen, codec.to_scheduler), m.FrameworkRefused
        )
        stolen_slave = m.RegisterSlave(m.SlaveInfo("thief", LITTLE, SlaveID(slave.info.slave_id)))
        assert isinstance(
            answer_to(cluster, keyring.keys("rack"), stolen_slave, codec.to_slave), m.SlaveRefused
        )
        framework.run("after", "true")
        assert framework.wait_end("after").state is TaskState.FINISHED
        assert framework.states("before") == [TaskState.RUNNING]
        assert framework.driver.framework_id == mine
        with cluster.ask() as asked:
            assert [known.info.slave_id for known in asked.slaves()] == [slave.info.slave_id]
        framework.driver.kill_task(framework.wait("before", TaskState.RUNNING).task_id)
        framework.wait_end("before")


def test_at_sighup_a_removed_key_is_refused_at_once_and_a_bad_file_changes_nothing(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with connection(cluster, keyring.keys("rack"), codec.to_slave) as client:

        def say(message: m.Message) -> m.Message:
            client.send(message)
            client.flush()
            assert client.socket.poll(WAIT_MS)
            answer: m.Message = next(answers[-1] for _, answers in client.drain())
            return answer

        registered = say(m.RegisterSlave(m.SlaveInfo("second", LITTLE)))
        assert isinstance(registered, m.SlaveRegistered)
        keyring.authorized.write_text("nonsense")
        cluster.master.signal(signal.SIGHUP)
        wait_until(lambda: "cannot read the keys again" in log_of(cluster), "the bad file to be read")
        keyring.authorize({name: table for name, table in TABLES.items() if name != "rack"})
        cluster.master.signal(signal.SIGHUP)
        registration = m.RegisterSlave(m.SlaveInfo("second", LITTLE, registered.slave_id))
        answers: list[m.Message] = []
        wait_until(
            lambda: answers.append(say(registration)) or isinstance(answers[-1], m.SlaveRefused),  # type: ignore[func-returns-value]
            "the key to be refused",
        )
    keyring.authorize(TABLES)
    cluster.master.signal(signal.SIGHUP)
    wait_until(
        lambda: (
            not isinstance(answer_to(cluster, keyring.keys("rack"), m.Pong(), codec.to_slave), m.SlaveRefused)
        ),
        "the key to be let in again",
    )


def test_a_master_whose_files_are_wrong_says_so_in_one_line(keyring: Keyring, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[alice]\nkey = 5\n")
    readable = tmp_path / "readable.key"
    readable.write_text(Path(keyring.file("master")).read_text())
    readable.chmod(0o644)
    good = keyring.master_words()
    for flags, word in (
        (["--key", keyring.file("master")], "go together"),
        (["--authorized", str(keyring.authorized)], "go together"),
        ([*good[:2], "--authorized", str(bad)], "key must be text"),
        ([*good[:2], "--authorized", str(tmp_path / "none")], "No such file"),
        (["--key", str(readable), *good[2:]], "chmod 600"),
        (["--key", str(bad), *good[2:]], "chmod 600"),
    ):
        ended = subprocess.run(
            words("master", "--port", "0", *flags), capture_output=True, text=True, timeout=30, check=False
        )
        assert (ended.returncode, word in ended.stderr, ended.stderr.count("\n")) == (2, True, 1), (
            ended.stderr
        )


def test_a_peer_whose_keys_are_wrong_says_so_in_one_line(
    cluster: LocalCluster, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "/none")
    with pytest.raises(OfferdError, match="cannot read the key file /none"):
        OperatorClient(cluster.address)
    monkeypatch.setenv(KEY_VARIABLE, keyring.file("alice"))
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "nonsense")
    with pytest.raises(OfferdError, match="is neither a public key"):
        OperatorClient(cluster.address)


def test_a_master_with_another_key_than_the_named_one_is_refused(
    cluster: LocalCluster, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, public_of(read_secret(keyring.file("bob"))))
    with (
        OperatorClient(cluster.address, timeout_s=1.0) as client,
        pytest.raises(OfferdError, match="does not have the key that we know the master by"),
    ):
        client.cluster()
