"""What a cgroup has used and how long it waited, from its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from offerd_isolation.base import IsolationError, Usage
from offerd_isolation.cgroups.controllers import Controller, Cpu, FileMissing, Io, Memory, Pids
from offerd_linux import processes
from offerd_linux.processes import Process

T = TypeVar("T")

DESCRIBED = 5
"""How many processes a sentence names."""


def usage(path: str) -> Usage | None:
    """What everything in this cgroup and below uses, as far as the kernel says; None if the cgroup is gone."""
    found = usage_of(Cpu(path), Memory(path), Io(path))
    found = replace(found, processes=_or(lambda: Pids(path).current, 0))
    return found if os.path.isdir(path) else None


def usage_of(cpu: Cpu, memory: Memory, io: Io) -> Usage:
    """The same from its controllers, without the number of processes; zeros for a cgroup that is gone."""
    cpu_s, throttled_s = cpu.used_s()
    held = _or(memory.held_bytes, 0)
    return Usage(
        cpu_s=cpu_s,
        mem_bytes=held,
        peak_mem_bytes=max(held, memory.peak_bytes()),
        throttled_s=throttled_s,
        cpu_pressure=_waiting(cpu),
        mem_pressure=_waiting(memory),
        io_pressure=_waiting(io),
    )


def _or(read: Callable[[], T], otherwise: T) -> T:
    """The value read, or `otherwise` if the file is missing."""
    try:
        return read()
    except FileMissing:
        return otherwise


def without_processes(usage: Usage, number: int) -> Usage:
    """The usage without this number of processes, which are the slave's own."""
    return replace(usage, processes=max(0, usage.processes - number))


def _waiting(controller: Controller) -> float:
    """Percent of the last ten seconds in which some process waited; 0 if the kernel does not measure it (psi=0)."""
    assert isinstance(controller, Cpu | Memory | Io)
    try:
        return controller.pressure["some"].avg10
    except (IsolationError, KeyError):
        return 0.0


def describe(those: Iterable[Process]) -> str:
    """`process 17 (dd) in uninterruptible sleep (D), ...`; empty for none."""
    found = sorted(those)
    words = []
    for process in found[:DESCRIBED]:
        state = {"D": "in uninterruptible sleep (D)"}.get(process.state, f"in state {process.state}")
        words.append(f"process {process.pid} ({processes.name(process.pid)}) {state}")
    if len(found) > DESCRIBED:
        words.append(f"and {len(found) - DESCRIBED} more")
    return ", ".join(words)
