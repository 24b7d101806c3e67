"""The master that a slave obeys."""

from __future__ import annotations

import logging
import os
from typing import Any

import zmq

from offerd.errors import BadInput
from offerd.masters.clusters import Connection, resolve
from offerd.masters.leader import DEFAULT_MASTER
from offerd.masters.master_client import MasterClient
from offerd.wire import codec
from offerd_slave.options import SlaveOptions

log = logging.getLogger("offerd.slave")


def master_of(options: SlaveOptions) -> Connection:
    """The master to connect to. Raises `BadInput` if it has no key and the options do not allow that."""
    master = resolve(options.master or None, default=DEFAULT_MASTER if options.insecure else "")
    if master.keys is None and not options.insecure:
        where = master.address.removeprefix("tcp://")
        raise BadInput(
            f"no key for the master at {where}: without one whoever listens there may run commands on this host as "
            f"{_as_whom()}; use --key and --master-key (or `offerd cluster add`), or --insecure"
        )
    return master


def client_of(context: zmq.Context[zmq.Socket[bytes]], master: Connection) -> MasterClient[Any]:
    """The connection to the master. If it has no keys, the log says so."""
    if master.keys is None:
        log.warning(
            "without keys: whoever listens at %s may run commands on this host as %s",
            master.address.removeprefix("tcp://"),
            _as_whom(),
        )
    return MasterClient(context, master.address, codec.to_slave, master.keys)


def _as_whom() -> str:
    return "any user" if os.geteuid() == 0 else "this account"
