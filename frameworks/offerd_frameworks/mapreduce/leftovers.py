"""What a command leaves behind when it ends ends too, and so nobody waits for who has inherited its pipes.

A task's process is a *subreaper*: what loses its parent below it becomes its child. So after the end of a command all that is
left of it are children of ours that we have not started ourselves, and what is below them. (Under a command that still runs
there may be such children as well; a marker in the environment tells them from those.)
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
"""Whose value marks the processes of a command: its number."""


class Leftovers:
    """The commands of this process. Before `begin` it ends nothing: a stranger among our children may be anybody's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_begun = False
        self._started = 0
        self._running: dict[int, bytes] = {}
        """By pid; the marker of a command, or b"" of a tool of ours, which leaves nothing."""

    def begin(self) -> None:
        """From now on all children of this process are started by `start`, or come from those. Raises `OSError`."""
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
        """Wait for its end, and end what it has left behind."""
        process.wait()
        # Who dies passes its children on before its death is told: those of this process are ours by now.
        with self._lock:
            mark = self._running.pop(process.pid, b"")
        if not mark or not self._has_begun:
            return
        spared: set[int] = set()
        while strays := [pid for pid in self._strays() if pid not in spared]:
            for pid in strays:
                try:
                    os.kill(pid, signal.SIGKILL)  # it is not reaped: the number is its own
                    os.waitpid(pid, 0)  # and what is below it is ours, and next
                except PermissionError:
                    spared.add(pid)  # a set-uid program
                except (ProcessLookupError, ChildProcessError):
                    pass  # another command's end was quicker

    def _strays(self) -> list[int]:
        """Children that belong to no running command."""
        with self._lock:
            strangers = [pid for pid in _children() if pid not in self._running]
            marks = {mark for mark in self._running.values() if mark}
        return [pid for pid in strangers if not (marks and _mark_of(pid) in marks)]


def _children() -> list[int]:
    """Those of the first thread: orphans come to it."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        import psutil  # not for every task

        return [each.pid for each in psutil.Process().children()]


def _mark_of(pid: int) -> bytes:
    """The line of its environment; empty if it has none, or is dead."""
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
