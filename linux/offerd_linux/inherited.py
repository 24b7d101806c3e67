"""Drops what a forked process must not inherit: descriptors, and how signals are handled."""

from __future__ import annotations

import os
import signal


def close_all_but(kept: set[int | None]) -> None:
    """Close every descriptor above the first three that is not among these."""
    start = 3
    for fd in sorted(fd for fd in kept if fd is not None):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def reset_signals() -> None:
    """Reset signals to the state after an exec by a process that has not changed any."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
