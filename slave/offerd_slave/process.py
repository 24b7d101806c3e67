"""The slave as a process: its start and its end."""

from __future__ import annotations

from offerd.errors import KeyRefused, OfferdError
from offerd.wire.descriptors import raise_limit
from offerd_slave.daemon import SlaveDaemon
from offerd_slave.options import SlaveOptions


def run_slave(options: SlaveOptions) -> int:
    """Run a slave until it ends; returns its exit status. Raises `BadInput`, and `KeyRefused` if no master accepts its key."""
    raise_limit()
    daemon = SlaveDaemon(options)
    try:
        daemon.run()
    except Exception as error:
        if not isinstance(error, OfferdError):
            daemon.crashed(error)
        raise
    finally:
        daemon.close()
    if daemon.fault:
        raise KeyRefused(daemon.fault)
    return 0
