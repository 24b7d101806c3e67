"""`offerd master init`: makes the keys and configuration of a new cluster's master, and starts it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from offerd.addresses import ANY_6, HostPort, is_any, is_ip, is_loopback, listening_ip, parse
from offerd.credentials.keys import Keys, new_key, read_public
from offerd.credentials.trusted_files import replace_file
from offerd.drivers.account import account_name
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import SYSTEM_DIRECTORY, Cluster, Connection, Store, own_store
from offerd.masters.leader import master_address, parse_zookeeper
from offerd.operator import OperatorClient
from offerd.values.key_names import name_fault
from offerd.wire.routes import bound
from offerd_cli.addresses import own_address
from offerd_cli.config_file import config_text, quoted
from offerd_cli.services import Service, state_directory

START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """The options of `offerd master init`. Empty: choose the best."""

    directory: Path | None
    name: str
    ip: str
    port: int
    advertise: str
    zk: str
    starts: bool


def store_of_this_account() -> Store:
    """Root's store is the system's, which every account may read except for the keys in it; others have their own."""
    is_system = os.geteuid() == 0 and not os.environ.get("OFFERD_CONFIG")
    return Store(SYSTEM_DIRECTORY) if is_system else own_store()


def key_name_of_account() -> str:
    """The name of this account, `uid-N` if it has none. Raises `BadInput` if an id cannot end with it."""
    account = account_name() or f"uid-{os.geteuid()}"
    if fault := name_fault(account):
        raise BadInput(f"the name of this account cannot be that of a key: {fault}")
    return account


def found(options: Founding, say: Callable[[str], None]) -> None:
    """Raises `OfferdError` with one line. Files made before the error stay, and the next try reports them."""
    store = store_of_this_account()
    directory = options.directory.absolute() if options.directory is not None else Path(store.directory)
    files = {
        name: directory / name for name in ("master.key", "master.pub", "authorized.toml", "master.toml")
    }
    if there := next((path for path in files.values() if path.exists()), None):
        raise BadInput(
            f"{there} exists already: this host has a master; to start again remove {directory}/master.key, master.pub, "
            "authorized.toml and master.toml; then every host and person must join again"
        )
    name = options.name or _cluster_name()
    if fault := name_fault(name):
        raise BadInput(fault)
    if name in store.read().known:
        raise BadInput(f"{store.directory} already knows a cluster {name}; choose another --name")
    account = key_name_of_account()
    ip, others = _addresses(options)
    _check_port(ip, options.port)
    directory.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
    new_key("master", directory)
    public, own_secret = (key.decode() for key in zmq.curve_keypair())
    master_key = read_public(str(files["master.pub"]))
    _write(files["authorized.toml"], _authorized(account, public), 0o644)
    _write(files["master.toml"], _configuration(options, files, ip, others), 0o644)
    where = f"zk://{options.zk.removeprefix('zk://')}" if options.zk else others
    store.add(Cluster(name, where, master_key), own_secret)
    say(f"made {directory}: master.key (secret), master.pub, authorized.toml, master.toml")
    say(f"cluster {name}: others reach the master at {others}{_loopback_hint(others)}")
    service = Service("master", files["master.toml"])
    if service.user:
        _give_to(files["master.key"], service.user)
    if not options.starts:
        say(f"start it with: offerd master --config {files['master.toml']}")
        return
    service.start()
    keys = Keys(own_secret, master_key)
    service.wait_for(lambda: _answers(where, keys), "does not answer", START_S)
    say(f"the master is running ({service.hint}; stop it with: {service.ending})")
    if store_is_overruled(store, name):
        say(
            f"use it with: offerd ... --master {name}, or make it the current cluster: offerd cluster use {name}"
        )
    say("next: offerd token new --slave")


def _check_port(ip: str, port: int) -> None:
    """To be called before anything is made. Raises `BadInput` if nothing can listen there."""
    place = HostPort(ip, port)
    try:
        bound(*place).close()
    except OSError as error:
        raise BadInput(
            f"cannot listen on {place}: {error.strerror}; stop the program that listens there, or give another --ip or --port"
        ) from None


def _give_to(path: Path, user: str) -> None:
    try:
        shutil.chown(path, user, user)
    except LookupError:
        raise OfferdError(
            f"the systemd unit offerd-master runs as {user}, but this host has no such account; create it, or give --no-start"
        ) from None


def store_is_overruled(store: Store, name: str) -> bool:
    """Whether commands that name no cluster use another one than the cluster just made."""
    from offerd.masters.clusters import read_stores

    for each, clusters in read_stores():
        if clusters.current:
            return (each.directory, clusters.current) != (store.directory, name)
    return False


def _cluster_name() -> str:
    host = socket.gethostname().partition(".")[0]
    return "cluster" if name_fault(host) else host


def _addresses(options: Founding) -> tuple[str, str]:
    """Where to listen, and the address for others: `HOST:PORT` each."""
    ip = listening_ip(options.ip) if options.ip else own_address()
    others = HostPort(own_address(ipv6=None if ip == ANY_6 else False) if is_any(ip) else ip, options.port)
    if options.advertise:
        try:
            others = parse(options.advertise, options.port)
        except BadInput as error:
            raise BadInput(f"--advertise {error}") from None
        if is_ip(others.host):
            listening_ip(others.host, "--advertise")
    if options.zk:
        parse_zookeeper(options.zk)
        if not is_ip(others.host):
            raise BadInput(
                f"--advertise {others.host}: with --zk give the IP address of this master, not a name"
            )
    return ip, str(others)


def _loopback_hint(others: str) -> str:
    if not is_loopback(parse(others).host):
        return ""
    return " (from this host only, as it has no other address; give --ip or --advertise when it has one)"


def _authorized(account: str, public: str) -> str:
    everyone = "every_user = true           # and as every other user, since root may become any\n"
    return (
        "# Rights are explained in docs/security.md. `offerd token new` lets others join without a line here.\n"
        "# After a change send the master SIGHUP (systemctl reload, or kill -HUP).\n\n"
        f"[{account}]\n"
        f'key = "{public}"\n'
        "operator = true\n"
        "every_role = true\n"
        f"users = [{quoted(account)}]\n" + (everyone if os.geteuid() == 0 else "")
    )


def _configuration(options: Founding, files: dict[str, Path], ip: str, others: str) -> str:
    host, port = parse(others)
    entries: dict[str, str | int | bool] = {
        "ip": ip,
        "port": options.port,
        "key": str(files["master.key"]),
        "authorized": str(files["authorized.toml"]),
        "state-dir": str(state_directory() / "master"),
    }
    if options.zk:
        entries["zk"] = options.zk.removeprefix("zk://")
        # Other masters, and everything that looks for the leader, find it under this address.
        entries |= {"advertise-ip": host, "advertise-port": port}
    return config_text(
        "Options of `offerd master` by name, for --config; made by `offerd master init`.", entries
    )


def _write(path: Path, text: str, mode: int) -> None:
    try:
        replace_file(path, text, mode)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None


def _answers(where: str, keys: Keys) -> bool:
    try:
        with OperatorClient(Connection(master_address(where), keys), timeout_s=1.0) as client:
            client.cluster()
    except OfferdError:
        return False
    return True


def announce(text: str) -> None:
    """Print a line for people on stderr: programs read stdout."""
    from offerd_cli.screen import say

    for line in text.splitlines():
        say(line)
