"""The controllers of cgroup v2, one small class for each: its files, the values that limits give them, and what can be read.

A controller is a view of one cgroup's directory and holds no state. The kernel's Documentation/admin-guide/cgroup-v2.rst
says what each file means. Not every kernel has every file. Without a `needed` file the limits cannot be enforced; a missing
`optional` file is skipped, and the slave logs what that means.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from offerd_isolation.base import IsolationError
from offerd_isolation.cgroups.contents import (
    DEFAULT_PERIOD_US,
    CpuMax,
    Cpus,
    Flag,
    FlatKeyed,
    Integer,
    MaxInteger,
    NestedKeyed,
    Numbers,
    Pressure,
    Words,
)
from offerd_isolation.cgroups.limits import Limits

READ_BYTES = 64 << 10


class FileMissing(IsolationError):
    """A control file or its whole cgroup does not exist: never made, removed, or its controller was switched off."""


class Controller:
    """The base class: the cgroup's directory, and how its files are read and written. Both raise `IsolationError`, or
    `FileMissing` if there is no such file."""

    name: ClassVar[str] = ""
    needed: ClassVar[tuple[str, ...]] = ()
    """Files without which the controller is useless."""
    optional: ClassVar[dict[str, str]] = {}
    """Attributes that are written only if the kernel has them -> what it means if it does not."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get_property(self, filename: bytes) -> str:
        """The text of the file."""
        try:
            fd = os.open(f"{self.path}/{filename.decode()}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._trouble("read", filename, error) from None
        try:
            text = b""
            while data := os.read(fd, READ_BYTES):
                text += data
        except OSError as error:  # ENODEV: the cgroup was removed after the open
            raise self._trouble("read", filename, error) from None
        finally:
            os.close(fd)
        return text.decode().strip()

    def set_property(self, filename: bytes, value: object) -> None:
        """One write for each line, as the kernel wants it."""
        try:
            fd = os.open(f"{self.path}/{filename.decode()}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._trouble("write", filename, error) from None
        try:
            for line in str(value).split("\n"):
                os.write(fd, line.encode())
        except OSError as error:
            raise self._trouble(f"write {value!r} to", filename, error) from None
        finally:
            os.close(fd)

    def _trouble(self, what: str, filename: bytes, error: OSError) -> IsolationError:
        kind = FileMissing if isinstance(error, FileNotFoundError) or error.errno == 19 else IsolationError
        return kind(f"cannot {what} {self.path}/{filename.decode()}: {error.strerror}")

    def wanted(self, limits: Limits) -> dict[str, Any]:
        """Attribute -> value, for everything that these limits set in this controller."""
        return {}

    def apply(self, limits: Limits, before: Limits | None = None) -> None:
        """Write what is different from `before` (None: everything)."""
        known = self.wanted(before) if before is not None else {}
        for attribute, value in self.wanted(limits).items():
            if attribute not in known or known[attribute] != value:
                try:
                    setattr(self, attribute, value)
                except FileMissing:
                    if attribute not in self.optional:
                        raise

    def drift(self, limits: Limits) -> list[str]:
        """A sentence for each file whose value is not the one that was set. Raises `FileMissing`."""
        found = []
        for attribute, value in self.wanted(limits).items():
            try:
                now = getattr(self, attribute)
            except FileMissing:
                if attribute in self.optional:
                    continue
                raise
            if now != value and not self.is_same(value, now):
                descriptor = vars(type(self))[attribute]
                filename = descriptor.filename.decode()
                set_to, is_now = (str(descriptor.sanitize_set(each)) or "nothing" for each in (value, now))
                found.append(f"{filename} was {is_now} and is {set_to} again")
        return found

    def is_same(self, wanted: object, now: object) -> bool:
        """Whether two different values mean the same to this kernel."""
        return False


class Core(Controller):
    """The files that every cgroup has, even without any controller."""

    controllers = Words("cgroup.controllers", readonly=True)
    subtree_control = Words("cgroup.subtree_control")
    procs = Numbers("cgroup.procs", readonly=True)
    events = FlatKeyed("cgroup.events", readonly=True)
    kill = Flag("cgroup.kill", writeonly=True)  # 5.14 and newer
    max_depth = MaxInteger("cgroup.max.depth")
    max_descendants = MaxInteger("cgroup.max.descendants")


class Cpu(Controller):
    """cpu.weight always; cpu.max, which also stops processes when cpus are idle, only if asked for."""

    name = "cpu"
    needed = ("cpu.weight",)
    weight = Integer("cpu.weight")
    max = CpuMax("cpu.max")
    stat = FlatKeyed("cpu.stat", readonly=True)
    pressure = Pressure("cpu.pressure")

    def wanted(self, limits: Limits) -> dict[str, Any]:
        wanted: dict[str, Any] = {"weight": limits.cpu_weight}
        if limits.cpu_quota_us is not None:
            wanted["max"] = (limits.cpu_quota_us, DEFAULT_PERIOD_US)
        return wanted

    def used_s(self) -> tuple[float, float]:
        """Seconds of cpu time, and seconds in which it was stopped as its quota was used up; 0 if the kernel does not say."""
        try:
            stat = self.stat
        except FileMissing:
            return 0.0, 0.0
        return stat.get("usage_usec", 0) / 1e6, stat.get("throttled_usec", 0) / 1e6


class Memory(Controller):
    """memory.max, no swap (a task over its limit should fail with that reason, not become slow), and memory.oom.group."""

    name = "memory"
    needed = ("memory.max",)
    optional: ClassVar[dict[str, str]] = {
        "swap_max": "a task over its memory limit may swap, if the host has swap",
        "oom_group": "the kernel may kill one process of a task over its memory limit, and leave the others",
    }
    max = MaxInteger("memory.max")
    swap_max = MaxInteger("memory.swap.max")
    oom_group = Flag("memory.oom.group")
    current = Integer("memory.current", readonly=True)
    peak = Integer("memory.peak", readonly=True)  # 5.19 and newer
    stat = FlatKeyed("memory.stat", readonly=True)
    events = FlatKeyed("memory.events", readonly=True)  # of this cgroup and all below
    events_local = FlatKeyed("memory.events.local", readonly=True)
    pressure = Pressure("memory.pressure")

    def wanted(self, limits: Limits) -> dict[str, Any]:
        return {
            "max": limits.mem_bytes,
            "oom_group": limits.oom_group,
            "swap_max": 0 if limits.no_swap else None,
        }

    def held_bytes(self, *, with_kernel: bool = False) -> int:
        """Memory that the kernel cannot reclaim: anonymous and shared memory, without the page cache."""
        stat = self.stat
        held = stat.get("anon", 0) + stat.get("shmem", 0)
        if with_kernel:
            # Before Linux 5.18 there is no sum; these two are most of it.
            held += stat.get("kernel", stat.get("kernel_stack", 0) + stat.get("pagetables", 0))
        return held

    def peak_bytes(self) -> int:
        """The highest use so far, page cache included; 0 if the kernel does not say."""
        try:
            return self.peak
        except FileMissing:
            return 0

    def kills(self) -> int:
        """How many processes in this cgroup and below the kernel has killed for memory."""
        try:
            return self.events.get("oom_kill", 0)
        except FileMissing:
            return 0

    def times_at_limit(self) -> int:
        """How often memory ran out at this cgroup's own limit."""
        try:
            return self.events_local.get("oom", 0)
        except FileMissing:
            pass
        try:  # before Linux 5.2 there is only the count of this cgroup and all below
            return self.events.get("oom", 0) if self.max is not None else 0
        except FileMissing:
            return 0


class Pids(Controller):
    """pids.max: processes and threads."""

    name = "pids"
    needed = ("pids.max",)
    max = MaxInteger("pids.max")
    current = Integer("pids.current", readonly=True)
    events = FlatKeyed("pids.events", readonly=True)

    def wanted(self, limits: Limits) -> dict[str, Any]:
        return {"max": limits.pids}

    def refused(self) -> int:
        """How often a fork was refused because of the limit."""
        try:
            return self.events.get("max", 0)
        except FileMissing:
            return 0


class Io(Controller):
    """io.max for each device, and io.weight: only if asked for."""

    name = "io"
    max = NestedKeyed("io.max")
    weight_lines = FlatKeyed("io.weight")  # `default 100`, then `MAJOR:MINOR 200`
    pressure = Pressure("io.pressure")
    stat = NestedKeyed("io.stat", readonly=True)

    def wanted(self, limits: Limits) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        if limits.io_weight is not None:
            wanted["weight_lines"] = {"default": limits.io_weight}
        if limits.io_max:
            wanted["max"] = {device: dict(pairs) for device, pairs in limits.io_max}
        return wanted

    def is_same(self, wanted: object, now: object) -> bool:
        """The kernel also lists values that were never set."""
        if not isinstance(wanted, dict) or not isinstance(now, dict):
            return False
        return all(
            now.get(key) == value
            or (isinstance(value, dict) and value.items() <= (now.get(key) or {}).items())
            for key, value in wanted.items()
        )


class Cpuset(Controller):
    """cpuset.cpus, the processors to run on: only if asked for."""

    name = "cpuset"
    cpus = Cpus("cpuset.cpus")
    effective = Cpus("cpuset.cpus.effective", readonly=True)

    def wanted(self, limits: Limits) -> dict[str, Any]:
        return {} if limits.cpus is None else {"cpus": limits.cpus}


CONTROLLERS: tuple[type[Controller], ...] = (Cpu, Memory, Pids, Io, Cpuset)


def missing_files(path: str, names: frozenset[str]) -> list[str]:
    """The needed files of these controllers that a cgroup lacks, though it has the controllers."""
    needed = [file for kind in CONTROLLERS if kind.name in names for file in kind.needed]
    return [file for file in needed if not os.path.exists(f"{path}/{file}")]


def lacking(path: str, names: frozenset[str]) -> list[str]:
    """The optional files that it lacks: a sentence for each."""
    found = []
    for kind in CONTROLLERS:
        for attribute, means in kind.optional.items():
            file = vars(kind)[attribute].filename.decode()
            if kind.name in names and not os.path.exists(f"{path}/{file}"):
                found.append(f"this kernel has no {file}: {means}")
    return found


def apply(path: str, limits: Limits, before: Limits | None = None) -> None:
    """Write these limits to a cgroup's files; only those that differ from `before`."""
    for controller in CONTROLLERS:
        controller(path).apply(limits, before)


def mend(path: str, limits: Limits) -> list[str]:
    """Set again what somebody else has changed; returns a sentence for each change. Raises `FileMissing`."""
    found: list[str] = []
    for kind in CONTROLLERS:
        controller = kind(path)
        if drift := controller.drift(limits):
            controller.apply(limits)
            found += drift
    return found
