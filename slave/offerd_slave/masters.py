"""Which master a slave obeys."""

from __future__ import annotations

import logging
import os
from typing import Any

import zmq

from offerd.credentials.clusters import Connection, resolve
from offerd.errors import BadInput
from offerd.masters.leader import DEFAULT_MASTER
from offerd.masters.master_client import MasterClient
from offerd.wire import codec
from offerd_slave.settings import SlaveOptions

log = logging.getLogger("offerd.slave")


def master_of(options: SlaveOptions) -> Connection:
    """Whom to obey. Raises `BadInput` where that could be anybody and nobody has said that it may."""
    master = resolve(options.master or None, default=DEFAULT_MASTER if options.insecure else "")
    if master.keys is None and not options.insecure:
        where = master.address.removeprefix("tcp://")
        raise BadInput(
            f"no key for the master at {where}: without one whoever listens there may run commands on this host as "
            f"{_as_whom()}; say --key and --master-key (or `offerd cluster add`), or --insecure"
        )
    return master


def client_of(context: zmq.Context[zmq.Socket[bytes]], master: Connection) -> MasterClient[Any]:
    """The connection to it; one without keys is told in the log."""
    if master.keys is None:
        log.warning(
            "without keys: whoever listens at %s may run commands on this host as %s",
            master.address.removeprefix("tcp://"),
            _as_whom(),
        )
    return MasterClient(context, master.address, codec.to_slave, master.keys)


def _as_whom() -> str:
    return "any user" if os.geteuid() == 0 else "this account"
