"""The parts of a slave's daemon that its metrics are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from offerd.daemons.timings import Histogram
from offerd.ids import ContainerID
from offerd_isolation.base import Usage
from offerd_slave.core.slave import SlaveCore
from offerd_slave.exits import ExitWatcher
from offerd_slave.journal import Journal
from offerd_slave.launch.zygote_client import ZygoteClient


@dataclass(frozen=True, slots=True)
class MetricSources:
    """Where `offerd_slave.metrics` finds the figures. They are only read, in the file server's threads, while the daemon
    goes on: figures of one answer may be some microseconds apart.
    """

    core: SlaveCore
    isolation: str
    """The name of the isolation module."""
    work_dir: Path
    journal: Journal
    syncs: Histogram
    """Syncs of the journal."""
    loop_lag: Histogram
    measured: Mapping[ContainerID, tuple[float, Usage]]
    """For each container the cpus used lately, and its usage."""
    exits: ExitWatcher
    zygote: ZygoteClient
