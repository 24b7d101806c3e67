"""The cost of a cluster's processes: CPU time by role, resident and private memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from offerd_cli.local_cluster import LocalCluster
from offerd_cli.sweep import members

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_BELOW_SLAVE = ("zygote", "shims", "executors", "workers")
"""Roles by depth in the process tree: slave - zygote - shim - executor - its workers or tasks."""


class Cpu(NamedTuple):
    """CPU seconds, user and system, of the process itself and of children that it has waited for."""

    own_s: float
    children_s: float


def cpu_of(pid: int) -> Cpu:
    """Raises `FileNotFoundError` or `ProcessLookupError` if the process is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu((int(fields[11]) + int(fields[12])) * _TICK_S, (int(fields[13]) + int(fields[14])) * _TICK_S)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def roles(cluster: LocalCluster) -> dict[int, str]:
    """The role of each process of the cluster: master, slave 1, ..., zygote, shims, executors, workers, other."""
    known = {cluster.master.pid: "master"}
    known |= {slave.pid: f"slave {number}" for number, slave in enumerate(cluster.slaves, 1)}
    found = {}
    for pid in members(cluster.base):
        try:
            found[pid] = known.get(pid) or _role_below(pid, known)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a task that has just ended
    return found


def _role_below(pid: int, known: dict[int, str]) -> str:
    depth = 0
    while pid not in known and pid > 1:
        pid = parent_of(pid)
        depth += 1
    return _BELOW_SLAVE[min(depth, len(_BELOW_SLAVE)) - 1] if pid in known else "other"


def find(cluster: LocalCluster, role: str) -> list[int]:
    """The pids of one role."""
    return sorted(pid for pid, its in roles(cluster).items() if its == role)


@dataclass(frozen=True)
class Snapshot:
    """The CPU time of every role, of this process and of the whole machine at one moment."""

    at_s: float
    by_role: dict[str, float]
    busy_s: float

    @classmethod
    def take(cls, cluster: LocalCluster) -> Snapshot:
        by_role = {"scheduler": time.process_time()}
        for pid, role in roles(cluster).items():
            try:
                own_s, children_s = cpu_of(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
            by_role[role] = by_role.get(role, 0.0) + own_s
            # Children that an executor has waited for are tasks or old workers.
            heirs = "workers" if role == "executors" else role
            by_role[heirs] = by_role.get(heirs, 0.0) + children_s
        return cls(time.perf_counter(), by_role, machine_busy_s())

    def until(self, after: Snapshot) -> Spent:
        grown = {role: after_s - self.by_role.get(role, 0.0) for role, after_s in after.by_role.items()}
        return Spent(after.at_s - self.at_s, grown, after.busy_s - self.busy_s)


@dataclass(frozen=True)
class Spent:
    """CPU seconds by role between two snapshots."""

    wall_s: float
    by_role: dict[str, float]
    busy_s: float

    @property
    def ours_s(self) -> float:
        return sum(self.by_role.values())

    def idle_share(self) -> float:
        """The unused fraction of the machine's cores."""
        return max(0.0, 1 - self.busy_s / (self.wall_s * _cores()))

    def others_share(self) -> float:
        """The fraction of the machine's cores used by processes outside of this measurement; 0 on a quiet machine."""
        return max(0.0, (self.busy_s - self.ours_s) / (self.wall_s * _cores()))


def _cores() -> int:
    return os.cpu_count() or 1


def machine_busy_s() -> float:
    """CPU seconds for which all cores together were not idle since boot."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, *_ = fields
    return (user + nice + system + irq + softirq) * _TICK_S


def resident_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes), shared pages included."""
    return _rollup_kib(pid, "Rss") * 1024 / 1e6


def private_mb(pid: int) -> float:
    """The memory that would be freed if only this process ended, in MB (10^6 bytes)."""
    return (_rollup_kib(pid, "Private_Clean") + _rollup_kib(pid, "Private_Dirty")) * 1024 / 1e6


def _rollup_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(f"the kernel does not report {name} of process {pid}")
