"""Ends what a command leaves behind when it ends, so that nobody waits for a process that has inherited its pipes.

A task's process is a *subreaper*: orphans below it become its children. So after the end of a command, all that is left of it
are children that we have not started ourselves, and their descendants. (A command that still runs may have such children as
well; a mark in their environment distinguishes them.)

A framework uses only the public SDK, so this cannot use `offerd_linux`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
VARIABLE = "OFFERD_MAPREDUCE_COMMAND"
"""The environment variable that marks the processes of a command: its number."""


class Leftovers:
    """The commands of this process. Before `begin` it ends nothing: our other children may be anybody's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_begun = False
        self._started = 0
        self._running: dict[int, bytes] = {}
        """By pid: the mark of a command, or b"" for a tool of ours, which leaves nothing behind."""

    def begin(self) -> None:
        """From now on all children of this process are started by `start`, or descend from those. Raises `OSError`."""
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot become a subreaper: {os.strerror(code)}")
        self._has_begun = True

    def start(
        self,
        start: Callable[[Mapping[str, str]], subprocess.Popen[bytes]],
        environment: Mapping[str, str],
        *,
        is_tool: bool,
    ) -> subprocess.Popen[bytes]:
        """Start a process, and know it as ours from its first moment on."""
        with self._lock:
            self._started += 1
            mark = str(self._started)
            process = start({**environment, VARIABLE: mark})
            self._running[process.pid] = b"" if is_tool else f"{VARIABLE}={mark}".encode()
            return process

    def reap(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it has ended, and end what it has left behind."""
        process.wait()
        # A process's children are passed on before its death is reported: those of this process are ours by now.
        with self._lock:
            mark = self._running.pop(process.pid, b"")
        if not mark or not self._has_begun:
            return
        spared: set[int] = set()
        while orphans := [pid for pid in self._orphans() if pid not in spared]:
            for pid in orphans:
                try:
                    os.kill(pid, signal.SIGKILL)  # it is not reaped, so its pid cannot be reused
                    os.waitpid(pid, 0)  # its own children are ours now, and next
                except PermissionError:
                    spared.add(pid)  # a set-uid program
                except (ProcessLookupError, ChildProcessError):
                    pass  # it was reaped after another command's end

    def _orphans(self) -> list[int]:
        """Children that belong to no running command."""
        with self._lock:
            strangers = [pid for pid in _children() if pid not in self._running]
            marks = {mark for mark in self._running.values() if mark}
        return [pid for pid in strangers if not (marks and _mark_of(pid) in marks)]


def _children() -> list[int]:
    """The children of the first thread, which also gets the orphans."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        import psutil  # imported only here, to spare other tasks

        return [each.pid for each in psutil.Process().children()]


def _mark_of(pid: int) -> bytes:
    """The mark's line in its environment; empty if it has none, or is dead."""
    environ = b""
    with suppress(OSError):
        while not environ:  # in the middle of an exec it has neither environment nor arguments
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() or _is_dead(pid):
                    break
            os.sched_yield()
    return next((line for line in environ.split(b"\0") if line.startswith(f"{VARIABLE}=".encode())), b"")


def _is_dead(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
