"""pidfds of processes by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

from offerd_linux.pidfds import open_pidfd


def test_a_pidfd_reaches_its_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    assert process.returncode == -signal.SIGKILL


def test_a_zombie_still_has_one() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        os.close(pidfd)


def test_an_ended_process_has_none() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert open_pidfd(process.pid) is None


def test_a_threads_number_is_not_a_process() -> None:
    """The kernel answers as for a process that is reaped at that moment."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert open_pidfd(thread.native_id) is None
    finally:
        over.set()
        thread.join()
