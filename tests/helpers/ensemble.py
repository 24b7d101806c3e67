"""ZooKeeper servers for tests: one, or an ensemble whose servers can be killed, frozen and started again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from helpers.cli import wait_until
from offerd.masters.leader import ZooKeeperAddress
from offerd.masters.zookeeper_access import new_client
from offerd_cli import zookeeper

needs_zookeeper = pytest.mark.skipif(
    not zookeeper.JAR.exists(), reason="needs ZooKeeper: apt install zookeeper"
)


class Ensemble:
    """A context manager that starts the servers and removes them."""

    def __init__(self, directory: Path, servers: int = 1) -> None:
        self._ports = zookeeper.free_ports(servers)
        self._log = directory / "zookeeper.log"
        self._programs = [
            zookeeper.prepare_server(directory / f"zookeeper-{i}", i, self._ports) for i in range(servers)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> ZooKeeperAddress:
        return ZooKeeperAddress(zookeeper.hosts(self._ports), "/offerd")

    def __enter__(self) -> Ensemble:
        for number in range(len(self._programs)):
            self.start(number)
        wait_until(lambda: all(self.modes()), "all servers of the ensemble to serve", 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def modes(self) -> list[str]:
        """The servers' modes: leader, follower or standalone; empty for one that does not serve."""
        return [zookeeper.mode(ports.client) for ports in self._ports]

    def start(self, number: int) -> None:
        with self._log.open("ab") as log:
            self._processes[number] = subprocess.Popen(self._programs[number], stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def children(self) -> list[str]:
        """The names beneath the masters' path."""
        client = new_client(self.address)
        client.start()
        try:
            names: list[str] = client.get_children(self.address.path)
            return names
        finally:
            client.stop()
            client.close()
