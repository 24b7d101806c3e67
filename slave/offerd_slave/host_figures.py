"""What the slave's host has and uses at this moment, from /proc and the file system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

PRESSURES = ("cpu", "memory", "io")
"""Resources, and their files in /proc/pressure."""
_SOME = re.compile(r"^some avg10=(\d+\.\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HostFigures:
    """Of the whole host, whoever uses it."""

    cpus: int
    load1: float
    """Processes that ran or waited for a cpu or a disk, averaged over a minute."""
    mem_bytes: dict[str, int]
    """`total`, and what is `available` without swapping."""
    disk_bytes: dict[str, int]
    """Of the work directory's file system: `total`, and what is `available` to accounts other than root."""
    pressure: dict[str, float] = field(default_factory=dict)
    """Resource to the part of the last ten seconds, 0 to 1, in which some process waited for it; without an entry where the
    kernel does not say.
    """


def host_figures(work_dir: Path, proc: Path = Path("/proc")) -> HostFigures:
    """Look. Raises `OSError` without /proc or the work directory."""
    meminfo = (proc / "meminfo").read_text()
    disk = os.statvfs(work_dir)
    return HostFigures(
        os.cpu_count() or 1,
        os.getloadavg()[0],
        {"total": _kib(meminfo, "MemTotal"), "available": _kib(meminfo, "MemAvailable")},
        {"total": disk.f_blocks * disk.f_frsize, "available": disk.f_bavail * disk.f_frsize},
        {
            resource: part
            for resource in PRESSURES
            if (part := _pressure(proc / "pressure" / resource)) is not None
        },
    )


def _kib(meminfo: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) << 10 if match else 0


def _pressure(path: Path) -> float | None:
    try:
        match = _SOME.search(path.read_text())
    except (
        OSError
    ):  # not there: CONFIG_PSI is off; EOPNOTSUPP: it is off by default, and the kernel lacks psi=1
        return None
    return float(match[1]) / 100 if match else None
