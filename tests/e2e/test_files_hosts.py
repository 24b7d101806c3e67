"""Slaves on separate hosts with keys: their files are served over TLS."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from helpers.cli import wait_until, words
from helpers.keyring import TABLES, Keyring
from helpers.netns import Hosts
from offerd import messages as m
from offerd.addresses import tcp
from offerd.files_access import FilesAccess, FilesSecret
from offerd.files_connection import FilesConnection, WrongServer
from offerd.operator import OperatorClient
from offerd.operator_messages import SlaveSummary
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.transport import Client, new_context

pytestmark = [pytest.mark.root, pytest.mark.netns]


@contextmanager
def process(*command: str, log: Path, env: dict[str, str]) -> Iterator[None]:
    """A daemon while entered."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=env) as daemon:
        try:
            yield
        finally:
            daemon.terminate()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def keyring(base: Path) -> Keyring:
    made = Keyring(base)
    made.authorize(TABLES | {"alice": 'roles = ["*"]\nusers = [""]'})
    return made


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as made:
        yield made


@pytest.fixture(scope="module")
def master(hosts: Hosts, keyring: Keyring, base: Path) -> Iterator[str]:
    """Its address: it listens here, and on each host a slave has registered. Nobody says --insecure."""
    with ExitStack() as stack:
        file = base / "address"
        started = words("master", "--ip", hosts.address, "--port", "0", "--address-file", str(file))
        env = {**os.environ, **keyring.environment("host")}
        stack.enter_context(
            process(*started, *keyring.master_words(), log=base / "master.log", env=dict(os.environ))
        )
        wait_until(lambda: file.exists() and file.read_text().strip(), "the master to listen")
        address = file.read_text().strip().removeprefix("tcp://")
        for number, host in enumerate(hosts.addresses):
            slave = words("slave", "--master", address, "--ip", host, "--http-port", "0")
            slave += ["--work-dir", str(base / f"slave-{number}"), "--hostname", f"host-{number}"]
            slave += [
                "--resources",
                "cpus=2,mem=1G",
                "--isolation",
                "noop",
                "--ephemeral",
                "--default-user",
                "root",
            ]
            log = base / f"slave-{number}.log"
            stack.enter_context(process(*hosts.inside(number), *slave, log=log, env=env))
        wait_until(lambda: len(slaves(keyring, "ops", address)) == 2, "the slaves to register")
        yield address


def slaves(keyring: Keyring, name: str, master: str) -> list[SlaveSummary]:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in keyring.environment(name).items():
            patch.setenv(variable, value)
        with OperatorClient(master) as client:
            return list(client.slaves())


def offerd_as(keyring: Keyring, name: str, master: str, *arguments: str) -> str:
    done = subprocess.run(
        words(*arguments),
        env={**os.environ, "NO_COLOR": "1", "OFFERD_MASTER": master, **keyring.environment(name)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_outputs_logs_and_mapreduce_over_data_sets_work_over_tls(
    master: str, keyring: Keyring, tmp_path: Path
) -> None:
    assert offerd_as(keyring, "alice", master, "run", "--name", "hello", "--", "echo", "hello") == "hello\n"
    text = tmp_path / "text"
    text.write_text("".join(f"word{number % 3}\n" for number in range(9_000)))
    offerd_as(
        keyring, "alice", master, "data", "put", "--block-size", "8K", "--replicas", "1", "t", str(text)
    )
    assert "whole" in offerd_as(keyring, "alice", master, "data", "ls")
    offerd_as(
        keyring, "alice", master,
        "mapreduce", "--input", "data:t", "--output", str(tmp_path / "out"), "--reduces", "2", "--cpus", "0.3", "--mem", "32M",
        "--mapper", "cat", "--reducer", "uniq -c",
    )  # fmt: skip
    lines = [
        line.split() for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()
    ]
    assert sorted((word, int(count)) for count, word in lines) == [(f"word{n}", 3000) for n in range(3)]
    offerd_as(keyring, "alice", master, "data", "rm", "t")


def test_output_that_only_its_own_host_can_reach_is_an_error(
    master: str, hosts: Hosts, keyring: Keyring, base: Path
) -> None:
    """The slave was started without --ip."""
    slave = words("slave", "--master", master, "--http-port", "0", "--work-dir", str(base / "own"))
    slave += ["--hostname", "own", "--resources", "cpus=2,mem=1G", "--isolation", "noop", "--ephemeral"]
    slave += ["--default-user", "root", "--attributes", "files=own"]
    env = {**os.environ, **keyring.environment("host")}
    with process(*hosts.inside(0), *slave, log=base / "own.log", env=env):
        wait_until(lambda: len(slaves(keyring, "ops", master)) == 3, "the slave to register")
        there = ["--attributes", "files=own", "--"]
        for command, status, message in (
            (["run", *there, "echo", "hello"], 1, b"the rest of the output cannot be reached, 6 bytes: "),
            (["run", *there, "sh", "-c", "echo hello; exit 3"], 3, b"cannot be reached, 6 bytes: "),
            (["run", *there, "true"], 0, b""),
            (
                ["map", *there, "head", "-c", "9000", ":::", "/dev/zero"],
                1,
                b"9000 of 9000 bytes of its stdout are lost: ",
            ),
        ):
            done = subprocess.run(
                words(*command),
                env={**os.environ, "NO_COLOR": "1", "OFFERD_MASTER": master, **keyring.environment("alice")},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=90,
                check=False,
            )
            assert (done.returncode, done.stdout) == (status, b""), command
            assert message in done.stderr
            assert message or not done.stderr
    wait_until(lambda: len(slaves(keyring, "ops", master)) == 2, "the slave to be gone")


def test_a_slaves_port_serves_nothing_without_tls_or_without_a_token(master: str, keyring: Keyring) -> None:
    access = slaves(keyring, "ops", master)[0].files
    host, _, port = access.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(b"GET /statistics HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(100)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as shaken,
    ):
        assert shaken.version() == "TLSv1.3"
        shaken.sendall(b"GET /statistics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert shaken.recv(100).startswith(b"HTTP/1.1 401")


def test_a_server_with_another_fingerprint_is_not_asked(master: str, keyring: Keyring) -> None:
    one, other = (slave.files for slave in slaves(keyring, "ops", master)[:2])
    assert one.fingerprint != other.fingerprint
    with closing(FilesConnection(one, timeout_s=10)) as connection:
        assert connection.ask("GET", "/statistics").status == 200
    crossed = msgspec.structs.replace(one, fingerprint=other.fingerprint)
    with closing(FilesConnection(crossed, timeout_s=10)) as connection, pytest.raises(WrongServer):
        connection.ask("GET", "/statistics")


def test_a_slave_cannot_name_another_hosts_server_as_its_own(
    master: str, keyring: Keyring, base: Path
) -> None:
    context = new_context()
    for said in ("127.0.0.1:80", "169.254.169.254:80", "10.255.255.1:5051"):
        client = Client(context, tcp(master, 0), codec.to_slave, keys=keyring.keys("rack"))
        info = m.SlaveInfo("liar", Resources.parse("cpus=1,mem=64M"), files_address=said)
        client.send(m.RegisterSlave(info, files=FilesSecret(b"s" * 32, 1)))
        client.flush()
        assert client.socket.poll(20_000)
        liar = next(slave for slave in slaves(keyring, "ops", master) if slave.info.hostname == "liar")
        assert (liar.info.files_address, liar.files) == ("", FilesAccess())
        client.send(m.UnregisterSlave())
        client.flush()
        wait_until(
            lambda: not any(s.info.hostname == "liar" for s in slaves(keyring, "ops", master)), "it to go"
        )
        client.close()
    context.term()
    log = (base / "master.log").read_text()
    for said in ("169.254.169.254", "10.255.255.1"):
        assert f"are out of reach: it serves them on {said}, " in log
