"""Which cgroups a process is in: /proc/PID/cgroup (cgroups(7))."""

from __future__ import annotations

import os
from pathlib import Path

from offerd_linux import processes

V2 = ""
"""In place of a controller: the v2 hierarchy."""


def cgroup_paths(pid: int | None = None, proc: str | Path | None = None) -> dict[str, str]:
    """Its cgroup in each hierarchy, by controller, as a path below the hierarchy's root. `pid` None: our own.

    Raises `OSError` if it is gone.
    """
    with open(f"{proc or processes.PROC}/{'self' if pid is None else pid}/cgroup", "rb") as file:
        text = os.fsdecode(file.read())  # the names below a cgroup are whoever's it is
    found: dict[str, str] = {}
    for line in text.rstrip("\n").split("\n"):
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found
