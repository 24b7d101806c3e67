"""How to run a master: the record that the command line makes. `settings` has the part of it that the core gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from offerd.masters.leader import DEFAULT_PORT, ZooKeeperAddress
from offerd.masters.zookeeper_access import SESSION_TIMEOUT_S, Access
from offerd_master.allocation.policy import Policy
from offerd_master.principals import Principals
from offerd_master.settings import MasterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """The command line of `offerd master`."""

    ip: str = "127.0.0.1"
    """The address to listen at."""

    port: int = DEFAULT_PORT
    """The port to listen on; 0 takes a free one."""

    insecure: bool = False
    """Whether it may run without `secret`, so that anybody who reaches the master may command it."""

    address_file: str | os.PathLike[str] | None = None
    """It gets `HOST:PORT` once the master listens."""

    zookeeper: ZooKeeperAddress | None = None
    """Stand for election there, and lead only when elected."""

    zookeeper_access: Access | None = None
    """The credentials of masters there. None: they are derived from `secret`."""

    session_timeout_s: float = SESSION_TIMEOUT_S
    """After so long without a word from this master, ZooKeeper lets another one lead."""

    advertise_ip: str = ""
    """Where peers are sent by ZooKeeper. Empty: `ip`, or the host's own address if `ip` is every address."""

    advertise_port: int = 0
    """The port that goes with it. 0: the one that the master listens on."""

    settings: MasterSettings = field(default_factory=MasterSettings)
    """The core's part."""

    read_policy: Callable[[], Policy] | None = None
    """Reads the terms of roles and frameworks again after SIGHUP. Without it (and without `secret`) SIGHUP ends the process."""

    secret: str = ""
    """The master's secret key. With it, only peers with keys from `read_principals` are admitted, and those that joined."""

    read_principals: Callable[[], Principals] = dict
    """Reads the keys of `--authorized`, again after SIGHUP."""

    state_dir: Path | None = None
    """Where keys that join later (`offerd token`) are kept, unless that is ZooKeeper."""
