"""How a master is named: the form of `--master`, and of the nodes with which masters stand for election.

A master is named by `HOST:PORT`, or by the ZooKeeper in which masters elect their leader: `zk://HOST:PORT,HOST:PORT/path`.
There each master has an ephemeral sequential node `json.info_NNNNNNNNNN`, and the smallest leads. Clients of Apache Mesos know
this form (`MasterInfo` as JSON).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec

from offerd.addresses import LOOPBACK, TCP, HostPort, canonical, is_link_local, parse, tcp
from offerd.errors import BadInput
from offerd.values.screen_text import printable
from offerd.wire.routes import is_here

DEFAULT_PORT = 5060
DEFAULT_MASTER = f"{LOOPBACK}:{DEFAULT_PORT}"
ZOOKEEPER_PORT = 2181
SCHEME = "zk://"
NODE_PREFIX = "json.info_"
EPOCH_NODE = "epoch"
"""A lasting node beside the masters' nodes: the epoch of the newest leader, in digits."""
MAX_EPOCH = 2**63 - 2
"""The highest epoch that is believed, so that a higher one still fits into a message."""
MAX_NODE_BYTES = 4096
ANSWER_S = 5.0
ELECTION_S = 15.0
"""ZooKeeper ends the session of a dead master after 10 s; the next master leads a moment later."""

_PATH = re.compile(r"(/[A-Za-z0-9_.:@=+-]+)+")
_IN_LINE = re.compile(re.escape(NODE_PREFIX) + r"([0-9]{1,10})")
_EPOCH = re.compile(rb"[0-9]{1,19}")


class ZooKeeperAddress(NamedTuple):
    """Servers as kazoo takes them (`HOST:PORT,HOST:PORT`), and the path below which the masters' nodes are."""

    hosts: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.hosts}{self.path}"


def parse_zookeeper(text: str) -> ZooKeeperAddress:
    """Read `[zk://]HOST[:PORT],.../path`. Raises `BadInput` with one line."""
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
    try:
        server = parse(host, ZOOKEEPER_PORT)
    except BadInput as error:
        why = f" ({error})" if "[" in host or host.count(":") > 1 else ""
        raise BadInput(
            f"{text!r}: {host!r} is not a ZooKeeper server{why}; write zk://HOST:PORT,HOST:PORT/path"
        ) from None
    if is_link_local(server.host):
        raise BadInput(
            f"{text!r}: {server.host} is a link-local address, at which ZooKeeper servers cannot be reached; write another of "
            "its addresses, zk://HOST:PORT,HOST:PORT/path"
        )
    return str(server)


def master_address(text: str) -> str:
    """`tcp://HOST:PORT` or `zk://HOST:PORT,.../path`, with the usual port if none is given. Raises `BadInput`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{printable(text)} is not an address: it is not UTF-8; write HOST:PORT") from None
    return str(parse_zookeeper(text)) if text.startswith(SCHEME) else tcp(text, DEFAULT_PORT)


def patience_s(address: str) -> float:
    """How long a command waits for a master to answer, in seconds, while a person looks at the screen."""
    return ELECTION_S if address.startswith(SCHEME) else ANSWER_S


def unreachable(address: str, why: str = "") -> str:
    """The one line for people when no master answers; `why` as found by `offerd.masters.absence`."""
    if address.startswith(SCHEME):
        return (
            f"no offerd master leads{f': {why}' if why else f' at {address}'}; check that a majority of the ZooKeeper servers "
            "runs, and a master started with the same --zk"
        )
    where = address.removeprefix("tcp://")
    what = f"no offerd master answers{f': {why}' if why else f' at {where}'}"
    if is_here(parse(where).host):
        return (
            f"{what}; start one (`offerd local` starts a whole cluster on this host), or say where it is with "
            "OFFERD_MASTER=HOST:PORT"
        )
    return f"{what}; check that one runs there and can be reached, or say where it is with OFFERD_MASTER=HOST:PORT"


# -- The masters' nodes -------------------------------------------------------------------------------------------------


def describe_master(master_id: str, address: str, hostname: str, version: str) -> bytes:
    """The contents of a master's node. `address` is `IP:PORT`, where others reach it."""
    ip, port = parse(address)
    info = {
        "id": master_id,
        # Mesos stores an IPv4 address as a number: network byte order, read by a little-endian host.
        "ip": 0 if ":" in ip else int.from_bytes(socket.inet_aton(ip), "little"),
        "port": port,
        "pid": f"master@{address}",
        "hostname": hostname,
        "version": version,
        "address": {"hostname": hostname, "ip": ip, "port": port},
    }
    return json.dumps(info).encode()


class _Address(msgspec.Struct):
    ip: Annotated[str, msgspec.Meta(max_length=45)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Node(msgspec.Struct):
    address: _Address


_read_node = msgspec.json.Decoder(_Node).decode


def address_of(node: bytes) -> str:
    """`tcp://IP:PORT` in a master's node; empty if the node cannot be read."""
    if len(node) > MAX_NODE_BYTES:
        return ""
    try:
        address = _read_node(node).address
        ip = canonical(address.ip)
        return "" if is_link_local(ip) else f"{TCP}{HostPort(ip, address.port)}"
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


def epoch_of(node: bytes) -> int:
    """The epoch in its node; 0 if the node is invalid."""
    epoch = int(node) if _EPOCH.fullmatch(node) else 0
    return epoch if epoch <= MAX_EPOCH else 0


def in_line(children: Iterable[str]) -> list[str]:
    """The masters' nodes among these, the leader's first: in the order of the sequence numbers that ZooKeeper gave them."""
    masters = [(int(found[1]), name) for name in children if (found := _IN_LINE.fullmatch(name))]
    return [name for _, name in sorted(masters)]
