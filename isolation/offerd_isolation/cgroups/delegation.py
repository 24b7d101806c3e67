"""Delegate a task's cgroup to the task's user, who may make cgroups below but can neither leave it nor raise its limits.

Delegated are exactly the directory, `cgroup.procs` and `cgroup.subtree_control` (the kernel's cgroup-v2.rst,
"Delegation"); the files with the cgroup's own limits still belong to the slave. To move a process, its user needs write
access to `cgroup.procs` of the destination *and* of the common ancestor: for a way out of the task's cgroup that is the
cgroup above all tasks, which belongs to the slave.
"""

from __future__ import annotations

import os
import pwd

from offerd_isolation.base import IsolationError
from offerd_isolation.cgroups.controllers import Core
from offerd_isolation.cgroups.limits import NESTED_CGROUPS, NESTED_DEPTH

GIVEN = (".", "cgroup.procs", "cgroup.subtree_control")


def owner(user: str) -> tuple[int, int] | None:
    """Uid and gid of this user; None for the slave's own user or root, as there is nothing to delegate then. Raises
    `IsolationError`."""
    if not user or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise IsolationError(f"there is no user {user!r} on this host") from None
    return None if entry.pw_uid == 0 else (entry.pw_uid, entry.pw_gid)


def give(path: str, to: tuple[int, int]) -> None:
    """Let this user make cgroups below, but neither many nor deep ones: each costs kernel memory of the slave's cgroup."""
    core = Core(path)
    core.max_depth = NESTED_DEPTH
    core.max_descendants = NESTED_CGROUPS
    try:
        for name in GIVEN:
            os.chown(f"{path}/{name}", *to)
    except OSError as error:
        raise IsolationError(f"cannot give {path} to its task's user: {error.strerror}") from None
