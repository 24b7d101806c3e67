"""How to run a master: one frozen record, made by the command line or a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from offerd.masters.leader import DEFAULT_PORT, ZooKeeperAddress
from offerd.masters.zookeeper_access import SESSION_TIMEOUT_S, Access
from offerd_master.allocation.policy import Policy
from offerd_master.principals import Principals
from offerd_master.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """How to run a master. `port` 0 takes a free one; `address_file` gets `HOST:PORT` once the master listens.

    `zookeeper`: stand for election there, and lead only when elected. Peers are sent to `advertise_ip` ("" = `ip`, or the
    host's own address if `ip` is every address) and `advertise_port` (0 = the port that it listens on). `zookeeper_access` are
    the credentials of masters there; if it is not given they are derived from `secret`.
    `read_policy`: reads the terms of roles and frameworks again after SIGHUP; without it (and without `secret`) SIGHUP ends the
    process.
    `secret`: the master's secret key. With it, only peers with keys from `read_principals` are admitted (read again after
    SIGHUP); keys that join later (`offerd token`) are kept in `state_dir` or in ZooKeeper. Without it, anybody who reaches the
    master may command it, which needs `insecure`.
    """

    ip: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    insecure: bool = False
    address_file: str | os.PathLike[str] | None = None
    zookeeper: ZooKeeperAddress | None = None
    zookeeper_access: Access | None = None
    session_timeout_s: float = SESSION_TIMEOUT_S
    advertise_ip: str = ""
    advertise_port: int = 0
    settings: Settings = field(default_factory=Settings)
    read_policy: Callable[[], Policy] | None = None
    secret: str = ""
    read_principals: Callable[[], Principals] = dict
    state_dir: Path | None = None
