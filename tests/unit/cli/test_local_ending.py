"""Ctrl-C at `offerd local`."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
from pathlib import Path

import pytest

from helpers.cli import wait_until
from offerd_cli.commands.local import Ending


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_does_not_interrupt_the_wait_still_ends_it(number: signal.Signals) -> None:
    """A signal just before the wait begins cannot be timed by a test: another thread takes it, with the same result."""

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        wait_until(lambda: is_polled.match(where.read_text()), "the wait to have begun")
        os.kill(os.getpid(), number)

    where = Path(f"/proc/self/task/{threading.get_native_id()}/wchan")
    is_polled = re.compile(
        "poll|.*select"
    )  # the kernel's functions; with the interpreter's lock it is a futex
    with Ending() as ending:
        ending.only_noted()
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        taker = threading.Thread(target=take)
        try:
            taker.start()
            assert select.select([ending.fd], [], [], 10.0)[0] == [ending.fd]
        finally:
            taker.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def test_before_it_is_only_noted_a_signal_interrupts_once() -> None:
    with Ending():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_afterwards_signals_are_as_before() -> None:
    handler = signal.getsignal(signal.SIGINT)
    wakeup_fd = signal.set_wakeup_fd(-1)
    with Ending():
        pass
    assert signal.getsignal(signal.SIGINT) == handler
    assert signal.set_wakeup_fd(wakeup_fd) == -1
