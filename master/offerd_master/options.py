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
    """How to run a master. `port` 0 takes a free one; `address_file` gets `HOST:PORT` once it listens.

    `zookeeper`: stand for election there, and lead only when elected; others are told to come to `advertise_ip` ("" = `ip`,
    or where that is every address, the host's own) and `advertise_port` (0 = the port it listens on). Who masters are there
    is `zookeeper_access`, else it is derived from `secret`.
    `read_policy`: gives the terms of roles and frameworks anew when SIGHUP asks for it; without (and without `secret`) it ends
    the process.
    `secret`: the master's secret key; then only peers whose keys `read_principals` gives are heard, and SIGHUP has these read
    anew, too; keys that join later (`offerd token`) are kept in `state_dir`, or in ZooKeeper. Without, whoever reaches it may
    command it, which takes `insecure`.
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
