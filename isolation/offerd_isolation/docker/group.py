"""The cgroups of one container as the engine has made them, v1 or v2: limits, usage, kills for memory.

Read and written in place: a call to the engine takes a hundred times as long, and hangs when the engine does.
Sources: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from offerd_isolation.base import IsolationError, Usage
from offerd_linux.cgroup_membership import V2, cgroup_paths

PERIOD_US = 100_000
OPTIONAL = frozenset({"memory.swap.max"})
"""Not every kernel counts swap; the file is missing then."""
_V1_UNLIMITED = 1 << 62
"""v1 shows no limit as the largest number of pages that there can be."""
_V1_NEAR_BYTES = 1 << 20
"""Memory is charged in batches, one for each cpu."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: none. `quota_us` in each `PERIOD_US`."""

    shares: int = 1024
    quota_us: int | None = None
    mem_bytes: int | None = None


class Group:
    """Of the container of one process. Everything is as if empty once the container is gone."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths  # by controller
        self.is_v2 = "memory" not in paths

    @classmethod
    def of(cls, pid: int, proc: Path = Path("/proc")) -> Group:
        """Where this process is. Raises `OSError` if it is gone."""
        mounts: dict[str, tuple[str, str]] = {}  # controller: where, and what of the hierarchy is there
        for line in (proc / "self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            root, where = fields.split(" ")[3:5]
            kind, _, options = rest.split(" ", 2)
            if kind == "cgroup2":
                mounts.setdefault(V2, (where, root))
            elif kind == "cgroup":
                for option in options.split(" ")[-1].split(","):
                    mounts.setdefault(option, (where, root))
        paths = {}
        for controller, path in cgroup_paths(pid, proc).items():
            if controller in mounts:
                where, root = mounts[controller]
                inner = path.removeprefix(root) if root != "/" else path
                paths[controller] = f"{where}/{inner.strip('/')}".rstrip("/")
        return cls(paths)

    def directories(self) -> list[str]:
        """All of them, for a process that is to join."""
        return sorted(set(self._paths.values()))

    def processes(self) -> list[int]:
        """Their pids. Gone ones may be among them, as always."""
        return [int(word) for word in self._read("memory", "cgroup.procs").split()]

    # -- limits ---------------------------------------------------------------------------------------------------------

    def apply(self, old: Limits | None, new: Limits) -> None:
        """Write what differs. Raises `IsolationError`."""
        if old is None or old.shares != new.shares:
            # As runc converts shares for v2.
            weight = 1 + (new.shares - 2) * 9999 // 262142
            self._write("cpu", *(("cpu.weight", weight) if self.is_v2 else ("cpu.shares", new.shares)))
        if (old is None and new.quota_us is not None) or (old is not None and old.quota_us != new.quota_us):
            quota = new.quota_us
            if self.is_v2:
                self._write("cpu", "cpu.max", f"{'max' if quota is None else quota} {PERIOD_US}")
            else:
                self._write("cpu", "cpu.cfs_quota_us", -1 if quota is None else quota)
        if old is None or old.mem_bytes != new.mem_bytes:
            self._limit_memory(new.mem_bytes)

    def _limit_memory(self, mem_bytes: int | None) -> None:
        if self.is_v2:
            self._write("memory", "memory.max", "max" if mem_bytes is None else mem_bytes)
            self._write("memory", "memory.swap.max", "max" if mem_bytes is None else 0)
            return
        value = -1 if mem_bytes is None else mem_bytes
        # v1 wants the one with swap never below the one without: which comes first depends on the direction.
        names = ["memory.limit_in_bytes"]
        if os.path.exists(f"{self._paths['memory']}/memory.memsw.limit_in_bytes"):
            names.append("memory.memsw.limit_in_bytes")
        now = int(self._read("memory", names[0]) or 0)
        if value == -1 or value > now:
            names.reverse()
        for name in names:
            self._write("memory", name, value)

    # -- what is used ---------------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Of all but the pause process, which uses nothing."""
        processes = max(0, len(self.processes()) - 1)
        if self.is_v2:
            cpu = _pairs(self._read("cpu", "cpu.stat"))
            stat = _pairs(self._read("memory", "memory.stat"))
            held = sum(stat.get(name, 0) for name in ("anon", "shmem", "kernel_stack", "pagetables"))
            peak = int(self._read("memory", "memory.peak") or 0)
            cpu_s, throttled_s = cpu.get("usage_usec", 0) / 1e6, cpu.get("throttled_usec", 0) / 1e6
        else:
            stat = _pairs(self._read("memory", "memory.stat"))
            held = stat.get("total_rss", 0) + stat.get("total_shmem", 0)
            peak = int(self._read("memory", "memory.max_usage_in_bytes") or 0)
            cpu_s = int(self._read("cpuacct", "cpuacct.usage") or 0) / 1e9
            throttled_s = _pairs(self._read("cpu", "cpu.stat")).get("throttled_time", 0) / 1e9
        return Usage(cpu_s, held, max(peak, held), processes, throttled_s)

    def kills(self) -> int:
        """How many processes the kernel has killed here because memory was short."""
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        return _pairs(self._read("memory", name)).get("oom_kill", 0)

    def times_at_limit(self) -> int:
        """How often memory ran out at a limit of its own. v1 counts that for no limit with swap: once it has been near its
        limit, all kills are for it."""
        if self.is_v2:
            # Before 5.2 only what was counted here and below is known.
            text = self._read("memory", "memory.events.local") or self._read("memory", "memory.events")
            return _pairs(text).get("oom", 0)
        limit, peak = self.mem_limit(), int(self._read("memory", "memory.max_usage_in_bytes") or 0)
        return self.kills() if limit is not None and peak >= limit - _V1_NEAR_BYTES else 0

    def pids_refused(self) -> int:
        """How often a process or thread was one too many."""
        return _pairs(self._read("pids", "pids.events")).get("max", 0)

    def mem_limit(self) -> int | None:
        """As the kernel has it."""
        text = self._read("memory", "memory.max" if self.is_v2 else "memory.limit_in_bytes")
        return int(text) if text.isdigit() and int(text) < _V1_UNLIMITED else None

    # -- files ----------------------------------------------------------------------------------------------------------

    def _path(self, controller: str) -> str:
        return self._paths.get(controller) or self._paths.get(V2, "")

    def _read(self, controller: str, name: str) -> str:
        # Not of this kernel, or of a container that is gone, also since the open (ENODEV): both read as nothing.
        with suppress(OSError), open(f"{self._path(controller)}/{name}") as file:
            return file.read().strip()
        return ""

    def _write(self, controller: str, name: str, value: int | str) -> None:
        path = f"{self._path(controller)}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if name in OPTIONAL or not os.path.isdir(self._path(controller)):
                return  # the container is gone: so is the limit
            raise IsolationError(f"this kernel has no {path}") from None
        try:
            os.write(fd, str(value).encode())
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # gone since the open
            raise IsolationError(f"cannot write {value} to {path}: {error.strerror}") from None
        finally:
            os.close(fd)


def _pairs(text: str) -> dict[str, int]:
    words = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}
