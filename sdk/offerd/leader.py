"""Where the leading master is said to be: the form of `--master`, and of the nodes by which masters stand for election.

A master is named by `HOST:PORT`, or by the ZooKeeper in which masters elect their leader: `zk://HOST:PORT,HOST:PORT/path`.
There each master has an ephemeral sequential node `json.info_NNNNNNNNNN`, and the smallest leads: the form that clients of
Apache Mesos know (`MasterInfo` as JSON).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from offerd.errors import BadInput
from offerd.transport import tcp

DEFAULT_PORT = 5060
DEFAULT_MASTER = f"127.0.0.1:{DEFAULT_PORT}"
ZOOKEEPER_PORT = 2181
SCHEME = "zk://"
NODE_PREFIX = "json.info_"
EPOCH_NODE = "epoch"
"""Beside the masters' nodes, and lasting: the epoch of the newest leader, in digits."""

_PATH = re.compile(r"(/[A-Za-z0-9_.:@=+-]+)+")


class ZooKeeperAddress(NamedTuple):
    """Servers as kazoo takes them (`HOST:PORT,HOST:PORT`), and the path beneath which the masters' nodes are."""

    hosts: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.hosts}{self.path}"


def parse_zookeeper(text: str) -> ZooKeeperAddress:
    """`[zk://]HOST[:PORT],.../path`. Raises `BadInput` with one line."""
    hosts, slash, rest = text.removeprefix(SCHEME).partition("/")
    path = slash + rest.rstrip("/")
    named = [_host_and_port(text, host) for host in hosts.split(",")]
    if not _PATH.fullmatch(path):
        raise BadInput(
            f"{text!r} names no path for the masters' nodes; write zk://HOST:PORT,HOST:PORT/path, as in "
            f"zk://127.0.0.1:{ZOOKEEPER_PORT}/offerd"
        )
    return ZooKeeperAddress(",".join(named), path)


def _host_and_port(text: str, host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon:
        name, port = host, str(ZOOKEEPER_PORT)
    if not name or "@" in name or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"{text!r}: {host!r} is no ZooKeeper server; write zk://HOST:PORT,HOST:PORT/path")
    return f"{name}:{port}"


def master_address(text: str) -> str:
    """`tcp://HOST:PORT` or `zk://HOST:PORT,.../path`, where no port is said the usual one. Raises `BadInput`."""
    return str(parse_zookeeper(text)) if text.startswith(SCHEME) else tcp(text, DEFAULT_PORT)


def unreachable(address: str) -> str:
    """The one line for people when no master answers."""
    if address.startswith(SCHEME):
        return (
            f"no offerd master leads at {address}; look whether a majority of the ZooKeeper servers runs, and a master "
            f"started with --zk {address.removeprefix(SCHEME)}"
        )
    where = address.removeprefix("tcp://")
    return (
        f"no offerd master answers at {where}; start one (`offerd local` starts a whole cluster on this host), "
        "or say where it is with OFFERD_MASTER=HOST:PORT (one that wants keys does not answer without)"
    )


# -- The masters' nodes -------------------------------------------------------------------------------------------------


def describe_master(master_id: str, address: str, hostname: str, version: str) -> bytes:
    """What a master's node holds. `address` is `IP:PORT`, where others reach it."""
    ip, _, port = address.rpartition(":")
    info = {
        "id": master_id,
        # Mesos packs the address as it lies in memory: network order read by a little-endian host.
        "ip": int.from_bytes(ipaddress.IPv4Address(ip).packed, "little"),
        "port": int(port),
        "pid": f"master@{address}",
        "hostname": hostname,
        "version": version,
        "address": {"hostname": hostname, "ip": ip, "port": int(port)},
    }
    return json.dumps(info).encode()


def address_of(node: bytes) -> str:
    """`tcp://IP:PORT` of a master's node; empty if it is not one that can be read."""
    try:
        address = json.loads(node)["address"]
        return tcp(f"{ipaddress.IPv4Address(address['ip'])}:{int(address['port'])}", DEFAULT_PORT)
    except (ValueError, TypeError, KeyError, BadInput):
        return ""


def sequence_of(name: str) -> int:
    """The number that ZooKeeper gave a node: the order in which masters stand in line."""
    return int(name[len(NODE_PREFIX) :])


def in_line(children: Iterable[str]) -> list[str]:
    """The masters' nodes among all, the leader's first."""
    masters = (
        name for name in children if name.startswith(NODE_PREFIX) and name[len(NODE_PREFIX) :].isdigit()
    )
    return sorted(masters, key=sequence_of)
