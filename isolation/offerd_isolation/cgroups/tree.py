"""Make, divide, kill and remove cgroups, by path. If the kernel refuses, `IsolationError` is raised."""

from __future__ import annotations

import errno
import os

from offerd_isolation.base import IsolationError
from offerd_isolation.cgroups.controllers import Core, FileMissing
from offerd_linux import processes

KILL_ROUNDS = 20
"""Rounds of kills in one call, if the kernel has no cgroup.kill. A tree that forks faster needs another call."""


def make(path: str) -> bool:
    """Make a cgroup. True if it did not exist."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise IsolationError(f"cannot make the cgroup {path}: {error.strerror}") from None
    return True


def enable(path: str, controllers: frozenset[str]) -> None:
    """Enable these controllers in all cgroups directly below. `path` may hold no process, unless it is the root cgroup."""
    core = Core(path)
    missing = controllers - core.subtree_control
    if missing:
        core.subtree_control = missing


def is_there(path: str) -> bool:
    return os.path.isdir(path)


def populated(path: str) -> bool:
    """Whether any process runs in it or below; zombies do not count. False for a cgroup that is gone."""
    try:
        return Core(path).events["populated"] == 1
    except FileMissing:
        return is_there(path) and bool(members(path))


def kill(path: str) -> None:
    """Send SIGKILL to everything in it and below at once, also to what is forked meanwhile."""
    try:
        Core(path).kill = True
        return
    except FileMissing:
        if not is_there(path):
            return
    for _ in range(KILL_ROUNDS):  # before Linux 5.14
        if not (found := members(path)):
            return
        processes.kill_all(found)


def members(path: str) -> list[processes.Process]:
    """The living processes in it and below. A pid of 0 stands for a process of a pid namespace that is not visible here."""
    found = []
    for each in [*below(path), path]:
        try:
            pids = Core(each).procs
        except FileMissing:
            continue
        read = (processes.read(pid) for pid in pids if pid)
        found += [process for process in read if process is not None and not process.is_dead]
    return found


def below(path: str) -> list[str]:
    """All cgroups below this one, the deepest first."""
    found: list[str] = []
    for child in children(path):
        found += [*below(child), child]
    return found


def children(path: str) -> list[str]:
    """The cgroups directly below."""
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def remove(path: str) -> bool:
    """Remove it with all cgroups below. False if a process still runs there."""
    if _rmdir(path):
        return True
    for each in below(path):
        if not _rmdir(each):
            return False
    return _rmdir(path)


def remove_empty(path: str) -> None:
    """Remove it if nothing is in it or below."""
    _rmdir(path)


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise IsolationError(f"cannot remove the cgroup {path}: {error.strerror}") from None
    return True
