"""A container's files of cgroup v1, with the interface of `cgroups.controllers`: names, units and order of writes differ.

Sources: Documentation/admin-guide/cgroup-v1/memory.rst, cpuacct.rst, and scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from offerd_isolation.cgroups import controllers
from offerd_isolation.cgroups.contents import V1_UNLIMITED_BYTES, FlatKeyed, Integer, MaxInteger
from offerd_isolation.cgroups.controllers import FileMissing
from offerd_isolation.cgroups.limits import Limits

NEAR_BYTES = 1 << 20
"""How near the peak must be to the limit: memory is charged in batches, one for each cpu."""


class Limit(MaxInteger):
    """Bytes; no limit is written as -1."""

    def sanitize_get(self, value: str) -> int | None:
        return limit if (limit := int(value)) < V1_UNLIMITED_BYTES else None

    def sanitize_set(self, value: int | None) -> str:
        return "-1" if value is None else str(value)


class Renamed(FlatKeyed):
    """`KEY NUMBER` in each line: those that v2 has too, under v2's names."""

    names: ClassVar[dict[str, str]] = {"total_rss": "anon", "total_shmem": "shmem"}

    def sanitize_get(self, value: str) -> dict[str, int]:
        found = super().sanitize_get(value)
        return {name: found[key] for key, name in self.names.items() if key in found}


class Cpu(controllers.Cpu):
    """cpu.shares in place of a weight, cpu.cfs_quota_us with the engine's period; the time used is in `cpuacct`."""

    needed = ("cpu.shares",)
    shares = Integer("cpu.shares")
    quota_us = Integer("cpu.cfs_quota_us")

    def __init__(self, path: str, accounts: str) -> None:
        super().__init__(path)
        self._accounts = Accounts(accounts)

    def wanted(self, limits: Limits) -> dict[str, Any]:
        wanted = {"shares": limits.cpu_shares}
        if limits.cpu_quota_us is not None:
            wanted["quota_us"] = limits.cpu_quota_us
        return wanted

    def used_s(self) -> tuple[float, float]:
        try:
            return self._accounts.usage_ns / 1e9, self.stat.get("throttled_time", 0) / 1e9
        except FileMissing:
            return 0.0, 0.0


class Accounts(controllers.Controller):
    """The controller that counts cpu time."""

    name = "cpuacct"
    usage_ns = Integer("cpuacct.usage", readonly=True)


class Memory(controllers.Memory):
    """memory.limit_in_bytes, and memory.memsw.limit_in_bytes with the same value: it counts swap too, so there is no swap."""

    needed = ("memory.limit_in_bytes",)
    max = Limit("memory.limit_in_bytes")
    with_swap_max = Limit("memory.memsw.limit_in_bytes")  # missing if the kernel does not count swap
    current = Integer("memory.usage_in_bytes", readonly=True)
    peak = Integer("memory.max_usage_in_bytes", readonly=True)
    stat = Renamed("memory.stat", readonly=True)
    events = FlatKeyed("memory.oom_control", readonly=True)

    def wanted(self, limits: Limits) -> dict[str, Any]:
        return {"max": limits.mem_bytes}

    def apply(self, limits: Limits, before: Limits | None = None) -> None:
        """Write both limits. The one with swap must never be below the other, so their order depends on the direction."""
        mem_bytes = limits.mem_bytes
        if before is not None and before.mem_bytes == mem_bytes:
            return
        now = self.max
        is_more = mem_bytes is None or (now is not None and mem_bytes > now)
        if not is_more:
            self.max = mem_bytes
        with suppress(FileMissing):
            self.with_swap_max = mem_bytes
        if is_more:
            self.max = mem_bytes

    def times_at_limit(self) -> int:
        """v1 has no count of this: once the peak has been near the limit, every kill counts as one for the limit."""
        try:
            limit = self.max
        except FileMissing:
            return 0
        return self.kills() if limit is not None and self.peak_bytes() >= limit - NEAR_BYTES else 0
