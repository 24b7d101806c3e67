"""Faults and their repairs: each fault is described, caused, and has a repair that becomes due later."""

from __future__ import annotations

import contextlib
import errno
import heapq
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from chaos.cluster import ChaosCluster
from offerd.errors import OfferdError
from offerd_cli.local_cluster import Daemon

Fault = Callable[[], str]


DEPOSED = ("no longer leads", "cannot be sure that it still leads")
"""The last log lines of a master that has ended with status 1 because another one leads, or may lead."""


class Faults:
    """Faults from one seed. `strike` does one of them; `mend` does the repairs that are due. A daemon that ended by itself is
    in `complaints`.
    """

    def __init__(self, cluster: ChaosCluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._repairs: list[tuple[float, int, Callable[[], None]]] = []
        self._frozen: set[str] = set()
        self._down: set[str] = set()
        self._number = 0
        self._all: list[tuple[int, Fault]] = [
            (20, self.kill_slave),
            (8, self.freeze_slave),
            (8, self.kill_leader),
            (5, self.freeze_leader),
            (4, self.kill_standby),
            (10, self.kill_executor),
            (5, self.kill_shim),
            (10, self.cut_connections),
            (10, self.stall_one_way),
            (8, self.unplug_network),
            (6, self.fill_disk),
            (8, self.flip_byte),
            (5, self.move_clock),
        ]

    def strike(self) -> str:
        """Cause a fault; returns its description, or empty if it is not possible now."""
        weights = [weight for weight, _ in self._all]
        ((_, fault),) = self.random.choices(self._all, weights)
        what = fault()
        if what:
            self.counts[fault.__name__] += 1
        return what

    def mend(self, *, everything: bool = False) -> None:
        """Do the repairs that are due, or all."""
        now = time.monotonic()
        while self._repairs and (everything or self._repairs[0][0] <= now):
            heapq.heappop(self._repairs)[2]()
        for daemon in self.cluster.mortals():
            if not daemon.running and daemon.name not in self._down:
                if not _was_deposed(daemon):
                    self.complaints.append(f"{daemon.name} {daemon.how_it_ended()}")
                # As systemd would.
                daemon.start()

    def _later(self, seconds: float, repair: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._repairs, (time.monotonic() + seconds, self._number, repair))

    # -- daemons --------------------------------------------------------------------------------------------------------

    def _kill(self, daemon: Daemon, down_s: float) -> str:
        if daemon.name in self._down or not daemon.running:
            return ""
        daemon.signal(signal.SIGKILL)
        daemon.wait(10)
        self._down.add(daemon.name)
        self._later(down_s, lambda: self._start(daemon))
        return f"kill -9 {daemon.name} for {down_s:.1f} s"

    def _start(self, daemon: Daemon) -> None:
        self._down.discard(daemon.name)
        if not daemon.running:
            daemon.start()

    def _freeze(self, daemon: Daemon, seconds: float) -> str:
        if daemon.name in self._down | self._frozen or not daemon.running:
            return ""
        daemon.signal(signal.SIGSTOP)
        self._frozen.add(daemon.name)
        self._later(seconds, lambda: self._thaw(daemon))
        return f"freeze {daemon.name} for {seconds:.1f} s"

    def _thaw(self, daemon: Daemon) -> None:
        self._frozen.discard(daemon.name)
        daemon.signal(signal.SIGCONT)

    def _leader(self) -> Daemon | None:
        with contextlib.suppress(OfferdError):
            return self.cluster.leader()
        return None

    def kill_slave(self) -> str:
        return self._kill(self.random.choice(self.cluster.slaves), self.random.choice([0.0, 0.5, 3.0]))

    def freeze_slave(self) -> str:
        return self._freeze(self.random.choice(self.cluster.slaves), self.random.choice([1.0, 4.0, 12.0]))

    def kill_leader(self) -> str:
        leader = self._leader()
        return self._kill(leader, self.random.choice([0.0, 2.0, 5.0])) if leader is not None else ""

    def freeze_leader(self) -> str:
        leader = self._leader()
        return self._freeze(leader, self.random.choice([1.0, 4.0, 8.0])) if leader is not None else ""

    def kill_standby(self) -> str:
        leader = self._leader()
        others = [master for master in self.cluster.masters if master is not leader]
        return self._kill(others[0], 1.0) if leader is not None and others else ""

    # -- what slaves have started ---------------------------------------------------------------------------------------

    def _executors(self) -> list[psutil.Process]:
        """The executors of this cluster: they run in sandboxes below its directories."""
        directories = [str(self.cluster.base)]
        if self.cluster.disk is not None:
            directories.append(str(self.cluster.disk))
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, IndexError):
                is_executor = process.cmdline()[0].startswith("offerd-executor")
                if is_executor and any(process.cwd().startswith(directory) for directory in directories):
                    found.append(process)
        return found

    def kill_executor(self) -> str:
        executors = self._executors()
        if not executors:
            return ""
        with contextlib.suppress(psutil.Error):
            self.random.choice(executors).kill()
            return "kill -9 an executor"
        return ""

    def kill_shim(self) -> str:
        """Kill the parent of an executor, which is its shim."""
        executors = self._executors()
        if not executors:
            return ""
        with contextlib.suppress(psutil.Error):
            shim = self.random.choice(executors).parent()
            if shim is not None and shim.pid > 1 and shim.pid not in {d.pid for d in self.cluster.mortals()}:
                shim.kill()
                return "kill -9 a shim"
        return ""

    # -- the network ----------------------------------------------------------------------------------------------------

    def cut_connections(self) -> str:
        name = self.random.choice(sorted(self.cluster.proxies))
        self.cluster.proxies[name].cut()
        return f"cut all connections to {name}"

    def stall_one_way(self) -> str:
        name = self.random.choice(sorted(self.cluster.proxies))
        upwards, seconds = self.random.choice([True, False]), self.random.choice([0.5, 3.0, 8.0])
        self.cluster.proxies[name].stall(upwards, seconds)
        return f"carry nothing {'to' if upwards else 'from'} {name} for {seconds:g} s"

    def unplug_network(self) -> str:
        network = self.cluster.network
        if network is None or "network" in self._down:
            return ""
        seconds = self.random.choice([1.0, 4.0, 12.0])
        self._down.add("network")
        network.set_up(False)

        def plug_in() -> None:
            self._down.discard("network")
            network.set_up(True)

        self._later(seconds, plug_in)
        return f"unplug slave-3's network for {seconds:g} s"

    # -- disks ----------------------------------------------------------------------------------------------------------

    def fill_disk(self) -> str:
        if self.cluster.disk is None or "disk" in self._down:
            return ""
        filler = self.cluster.disk / "filler"
        self._down.add("disk")
        _fill(filler)
        seconds = self.random.choice([1.0, 3.0, 6.0])

        def empty() -> None:
            self._down.discard("disk")
            filler.unlink(missing_ok=True)

        self._later(seconds, empty)
        return f"fill slave-2's disk for {seconds:g} s"

    def flip_byte(self) -> str:
        """Flip a byte in a file of a killed slave."""
        slave = self.random.choice(self.cluster.slaves)
        if slave.work_dir is None or not self._kill(slave, 0.5):
            return ""
        files = [*slave.work_dir.glob("*.ckpt"), *slave.work_dir.glob("tasks.journal")]
        files += slave.work_dir.glob("containers/*/container.ckpt")
        files = sorted(path for path in files if path.stat().st_size > 0)
        if not files:
            return ""
        path = self.random.choice(files)
        data = bytearray(path.read_bytes())
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        path.write_bytes(data)
        return f"flip a bit in {path.name} of {slave.name}, which was killed"

    # -- clocks ---------------------------------------------------------------------------------------------------------

    def move_clock(self) -> str:
        if self.cluster.clock is None:
            return ""
        offset = self.random.choice(["+2y", "-1h", "+0", "+300s"])
        self.cluster.clock.write_text(f"{offset}\n")
        return f"set the wall clock of master-1 and slave-1 to {offset}"


def _was_deposed(daemon: Daemon) -> bool:
    last = daemon.last_line()
    return daemon.exit_status == 1 and any(words in last for words in DEPOSED)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
