"""Which cgroups a process is in: /proc/PID/cgroup (cgroups(7))."""

from __future__ import annotations

import os
from pathlib import Path

from offerd_linux import processes

V2 = ""
"""Stands for the v2 hierarchy, in place of a controller."""


def cgroup_paths(pid: int | None = None, proc: str | Path | None = None) -> dict[str, str]:
    """The process's cgroup in each hierarchy, by controller, as a path below the hierarchy's root. `pid` None: this process.

    Raises `OSError` if the process is gone.
    """
    with open(f"{proc or processes.PROC}/{'self' if pid is None else pid}/cgroup", "rb") as file:
        text = os.fsdecode(file.read())  # a cgroup's owner may give any name to those below it
    found: dict[str, str] = {}
    for line in text.rstrip("\n").split("\n"):
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found
