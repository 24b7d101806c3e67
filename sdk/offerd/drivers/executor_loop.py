"""The loop of an executor: one thread, file descriptors, timers, and calls from other threads.

It knows nothing of ZeroMQ or of messages; `offerd.executor` adds the slave's socket.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from offerd.core import timers

Callback = Callable[[], None]

MAX_EVENTS = 256
"""Descriptors served in one turn."""
MAX_WAIT_S = 3600.0
"""Longest wait in the kernel, which counts milliseconds in 31 bits. A later timer is waited for again."""


def _true() -> bool:
    """The default of `first`: readers may run."""
    return True


Timers = timers.Timers[Callback]


class Timer:
    """A future call. `cancel()` prevents it; cancelling twice, or too late, does nothing."""

    __slots__ = ("_timer", "_timers", "due")

    def __init__(self, timers: Timers, due: float, callback: Callback) -> None:
        self.due = due
        self._timers = timers
        self._timer = timers.set(due, callback)

    def cancel(self) -> None:
        self._timers.cancel(self._timer)


class Loop:
    """`select.epoll`, timers, and calls from other threads, which an eventfd announces.

    It uses epoll, not `zmq.Poller`: an executor watches two pipes for each of hundreds of tasks, and `zmq.Poller` would go
    through all of them in every turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._timers: Timers = timers.Timers()
        self._soon: list[Callback] = []
        self._thread = threading.get_ident()
        self._foreign: list[Callback] = []
        self._foreign_lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.add_reader(self._wake_fd, self._run_foreign)

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call `callback()` whenever `fd` is readable or at its end (level-triggered)."""
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`; call this before closing it."""
        del self._readers[fd]
        self._epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call `callback()` once, `delay_s` seconds from now; at once if that is not a number."""
        if not delay_s >= 0:
            delay_s = 0.0
        return Timer(self._timers, time.monotonic() + delay_s, callback)

    def call_soon(self, callback: Callback) -> None:
        """Call `callback()` once, at the end of this turn."""
        self._soon.append(callback)

    def enter(self) -> None:
        """Make the calling thread the loop's thread."""
        self._thread = threading.get_ident()

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the loop's thread."""
        return threading.get_ident() == self._thread

    def call_from_thread(self, callback: Callback) -> None:
        """Have the loop's thread call `callback()`. This is the only method for other threads."""
        with self._foreign_lock:
            self._foreign.append(callback)
            if len(self._foreign) == 1:
                os.eventfd_write(self._wake_fd, 1)

    def turn(self, max_wait_s: float | None, first: Callable[[], bool] = _true) -> None:
        """Wait for at most `max_wait_s` until there is something to do, and do it. `first` is called right after the wait; if
        it returns False, readers are left for the next turn.
        """
        wait_s = 0.0 if self._soon else self._wait_s(max_wait_s)
        ready = self._epoll.poll(wait_s, MAX_EVENTS)
        for fd, _ in ready if first() else []:
            callback = self._readers.get(fd)
            if callback is not None:  # None: removed by an earlier callback of this turn
                callback()
        if self._timers:
            for (callback,) in self._timers.due(time.monotonic()):
                callback()
        if self._soon:
            soon, self._soon = self._soon, []
            for callback in soon:
                callback()

    def _wait_s(self, max_wait_s: float | None) -> float | None:
        due = self._timers.next_deadline()
        if due is None:
            return max_wait_s
        wait_s = min(max(0.0, due - time.monotonic()), MAX_WAIT_S)
        return wait_s if max_wait_s is None else min(wait_s, max_wait_s)

    def _run_foreign(self) -> None:
        with self._foreign_lock:
            os.eventfd_read(self._wake_fd)
            foreign, self._foreign = self._foreign, []
        for callback in foreign:
            callback()

    def close(self) -> None:
        """Close the descriptors; `call_from_thread` does nothing from now on."""
        self._epoll.close()
        with self._foreign_lock:
            os.close(self._wake_fd)
            self._foreign = [_nothing]  # not empty, so nobody writes to the closed descriptor


def _nothing() -> None:
    """Keeps the queue of a closed loop from being empty."""
