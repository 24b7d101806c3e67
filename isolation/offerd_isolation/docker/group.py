"""The cgroup of one container as the engine has made it: limits, usage, kills for memory.

Read and written in place: a call to the engine takes a hundred times as long, and hangs when the engine does. The files are
those of `cgroups.controllers`; for hosts with cgroup v1 `v1` has others, which are used alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from offerd_isolation.base import Usage
from offerd_isolation.cgroups import statistics
from offerd_isolation.cgroups.controllers import Controller, Core, Cpu, FileMissing, Io, Memory, Pids
from offerd_isolation.cgroups.limits import Limits
from offerd_isolation.docker import v1
from offerd_linux.cgroup_membership import V2, cgroup_paths


@dataclass(frozen=True, slots=True)
class Group:
    """Of one container. Everything is as if empty once the container is gone."""

    cpu: Cpu
    memory: Memory
    pids: Pids
    io: Io
    directories: tuple[str, ...]
    """All of them, for a process that is to join."""

    @classmethod
    def of(cls, pid: int, proc: Path = Path("/proc")) -> Group:
        """Where this process is. Raises `OSError` if it is gone."""
        return cls.at(_directories(pid, proc))

    @classmethod
    def at(cls, directories: Mapping[str, str]) -> Group:
        """In these, by controller; those of no v1 hierarchy are in that of v2."""
        path = {
            name: directories.get(name) or directories.get(V2, "")
            for name in ("cpu", "cpuacct", "memory", "pids")
        }
        cpu, memory = Cpu(path["cpu"]), Memory(path["memory"])
        if "memory" in directories:
            cpu, memory = v1.Cpu(path["cpu"], path["cpuacct"]), v1.Memory(path["memory"])
        return cls(
            cpu,
            memory,
            Pids(path["pids"]),
            Io(directories.get(V2, "")),
            tuple(sorted(set(directories.values()))),
        )

    def processes(self) -> list[int]:
        """Their pids. Gone ones may be among them, as always."""
        try:
            return Core(self.memory.path).procs
        except FileMissing:
            return []

    def apply(self, limits: Limits, before: Limits | None = None) -> None:
        """Write what differs from `before` (None: all), of what follows the tasks: the number of processes is the engine's to
        set, once. Raises `IsolationError`."""
        for controller in (self.cpu, self.memory):
            _apply(controller, limits, before)

    def usage(self) -> Usage:
        """Of all but the pause process, which uses nothing."""
        processes = max(0, len(self.processes()) - 1)
        return replace(statistics.usage_of(self.cpu, self.memory, self.io), processes=processes)

    def mem_limit(self) -> int | None:
        """As the kernel has it."""
        try:
            return self.memory.max
        except FileMissing:
            return None


def _apply(controller: Controller, limits: Limits, before: Limits | None) -> None:
    try:
        controller.apply(limits, before)
    except FileMissing:
        if os.path.isdir(controller.path):
            raise
        # The container is gone: so is the limit.


def _directories(pid: int, proc: Path) -> dict[str, str]:
    """Where a process is, by controller: v1's, and `V2`."""
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
    found = {}
    for controller, path in cgroup_paths(pid, proc).items():
        if controller in mounts:
            where, root = mounts[controller]
            inner = path.removeprefix(root) if root != "/" else path
            found[controller] = f"{where}/{inner.strip('/')}".rstrip("/")
    return found
