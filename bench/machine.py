"""The machine that was measured, in words; results of different machines are kept side by side."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import zmq

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Machine:
    """Hardware and software on which figures depend."""

    cpu: str
    cores: int
    mem_gib: int
    kernel: str
    python: str
    libzmq: str

    @property
    def title(self) -> str:
        """The name of this machine's section: the hardware without versions."""
        return f"{self.cpu}, {self.cores} cores, {self.mem_gib} GiB"

    def facts(self) -> dict[str, str]:
        return {
            "cpu": self.cpu,
            "cores": str(self.cores),
            "memory": f"{self.mem_gib} GiB",
            "kernel": self.kernel,
            "Python": self.python,
            "libzmq": self.libzmq,
        }


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        mem_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        kernel=platform.release(),
        python=platform.python_version(),
        libzmq=zmq.zmq_version(),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit that was measured; empty if this is not a git checkout."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
