"""Namespaces: entering those of a process, and asking about them."""

from __future__ import annotations

import sys

from offerd_linux import processes
from offerd_linux.libc import failure, libc

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_NS_GET_OWNER_UID = 0xB704
"""ioctl_ns(2)."""


def setns(pidfd: int, kinds: int) -> None:
    """Enter namespaces of a process, by its pidfd (setns(2), Linux 5.8). Raises `OSError`."""
    if libc.setns(pidfd, kinds) != 0:
        raise failure("cannot enter the container")


def pids_inside(pid: int) -> list[int]:
    """The process's pid in each pid namespace that it is in, from ours inwards. Raises `OSError` if it is gone."""
    return [int(word) for word in processes.status(pid, "NSpid").split()]


def owner_of_users(pid: int) -> int:
    """The owner's uid of the user namespace of this process; the initial one is root's. Raises `OSError`."""
    import fcntl  # imported only here, to spare the shims

    with open(f"{processes.PROC}/{pid}/ns/user", "rb") as namespace:
        answer = fcntl.ioctl(namespace, _NS_GET_OWNER_UID, bytes(4))
    return int.from_bytes(answer, sys.byteorder)
