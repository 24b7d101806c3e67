"""Remove everything of a test's Docker engine, however it has died: processes, containers, cgroups, mounts and folder.

A killed dockerd leaves containerd, shims and containers running, and mounts in its folder: of overlays, of network
namespaces, with live-restore of its data. The owner of a folder holds a lock in it, so that the next test run can
sweep what a killed one has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from helpers.cli import wait_until

PREFIX = "offerd-dockerd-"
OWNER = "owner"
CGROUPS = Path("/sys/fs/cgroup")


class Folder:
    """A new folder for an engine, short enough for a socket's path. All that an engine makes is in it, or in its cgroups."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path / "draft", os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / "draft").rename(self.path / OWNER)  # others see it with its lock

    @property
    def cgroup(self) -> str:
        """The parent of its containers' cgroups, in each hierarchy."""
        return f"/{self.path.name}"

    def close(self) -> None:
        """Remove everything of it."""
        sweep(self.path)
        os.close(self._lock)


def sweep_dead_owners() -> None:
    """Remove what killed test runs have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sweep(path.parent)


def sweep(folder: Path) -> None:
    """Kill, unmount, remove; fails if something stays."""
    wait_until(lambda: not _killed(folder), f"the end of all processes of {folder}")
    for group in _groups(folder):
        group.rmdir()
    for place in reversed(mounts(folder)):
        subprocess.run(["umount", place], check=True)
    shutil.rmtree(folder)


def _killed(folder: Path) -> list[psutil.Process]:
    """Kill engines, shims, and everything in the containers' cgroups; returns the processes found."""
    found = processes(folder)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return found


def processes(folder: Path) -> list[psutil.Process]:
    """Processes that an engine of this folder has started: its path is on their command line, or they are in its cgroups."""
    inside = {int(pid) for group in _groups(folder) for pid in (group / "cgroup.procs").read_text().split()}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            program, *words = process.cmdline() or [""]
            is_engine = Path(program).name in ("dockerd", "containerd", "containerd-shim-runc-v2", "runc")
            if process.pid in inside or (is_engine and any(str(folder) in word for word in words)):
                found.append(process)
    return found


def mounts(folder: Path) -> list[str]:
    """The mounts in the folder, in the order in which they were made."""
    places = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return [place for place in places if place.startswith(f"{folder}/")]


def _groups(folder: Path) -> Iterator[Path]:
    """Its cgroups, the deepest first."""
    for hierarchy in {CGROUPS, *(each.resolve() for each in CGROUPS.iterdir())}:
        for directory, _, _ in os.walk(hierarchy / folder.name, topdown=False):
            yield Path(directory)
