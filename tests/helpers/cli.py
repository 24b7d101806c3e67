"""Run the `offerd` command as a process, on a test's cluster."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from helpers import leftovers
from offerd_cli.local_cluster import OFFERD, LocalCluster

WAIT_S = 40.0
"""Long enough for a busy machine. Only a failing test waits so long."""
_NOTHING: dict[str, Any] = {"stdin": subprocess.DEVNULL}


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition, checking often. A failure says `what` was waited for."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.01)


def environment(cluster: LocalCluster | None, **more: str) -> dict[str, str]:
    """This process's environment, with the cluster's address and without colours."""
    base = {**os.environ, "NO_COLOR": "1", **more}
    if cluster is not None:
        base["OFFERD_MASTER"] = cluster.address
    return base


def words(*arguments: str) -> list[str]:
    return [*OFFERD, *arguments]


def offerd(
    cluster: LocalCluster | None,
    *arguments: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        words(*arguments),
        # A pipe that will be empty is no empty one yet.
        **({"input": stdin} if stdin else _NOTHING),
        capture_output=True,
        env=environment(cluster),
        timeout=timeout_s,
        check=False,
        cwd=cwd,
    )


def begin(
    cluster: LocalCluster | None, *arguments: str, under: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a command without waiting; `under`: a command line that runs it, as `setpriv ...`."""
    return leftovers.start(
        [*under, *words(*arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster),
    )


def listing(cluster: LocalCluster, *arguments: str) -> dict[str, Any]:
    """The JSON document of a listing."""
    done = offerd(cluster, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def processes_with(argument: str) -> list[int]:
    """The pids of processes, except shells and clients, that have exactly this argument on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if (
            argument in command
            and "offerd_cli.main" not in command
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            found.append(process.pid)
    return found


def pids_of(program: str) -> list[int]:
    """The pids of processes that run this file now. psutil would remember what they ran before they executed it."""
    found = []
    for pid in psutil.pids():
        # It may be gone, or be a kernel thread.
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == program:
                found.append(pid)
    return found
