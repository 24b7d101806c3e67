"""Our own ZooKeeper servers on this host, from Debian's package: for `offerd local --zk auto`, tests and measurements.

The system's configuration is not used. Each server has a directory for its configuration and data, and listens on loopback. An
ensemble is several servers that know each other's ports.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from offerd.errors import BadInput

JAR = Path("/usr/share/java/zookeeper.jar")
TICK_MS = 500
"""A session lasts from 2 to 20 ticks; a short tick lets tests and `offerd local` fail over quickly."""


class Ports(NamedTuple):
    """The ports of one server: for clients, for the other servers, and for their elections."""

    client: int
    peers: int
    election: int


def check_installed() -> None:
    """Raises `BadInput` with one line if this host cannot run a ZooKeeper."""
    if not JAR.exists() or shutil.which("java") is None:
        raise BadInput(
            "ZooKeeper is not installed; apt install zookeeper, or name a running one with --zk HOST:PORT/path"
        )


def free_ports(servers: int) -> list[Ports]:
    """Ports on which nothing listens now."""
    sockets = [socket.socket() for _ in range(3 * servers)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
    return [Ports(*numbers[i : i + 3]) for i in range(0, len(numbers), 3)]


def prepare_server(directory: Path, number: int, ensemble: Sequence[Ports]) -> list[str]:
    """Write the configuration of server `number` (from 0) of this ensemble; returns the command that runs it."""
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    lines = [
        f"tickTime={TICK_MS}",
        f"dataDir={data}",
        f"clientPort={ensemble[number].client}",
        "clientPortAddress=127.0.0.1",
        "admin.enableServer=false",
        "4lw.commands.whitelist=srvr",
        # Memory and disk are enough for a test, where only the protocol matters, not surviving a power failure.
        "preAllocSize=1024",
        "maxClientCnxns=0",
    ]
    if len(ensemble) > 1:
        (data / "myid").write_text(f"{number + 1}\n")
        lines += ["initLimit=10", "syncLimit=5"]
        lines += [f"server.{i + 1}=127.0.0.1:{p.peers}:{p.election}" for i, p in enumerate(ensemble)]
    config = directory / "zoo.cfg"
    config.write_text("\n".join(lines) + "\n")
    classes = f"{JAR}:/usr/share/java/slf4j-simple.jar"
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m")
    return [
        "java",
        *quick,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        classes,
        main,
        str(config),
    ]


def hosts(ensemble: Sequence[Ports]) -> str:
    """The servers as `--zk` takes them."""
    return ",".join(f"127.0.0.1:{ports.client}" for ports in ensemble)


def mode(port: int) -> str:
    """The role of the server at this port (standalone, leader, follower); empty while it does not serve."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
            link.sendall(b"srvr")
            while piece := link.recv(4096):
                answer += piece
    except OSError:
        return ""
    facts: Mapping[str, str] = dict(
        line.split(": ", 1) for line in answer.decode("ascii", "replace").splitlines() if ": " in line
    )
    return facts.get("Mode", "")
