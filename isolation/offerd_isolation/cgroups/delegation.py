"""A task's cgroup given to the task's user: it may make cgroups below, and can neither leave nor raise its limits.

What is given is exactly the directory, `cgroup.procs` and `cgroup.subtree_control` (the kernel's cgroup-v2.rst,
"Delegation"): every limit of the cgroup itself stays the slave's. To move a process the kernel wants the right to write
`cgroup.procs` of where it goes *and* of what both places lie below, which is the node above all tasks, and ours.
"""

from __future__ import annotations

import os
import pwd

from offerd_isolation.base import IsolationError
from offerd_isolation.cgroups.controllers import Core
from offerd_isolation.cgroups.limits import NESTED_CGROUPS, NESTED_DEPTH

GIVEN = (".", "cgroup.procs", "cgroup.subtree_control")


def owner(user: str) -> tuple[int, int] | None:
    """Uid and gid of a user that is not ours; None for our own (nothing to give). Raises `IsolationError`."""
    if not user or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise IsolationError(f"there is no user {user!r} on this host") from None
    return None if entry.pw_uid == 0 else (entry.pw_uid, entry.pw_gid)


def give(path: str, to: tuple[int, int]) -> None:
    """Let this user make cgroups below, but neither many nor deep ones: each costs the kernel memory of ours."""
    core = Core(path)
    core.max_depth = NESTED_DEPTH
    core.max_descendants = NESTED_CGROUPS
    try:
        for name in GIVEN:
            os.chown(f"{path}/{name}", *to)
    except OSError as error:
        raise IsolationError(f"cannot give {path} to its task's user: {error.strerror}") from None
