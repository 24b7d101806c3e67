"""`offerd slave join`: makes this host a key, enrols it with a token, and starts the slave."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offerd.addresses import LOOPBACK, HostPort, is_link_local, is_loopback, listening_ip, parse
from offerd.credentials.keys import Keys
from offerd.credentials.trusted_files import replace_file
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import Cluster, Connection
from offerd.masters.leader import SCHEME, master_address, parse_zookeeper
from offerd.operator import OperatorClient
from offerd.values.key_names import name_fault
from offerd.wire.routes import address_towards, over_ipv6
from offerd_cli.config_file import config_text, read_config
from offerd_cli.founding import store_of_this_account
from offerd_cli.own_keys import enrol_own_key, given_token, written
from offerd_cli.services import Service

START_S = 60.0
CONFIG = "slave.toml"
KEYS_DIRECTORY = "slave"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaveJoining:
    """The options of `offerd slave join`. Empty: choose the best."""

    master: str
    token: str
    name: str
    ip: str
    cluster: str
    http_port: int | None
    work_dir: Path | None
    starts: bool


def join(options: SlaveJoining, say: Callable[[str], None]) -> None:
    """Raises `OfferdError` with one line. It may be repeated: finished steps are not done again."""
    token = given_token(options.token)
    address = master_address(options.master)
    name = options.name or _host_name()
    if fault := name_fault(name):
        raise BadInput(f"{fault}; choose another with --name")
    if options.cluster and (fault := name_fault(options.cluster)):
        raise BadInput(f"--cluster: {fault}")
    store = store_of_this_account()
    config = Path(store.directory) / CONFIG
    if config.exists():
        say(_joined_already(config, token.master))
        return
    ip = listening_ip(options.ip) if options.ip else _address_towards(address)
    where = written(address)
    # Not among the store's keys: these are named after clusters, and a host may have its cluster's name.
    key_file = Path(store.directory) / KEYS_DIRECTORY / f"{name}.key"
    keys = _enrol(where, token, name, key_file)
    cluster = options.cluster or _cluster_name(where)
    _write_configuration(config, key_file, options, where, ip, token.master)
    if store.read().at(address) is None:
        # The master's own host already has an operator's key to the cluster, which gives more rights.
        store.add(Cluster(cluster, where, token.master, str(key_file)))
    say(f"joined {where} as {name}: {config}, {key_file} (secret)")
    service = Service("slave", config)
    if not options.starts:
        say(f"start it with: offerd slave --config {config}")
        return
    service.start()
    slave_id = ""

    def is_registered() -> bool:
        nonlocal slave_id
        slave_id = _registered(where, keys, name)
        return bool(slave_id)

    service.wait_for(is_registered, "has not registered", START_S)
    say(f"the slave is running, registered as {slave_id} ({service.hint}; stop it with: {service.ending})")


def _host_name() -> str:
    return socket.gethostname().partition(".")[0]


def _cluster_name(where: str) -> str:
    host = _first_server(where).host
    return "cluster" if name_fault(host) else host


def _joined_already(config: Path, master_key: str) -> str:
    """A line for a repeated command. Raises `BadInput` if this host is a slave of another cluster."""
    entries = read_config(config)
    where = f"{entries.get('master', '?')} as {Path(str(entries.get('key', '?'))).stem}"
    if entries.get("master-key") == master_key:
        return f"this host has already joined {where} ({config}); nothing was changed"
    raise BadInput(
        f"this host is a slave of another cluster, {where}: to join this one, stop that slave and remove {config}"
    )


def _address_towards(address: str) -> str:
    """Where the slave serves its files: at the address from which it reaches the master, since others reach it there, too."""
    server = _first_server(address)
    found = address_towards(server.host, ipv6=over_ipv6(server))
    if not found:
        raise OfferdError(f"there is no route to {server.host}; check the name, and the network of this host")
    if is_link_local(found):
        raise BadInput(
            f"{server}: the master is reached from a link-local address, at which other hosts cannot reach this slave's "
            "files; name the master by another address"
        )
    return LOOPBACK if is_loopback(found) and ":" not in found else found


def _first_server(where: str) -> HostPort:
    """The master, or the first of the ZooKeeper servers."""
    return parse(parse_zookeeper(where).hosts.partition(",")[0] if where.startswith(SCHEME) else where)


def _enrol(where: str, token: Keys, name: str, key_file: Path) -> Keys:
    keys, rights = enrol_own_key(key_file, where, token, name, name_option="--name")
    if rights is not None and not rights.slave:
        key_file.unlink()
        raise OfferdError(
            f"this token is not for a slave, but {name} has joined with it: undo that with `offerd keys revoke {name}`, and "
            "make another token with `offerd token new --slave`"
        )
    return keys


def _write_configuration(
    config: Path, key_file: Path, options: SlaveJoining, where: str, ip: str, master_key: str
) -> None:
    entries: dict[str, str | int | bool] = {
        "master": where,
        "key": str(key_file),
        "master-key": master_key,
        "ip": ip,
        "hostname": options.name or socket.gethostname(),
    }
    if options.http_port is not None:
        entries["http-port"] = options.http_port
    if options.work_dir is not None:
        entries["work-dir"] = str(options.work_dir.absolute())
    text = config_text(
        "Options of `offerd slave` by name, for --config; made by `offerd slave join`.", entries
    )
    try:
        replace_file(config, text, 0o644)
    except OSError as error:
        raise BadInput(f"cannot write {config}: {error.strerror}") from None


def _registered(where: str, keys: Keys, name: str) -> str:
    """The id of our slave, once the master has registered one; there may be others."""
    try:
        with OperatorClient(Connection(master_address(where), keys), timeout_s=2.0) as client:
            alive = (slave.info.slave_id for slave in client.slaves() if slave.state != "lost")
            return next((slave_id for slave_id in alive if slave_id.endswith(f"@{name}")), "")
    except OfferdError:
        return ""
