"""The cgroup of one container that the engine has made: limits, usage, kills for memory.

Its files are read and written directly: a call to the engine takes a hundred times as long, and hangs when the engine does.
They are those of `cgroups.controllers`; on hosts with cgroup v1 those of `v1`, which have the same interface.
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
    """The cgroup of one container. Once the container is gone, it reads as empty."""

    cpu: Cpu
    memory: Memory
    pids: Pids
    io: Io
    directories: tuple[str, ...]
    """The cgroup's directories in all hierarchies, for a process that is to join."""

    @classmethod
    def of(cls, pid: int, proc: Path = Path("/proc")) -> Group:
        """The group that this process is in. Raises `OSError` if the process is gone."""
        return cls.at(_directories(pid, proc))

    @classmethod
    def at(cls, directories: Mapping[str, str]) -> Group:
        """The group with these directories, by controller. A controller without a v1 hierarchy is in that of v2."""
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
        """The pids in it. Some of the processes may have ended since."""
        try:
            return Core(self.memory.path).procs
        except FileMissing:
            return []

    def apply(self, limits: Limits, before: Limits | None = None) -> None:
        """Write the limits of cpu and memory that differ from `before` (None: all). The limit of processes is set by the
        engine, once. Raises `IsolationError`."""
        for controller in (self.cpu, self.memory):
            _apply(controller, limits, before)

    def usage(self) -> Usage:
        """What the container uses. The pause process is not counted."""
        processes = max(0, len(self.processes()) - 1)
        return replace(statistics.usage_of(self.cpu, self.memory, self.io), processes=processes)

    def mem_limit(self) -> int | None:
        """The memory limit in bytes, as the kernel has it; None if there is none."""
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
        # The container is gone, and its limits with it.


def _directories(pid: int, proc: Path) -> dict[str, str]:
    """The cgroup directories that a process is in, by v1 controller, and `V2` for the v2 hierarchy."""
    mounts: dict[
        str, tuple[str, str]
    ] = {}  # controller: mount point, and which part of the hierarchy is mounted there
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
