"""Threads for work that waits for a network or a disk. The system may refuse a process another thread, because of a limit on
processes or for lack of memory. That fails the work that the thread was for, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from offerd.errors import OfferdError

T = TypeVar("T")

ZEROMQ_THREADS = 2
"""The threads of a ZeroMQ context with one thread for I/O: that one, and the one that closes sockets."""


class NoThread(OfferdError):
    """The system lets this process start no further thread: a limit on processes is reached, or memory is short."""

    def __init__(self, what_for: str) -> None:
        super().__init__(
            f"no thread can be started for {what_for}: raise the limit on processes (ulimit -u) or memory"
        )


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises `NoThread` if it cannot be started."""
    try:
        thread.start()
    except RuntimeError:
        raise NoThread(thread.name) from None


def check_threads(what_for: str, *, more: int = 0) -> None:
    """Raise `NoThread` unless ZeroMQ's threads, and so many `more`, can be started now. ZeroMQ ends the process if it cannot
    start them itself.
    """
    may_end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(ZEROMQ_THREADS + more):
            thread = threading.Thread(target=may_end.wait, name=what_for, daemon=True)
            start_thread(thread)
            started.append(thread)
    finally:
        may_end.set()
        for thread in started:
            thread.join()


class Workers(Executor):
    """As `ThreadPoolExecutor`, with `most` threads at most, for a process that may not be allowed that many. If no further
    thread can be started, those that exist do the work; if there is none, the future fails with `NoThread`. The threads are
    daemons, and have `name`.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a thread call `fn(*args, **kwargs)`; returns the future. Raises `RuntimeError` after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            try:
                self._add_thread()
            except NoThread as error:
                if not self._threads:
                    future.set_exception(error)
                    return future
            self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. With `wait`, return when all is done; `cancel_futures` drops work that has not begun."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if cancel_futures:
                    self._cancel_all()
                for _ in self._threads:
                    self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _add_thread(self) -> None:
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            start_thread(thread)
            self._threads.append(thread)

    def _cancel_all(self) -> None:
        while True:
            try:
                item = self._work.get_nowait()
            except Empty:
                return
            if item is not None:
                item[0].cancel()
                item[0].set_running_or_notify_cancel()

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:  # marked: any error goes to whoever waits for the future
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del item, future, work
