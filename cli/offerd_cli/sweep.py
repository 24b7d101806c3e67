"""Finds and kills every process of one local cluster, by marks that a process cannot lose by accident.

A process belongs to the cluster with base directory B if its environment says so, or if an ancestor belongs to it. The daemons
and their children have `OFFERD_LOCAL_CLUSTER=B`; executors and tasks have sandboxes below B; a process that a zygote has forked
has only the mark of its container, of a slave whose work directory is in B. A process is killed through a pidfd that was opened
before it was last checked, so that a reused pid is never hit.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from offerd_isolation.marks import CONTAINER_MARK, mark_prefix
from offerd_isolation.mounts import release_below
from offerd_linux import processes
from offerd_linux.pidfds import open_pidfd
from offerd_linux.processes import Process

MARK = "OFFERD_LOCAL_CLUSTER"
_BENEATH = (b"OFFERD_SANDBOX=", b"OFFERD_TASK_SANDBOX=", b"OFFERD_SLAVE_SOCKET=")
_TURN_S = 0.02


def members(base: Path) -> set[int]:
    """The pids of the cluster's processes now, without our own. Unreadable processes of other users are not found."""
    marks = _container_marks(base)
    seen: list[Process] = []
    marked: list[Process] = []
    for process in processes.everyone():
        try:
            environment = processes.read_environment(process.pid)
        except PermissionError:
            continue
        seen.append(process)
        if not process.is_dead and _is_marked(environment, os.fsencode(base), marks):
            marked.append(process)
    return {each.pid for each in processes.with_descendants(marked, seen)} - {os.getpid()}


def _container_marks(base: Path) -> tuple[bytes, ...]:
    """How the mark in the environment of a container's process begins, for each slave with a work directory here."""
    try:
        directories = [entry.path for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
        return tuple(f"{CONTAINER_MARK}={mark_prefix(path)}".encode() for path in directories)
    except FileNotFoundError:  # nothing of the cluster is left
        return ()


def _is_marked(environment: bytes, base: bytes, marks: tuple[bytes, ...]) -> bool:
    if any(mark in environment for mark in marks):
        return True
    if base not in environment:
        return False
    for variable in environment.split(b"\0"):
        if variable == os.fsencode(MARK) + b"=" + base:
            return True
        if variable.startswith(_BENEATH) and variable.partition(b"=")[2].removeprefix(b"ipc://").startswith(
            base + b"/"
        ):
            return True
    return False


def sweep(base: Path, *, grace_s: float = 0.0, limit_s: float = 10.0) -> bool:
    """Kill what is left of the cluster: give it `grace_s` to end by itself, then SIGKILL. True when no process is left, and
    nothing is mounted below the base directory."""
    killing_from = time.monotonic() + grace_s
    give_up_at = killing_from + limit_s
    while left := members(base):
        now = time.monotonic()
        if now >= give_up_at:
            return False
        if now >= killing_from:
            _kill(left, base)
        time.sleep(_TURN_S)
    release_below(base)
    return True


def _kill(pids: set[int], base: Path) -> None:
    pidfds: dict[int, int] = {}
    try:
        for pid in pids:
            if (pidfd := open_pidfd(pid)) is not None:
                pidfds[pid] = pidfd
        # Checked again now that the pidfds are open: signals reach exactly the processes checked here.
        for pid in members(base) & pidfds.keys():
            try:
                signal.pidfd_send_signal(pidfds[pid], signal.SIGKILL)
            except ProcessLookupError:
                continue
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)
