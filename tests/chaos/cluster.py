"""The cluster that chaos is let loose on: two masters and a ZooKeeper behind proxies, and three slaves, each its own way
vulnerable: one with a clock that can be moved, one on a small disk, one in a network of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helpers.proxy import Proxy
from offerd.errors import OfferdError
from offerd.masters.detector import find_leader
from offerd.masters.leader import parse_zookeeper
from offerd_cli import zookeeper
from offerd_cli.local_cluster import Daemon, LocalCluster

SESSION_S = 2.0
DISK_BYTES = 96 << 20
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
LOOPBACK = "127.0.0.1"


class Network:
    """A network namespace connected to this one by a pair of interfaces. Root only."""

    def __init__(self) -> None:
        self.name = f"offerd{os.getpid() % 100_000}"
        subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.ours, self.theirs = f"{subnet}.1", f"{subnet}.2"
        self._interface = f"v{self.name}"

    def make(self) -> None:
        """Make the interfaces. Raises `OSError` if that is not allowed."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._interface, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.ours}/24", "dev", self._interface)
        _ip("link", "set", self._interface, "up")
        for words in (("lo", "up"), ("eth0", "up")):
            _ip("-n", self.name, "link", "set", *words)
        _ip("-n", self.name, "addr", "add", f"{self.theirs}/24", "dev", "eth0")

    def set_up(self, up: bool) -> None:
        """Plug the cable in or out, without a notice to anybody."""
        _ip("-n", self.name, "link", "set", "eth0", "up" if up else "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class ChaosCluster(LocalCluster):
    """The cluster with all that can be disturbed. `missing` names faults that this host does not support."""

    def __init__(self) -> None:
        super().__init__(
            slaves=3,
            cpus="4",
            mem="1G",
            isolation="noop",
            masters=2,
            zk="auto",
            master_options=("--ping-interval", "1s", "--zk-session-timeout", f"{SESSION_S:g}s"),
            slave_options=("--executor-registration-timeout", "20s"),
        )
        self.missing: list[str] = []
        self.proxies: dict[str, Proxy] = {}
        self.network: Network | None = Network()
        self.disk: Path | None = None
        self.clock: Path | None = None
        self._ip = LOOPBACK

    # -- making -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> ChaosCluster:
        self.start()
        return self

    def start(self) -> None:
        try:
            self._make_network()
            self._make_disk()
            super().start()
        except BaseException:
            self._remove_host_things()
            raise

    def _make_network(self) -> None:
        assert self.network is not None
        try:
            self.network.make()
            self._ip = self.network.ours
        except OSError as error:
            self.network.remove()
            self.network = None
            self.missing.append(f"no network namespace: {error}")

    def _make_disk(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="offerd-disk-"))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0711", "offerd", str(directory)]
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            self.disk = directory
        else:
            directory.rmdir()
            self.missing.append(f"no small disk: {done.stderr.strip()}")

    def _start_zookeeper(self) -> str:
        real = parse_zookeeper(super()._start_zookeeper())
        proxy = self.proxies["zookeeper"] = Proxy((LOOPBACK, int(real.hosts.rpartition(":")[2])), self._ip)
        self.clock = self.base / "clock" if FAKETIME.exists() else None
        if self.clock is None:
            self.missing.append(f"no clock to move: {FAKETIME} is not there")
        else:
            self.clock.write_text("+0\n")
        return f"zk://{self._ip}:{proxy.port}{real.path}"

    def _start_masters(self) -> None:
        for number in (1, 2):
            name = f"master-{number}"
            port = zookeeper.free_ports(1)[0].client
            proxy = self.proxies[name] = Proxy((LOOPBACK, port), self._ip)
            words = ["master", "--port", str(port), "--zk", self._zk, *self._master_words]
            words += ["--advertise-ip", self._ip, "--advertise-port", str(proxy.port)]
            environment = self._environment() | (self._fake_clock() if number == 1 else {})
            daemon = Daemon(name, words, self.base / f"{name}.log", None, environment)
            daemon.start()
            self.masters.append(daemon)
        self.address = self._zk
        self._wait(lambda: find_leader(parse_zookeeper(self._zk), 1.0) != "", "a master to lead")

    def _slave(self, number: int) -> Daemon:
        daemon = super()._slave(number)
        environment, program, work_dir = self._environment(), list(daemon.program), daemon.work_dir
        if number == 1:
            environment |= self._fake_clock()
        elif number == 2 and self.disk is not None:
            work_dir = self.disk / "work"
            daemon.words[daemon.words.index("--work-dir") + 1] = str(work_dir)
        elif number == 3 and self.network is not None:
            program = ["ip", "netns", "exec", self.network.name, *program]
        # A slave that chaos ends leaves its tasks running; they are swept at the end.
        daemon.words.remove("--ephemeral")
        return Daemon(daemon.name, daemon.words, daemon.log, work_dir, environment, program)

    def _fake_clock(self) -> dict[str, str]:
        if self.clock is None:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    # -- looking ------------------------------------------------------------------------------------------------------

    def leader(self) -> Daemon:
        address = find_leader(parse_zookeeper(self._zk), 10.0)
        for daemon in self.masters:
            if address and self.proxies[daemon.name].port == int(address.rpartition(":")[2]):
                return daemon
        raise OfferdError("no master of ours leads")

    def mortals(self) -> Sequence[Daemon]:
        """The daemons that chaos may kill and freeze."""
        return [*self.masters, *self.slaves]

    # -- ending -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self._remove_host_things()

    def _remove_host_things(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()
        self.proxies.clear()
        if self.network is not None:
            self.network.remove()
            self.network = None
        if self.disk is not None:
            subprocess.run(["umount", "-l", str(self.disk)], check=False, capture_output=True)
            shutil.rmtree(self.disk, ignore_errors=True)
            self.disk = None
