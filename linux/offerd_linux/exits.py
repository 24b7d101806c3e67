"""How a process has ended, as a number and in words."""

from __future__ import annotations

import os
import signal


def describe_exit(wait_status: int) -> tuple[int, str]:
    """A wait status as an exit status (the code, or minus the signal) and in words: `was killed by SIGTERM`."""
    exit_status = os.waitstatus_to_exitcode(wait_status)
    return exit_status, exit_words(exit_status).removeprefix("was ")


def exit_words(exit_status: int) -> str:
    """How a process with this exit status ended: `exited with status 3`, `was killed by SIGKILL`."""
    if exit_status >= 0:
        return f"exited with status {exit_status}"
    try:
        return f"was killed by {signal.Signals(-exit_status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-exit_status}"
