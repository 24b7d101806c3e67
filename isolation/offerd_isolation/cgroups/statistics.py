"""What a cgroup used and waited for, out of its files."""

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
"""Processes that a sentence names."""


def usage(path: str) -> Usage | None:
    """Of all in it and below, in so far as this kernel tells; None if it is gone."""
    found = usage_of(Cpu(path), Memory(path), Io(path))
    found = replace(found, processes=_or(lambda: Pids(path).current, 0))
    return found if os.path.isdir(path) else None


def usage_of(cpu: Cpu, memory: Memory, io: Io) -> Usage:
    """The same by its controllers, without its processes; zeros for one that is gone."""
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
    """What a file says, if there is one."""
    try:
        return read()
    except FileMissing:
        return otherwise


def without_processes(usage: Usage, number: int) -> Usage:
    """Some of them are ours."""
    return replace(usage, processes=max(0, usage.processes - number))


def _waiting(controller: Controller) -> float:
    """Percent of the last ten seconds; 0 where the kernel does not measure it (psi=0)."""
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
