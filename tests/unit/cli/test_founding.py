"""`offerd master init`, as far as it starts nothing: what it makes, and what it refuses."""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from offerd.credentials.keys import public_of, read_public, read_secret
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import Store, resolve
from offerd_cli import addresses, founding
from offerd_cli.founding import Founding, found, key_name_of_account
from offerd_cli.services import Service
from offerd_master.gate import read_principals


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration directory of an account that knows no cluster yet."""
    directory = tmp_path / "config"
    monkeypatch.setenv("OFFERD_CONFIG", str(directory))
    for name in ("OFFERD_MASTER", "OFFERD_KEY", "OFFERD_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def options(port: int, **more: Any) -> Founding:
    given: dict[str, Any] = {
        "directory": None,
        "name": "",
        "ip": "127.0.0.1",
        "port": port,
        "advertise": "",
        "zk": "",
    }
    return Founding(**given | {"starts": False} | more)


def init(port: int, **more: Any) -> list[str]:
    """What it prints."""
    said: list[str] = []
    found(options(port, **more), said.append)
    return said


def test_what_is_made_is_what_a_master_and_this_accounts_commands_take(config: Path, free_port: int) -> None:
    said = init(free_port, name="prod")
    settings = tomllib.loads((config / "master.toml").read_text())
    assert settings["port"] == free_port
    assert settings["key"] == str(config / "master.key")
    (own,) = read_principals(Path(settings["authorized"])).items()
    key, who = own
    assert (who.name, who.operator, who.every_role) == (key_name_of_account(), True, True)
    assert who.may_run_as(key_name_of_account())
    connection = resolve("prod")
    assert connection.address == f"tcp://127.0.0.1:{free_port}"
    assert connection.keys is not None
    assert public_of(connection.keys.secret) == key
    assert connection.keys.master == read_public(str(config / "master.pub"))
    assert public_of(read_secret(config / "master.key")) == connection.keys.master
    assert any(f"127.0.0.1:{free_port}" in line for line in said)


def test_secrets_are_for_the_account_alone(config: Path, free_port: int) -> None:
    init(free_port, name="prod")
    for path in (config / "master.key", config / "keys" / "prod.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (config / "keys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("there", ["master.key", "master.pub", "authorized.toml", "master.toml"])
def test_nothing_is_overwritten(config: Path, free_port: int, there: str) -> None:
    config.mkdir()
    (config / there).write_text("precious")
    with pytest.raises(BadInput, match="exists already"):
        init(free_port)
    assert [path.name for path in config.iterdir()] == [there]
    assert (config / there).read_text() == "precious"


def test_a_cluster_of_this_name_is_not_forgotten(config: Path, free_port: int) -> None:
    init(free_port, name="prod", directory=config / "one")
    before = Store(config).read()
    with pytest.raises(BadInput, match="choose another --name"):
        init(free_port, name="prod", directory=config / "two")
    assert Store(config).read() == before
    assert not (config / "two").exists()


def test_a_port_in_use_is_reported_before_anything_is_made(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="cannot listen on"):
            init(taken.getsockname()[1])
    assert not config.exists()


@pytest.mark.parametrize(
    ("more", "token"),
    [
        (
            {"advertise": "host:nonsense"},
            "--advertise 'host:nonsense' is not an address: 'nonsense' is not a port",
        ),
        ({"advertise": "::1:7000"}, "an IPv6 address stands in brackets"),
        ({"advertise": "[fe80::1%eth0]:7000"}, "link-local"),
        ({"ip": "fe80::1%eth0"}, "link-local"),
        ({"ip": "[::1]:5060"}, "is not an IP address"),
        ({"ip": "2001:db8::1"}, r"cannot listen on \[2001:db8::1\]:"),
        ({"zk": "nonsense"}, "names no path"),
        ({"zk": "zoo:2181/offerd", "advertise": "name.example"}, "give the IP address of this master"),
        ({"name": "no name"}, "is not a valid name"),
        ({"ip": "203.0.113.1"}, "cannot listen on"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    config: Path, free_port: int, more: dict[str, str], token: str
) -> None:
    with pytest.raises(OfferdError, match=token) as caught:
        init(free_port, **more)
    assert "\n" not in str(caught.value)
    assert not (config / "master.key").exists()


def test_the_advertised_address_is_the_one_that_the_operator_gives(config: Path, free_port: int) -> None:
    init(free_port, name="prod", advertise="10.1.2.3:7000", zk="zoo1:2181,zoo2/offerd")
    settings = tomllib.loads((config / "master.toml").read_text())
    assert (settings["advertise-ip"], settings["advertise-port"]) == ("10.1.2.3", 7000)
    assert settings["zk"] == "zoo1:2181,zoo2/offerd"
    assert resolve("prod").address == "zk://zoo1:2181,zoo2:2181/offerd"


def test_the_address_is_that_by_which_other_hosts_reach_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "address_towards", lambda host: "10.0.0.7")
    assert addresses.own_address() == "10.0.0.7"
    # Without a default route: the address of an interface, but not of one to containers.
    monkeypatch.setattr(addresses, "address_towards", lambda host: "")
    assert not addresses.own_address().startswith("172.17.")
    assert founding._loopback_hint("127.0.0.1:5060")
    assert not founding._loopback_hint("10.0.0.7:5060")


# -- what starts it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A running systemd with the units, as far as offerd looks; its orders are written to the returned file."""
    from offerd_cli import services

    orders = tmp_path / "orders"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{orders}\n')
    (tools / "systemctl").chmod(0o755)
    units = tmp_path / "units"
    units.mkdir()
    for name in ("offerd-master", "offerd-slave"):
        (units / f"{name}.service").write_text("[Service]\n")
    (tmp_path / "default").mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(services, "SYSTEMD_RUNS", tmp_path)
    monkeypatch.setattr(services, "UNIT_DIRECTORIES", (units,))
    monkeypatch.setattr(services, "OPTIONS_DIRECTORY", tmp_path / "default")
    return orders


@pytest.mark.skipif(os.geteuid() != 0, reason="units are root's")
def test_where_the_unit_is_installed_systemd_runs_it(systemd: Path, tmp_path: Path) -> None:
    service = Service("slave", Path("/etc/offerd/slave.toml"))
    assert service.is_unit
    service.start()
    assert systemd.read_text().splitlines() == [
        "daemon-reload",
        "enable --quiet offerd-slave",
        "restart offerd-slave",
    ]
    options_file = (tmp_path / "default" / "offerd-slave").read_text()
    assert 'OFFERD_OPTIONS="--config /etc/offerd/slave.toml"' in options_file
    service.wait_for(lambda: True, "is late", 1.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="units are root's")
def test_systemds_error_is_passed_on_in_one_line(systemd: Path) -> None:
    program = Path(os.environ["PATH"].split(":")[0]) / "systemctl"
    program.write_text("#!/bin/sh\necho 'Failed to enable unit' >&2\nexit 1\n")
    with pytest.raises(OfferdError, match="systemctl daemon-reload: Failed to enable unit"):
        Service("master", Path("/etc/offerd/master.toml")).start()


def test_without_systemd_it_is_a_process_that_says_why_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offerd_cli import services

    monkeypatch.setattr(services, "SYSTEMD_RUNS", tmp_path / "none")
    monkeypatch.setattr(services, "state_directory", lambda: tmp_path / "state")
    config = tmp_path / "master.toml"
    config.write_text('surprise = "yes"\n')
    service = Service("master", config)
    assert not service.is_unit
    service.start()
    with pytest.raises(OfferdError, match=r"the master has ended: .*there is no 'surprise'") as caught:
        service.wait_for(lambda: False, "does not answer", 30.0)
    assert "\n" not in str(caught.value)
    assert service.log.stat().st_mode & 0o777 == 0o600
    assert int(service.pid_file.read_text()) > 0
