"""A cluster whose only slave is connected to its master through a proxy, so that the connection can be stalled or cut."""

from __future__ import annotations

from helpers.proxy import Proxy
from offerd_cli.local_cluster import Daemon, LocalCluster


class PartitionedCluster(LocalCluster):
    """A master that pings every `ping_interval` and calls its slave lost after five missed pings."""

    def __init__(self, ping_interval: str) -> None:
        options = ("--ping-interval", ping_interval)
        super().__init__(slaves=1, cpus="4", mem="1G", isolation="noop", master_options=options)
        self.proxy: Proxy | None = None

    def _slave(self, number: int) -> Daemon:
        daemon = super()._slave(number)
        host, _, port = self.address.rpartition(":")
        self.proxy = Proxy((host, int(port)))
        daemon.words[daemon.words.index("--master") + 1] = f"{host}:{self.proxy.port}"
        return daemon

    def stall(self, seconds: float, *, to_master: bool = True, to_slave: bool = True) -> None:
        """From now on no data passes, and no connection breaks."""
        assert self.proxy is not None
        for upwards, wanted in ((True, to_master), (False, to_slave)):
            if wanted:
                self.proxy.stall(upwards, seconds)

    def heal(self) -> None:
        self.stall(0.0)

    def __enter__(self) -> PartitionedCluster:
        self.start()
        return self

    def stop(self) -> None:
        if self.proxy is not None:
            self.heal()
        super().stop()
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None
