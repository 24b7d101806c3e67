"""`ClusterExecutor`: Python calls on the cluster, behind the interface of `concurrent.futures`.

    with offerd.ClusterExecutor(cpus=1, timeout=30) as executor:
        print(sum(executor.map(count_words, paths)))

A call is a task of the python executor. It runs at least once: if the cluster loses it (the slave dies or is drained, or the
network fails), it is tried again, up to `retries` times, though the lost try may have run to its end. So calls should be
*idempotent*, or be given `retries=0`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from offerd.chunks import call_each
from offerd.cluster_future import Amount, ClusterFuture, Options, check_count
from offerd.driver import SchedulerDriver
from offerd.drivers.driver_base import CONNECT_TIMEOUT_S
from offerd.errors import MessageTooLarge, OfferdError
from offerd.fields.field_types import check_text, wrong
from offerd.masters.clusters import Where
from offerd.messages import ExecutorInfo, FrameworkInfo
from offerd.python_calls.call_queue import CALL_OVERHEAD_BYTES, CallQueue
from offerd.python_calls.call_scheduler import EXECUTOR_ID, CallScheduler
from offerd.python_calls.calls import pack_call
from offerd.python_calls.large_calls import MAX_BYTES, header
from offerd.task_errors import BrokenClusterExecutor, TaskTimeoutError
from offerd.values.screen_text import printable

__all__ = ["BrokenClusterExecutor", "ClusterExecutor", "ClusterFuture", "TaskTimeoutError"]

log = logging.getLogger("offerd.cluster_executor")

T = TypeVar("T")

MAX_CALL_BYTES = MAX_BYTES - CALL_OVERHEAD_BYTES
INLINE_INITIALIZER_BYTES = 32 << 10
"""Largest initializer that is sent with each launch of the executor; executors fetch a larger one."""


class _Submitter(Executor):
    """What `ClusterExecutor` and its views have in common: they submit calls with one set of options."""

    def __init__(self, scheduler: CallScheduler, options: Options) -> None:
        self._scheduler = scheduler
        self._cancelled = scheduler.cancelled  # one object for all calls
        self._options = options

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> ClusterFuture[T]:
        """Call `fn(*args, **kwargs)` on the cluster; returns its future at once. All keyword arguments are the function's
        own: `options` says how to set a call's.

        Raises what pickling raises, and `MessageTooLarge` for more than 1 GiB of arguments: put such data into a file.
        Arguments pass through the master, so what many calls need is better in a file that all slaves see, or loaded by the
        `initializer`.
        """
        return self._submit(self._options, _name_of(fn), fn, args, kwargs)

    def submit_with(
        self,
        fn: Callable[..., T],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ClusterFuture[T]:
        """As `submit`, with options for this call alone: `cpus`, `mem`, `timeout`, `retries`, ... (see `options`).

            executor.submit_with(train, ["model-1"], cpus=2, mem="1G", timeout=600)

        Raises what `submit` and `options` raise.
        """
        chosen = self._options.but(self._scheduler.queue.shape, options) if options else self._options
        return self._submit(chosen, _name_of(fn), fn, args, kwargs)

    def options(self, **options: Any) -> ExecutorView:
        """A view of this executor with other options, which hold for calls made through the view.

            executor.options(cpus=2, timeout=30).map(solve, problems)

        * `cpus`, and `mem` as in `"512M"`: what each call needs.
        * `timeout`: seconds after which a call is killed; None makes it a long task.
        * `retries`: how often a call is tried again if the cluster loses it.
        * `kill_grace_s`: seconds between TERM and KILL; None: the slave's default.
        * `resources`: what else a call needs, as in `"gpus=1"`.
        * `name`: what listings show; empty: the function's name.

        Raises `BadInput` for impossible values, and `TypeError` for an option that does not exist.
        """
        return ExecutorView(self, self._options.but(self._scheduler.queue.shape, options))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` with each tuple of arguments; returns an iterator over the results, in order.

            for size in executor.map(os.path.getsize, paths, chunksize=100):
                print(size)

        * `timeout`: seconds from now that results are waited for, as in the standard library; `TimeoutError` is raised then. It
          is not the calls' time limit, which `options(timeout=...)` sets.
        * `chunksize`: how many calls travel as one task. Many short calls are quicker in larger ones.
        * `buffersize`: how many calls may be submitted ahead of the result that is read next, for many or endless arguments.
          None: all are submitted before this returns.

        Leaving the iterator early cancels the calls that have not ended.
        """
        if chunksize < 1 or (buffersize is not None and buffersize < 1):
            raise ValueError("chunksize and buffersize must be 1 or more")
        give_up_at = None if timeout is None else time.monotonic() + timeout
        arguments = zip(*iterables, strict=False)
        if chunksize == 1:
            submitted: Iterator[ClusterFuture[Any]] = (self.submit(fn, *each) for each in arguments)
            return _in_order(submitted, buffersize, give_up_at)
        chunks = iter(lambda: tuple(itertools.islice(arguments, chunksize)), ())
        whole = partial(call_each, fn)
        submitted = (self._submit(self._options, _name_of(fn), whole, (chunk,), None) for chunk in chunks)
        ahead = None if buffersize is None else max(1, buffersize // chunksize)
        return _each_of(_in_order(submitted, ahead, give_up_at))

    def _submit(
        self,
        options: Options,
        name: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
    ) -> ClusterFuture[Any]:
        data = pack_call(fn, args, kwargs)
        if len(data) > MAX_CALL_BYTES:
            raise _too_large("a call", data)
        call: ClusterFuture[Any] = ClusterFuture(
            self._cancelled, options, printable(options.name or name), data
        )
        self._scheduler.submit(call)
        return call


class ExecutorView(_Submitter):
    """A `ClusterExecutor` seen with other options. It keeps the executor alive, and cannot shut it down."""

    def __init__(self, viewed: _Submitter, options: Options) -> None:
        super().__init__(viewed._scheduler, options)
        self._viewed = viewed

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does nothing: only the executor itself can be shut down."""


class ClusterExecutor(_Submitter):
    """Makes Python calls on the cluster: a `concurrent.futures.Executor`, and a framework of its own.

        with ClusterExecutor(cpus=0.5, mem="256M", timeout=30) as executor:
            print(sum(executor.map(count_words, paths)))

    * `master`: as for `SchedulerDriver`.
    * `cpus`, `mem`, `timeout`, `retries`, `kill_grace_s`, `resources`: the options of calls, unless a call has others (see
      `options`). A call without a `timeout` is never killed for the time it takes, and is a long task: these share a part of
      each slave, half of it by default. Calls with a `timeout` up to the slaves' short limit (60 s by default) may use all of
      a slave; one that takes longer is killed, and its future raises `TaskTimeoutError`.
    * `name`, `role`, `user`: the framework's, as in `FrameworkInfo`.
    * `max_workers`: how many calls (or chunks of `map`) are on the cluster at one time; None: as many as find room.
    * `initializer`: called as `initializer(*initargs)` in each worker before its first call, within that call's time. If it
      raises, all calls that have not ended raise `BrokenClusterExecutor`.
    * `connect_timeout_s`: how long to wait for a master.

    Waits until the master knows the framework. Raises `OfferdError` if no master answers in time, and `BadInput` for
    impossible values.
    """

    def __init__(
        self,
        master: Where = None,
        *,
        cpus: Amount = 1,
        mem: int | str = "128M",
        timeout: float | None = None,
        retries: int = 3,
        kill_grace_s: float | None = None,
        resources: str = "",
        name: str = "",
        role: str = "*",
        user: str = "",
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        _check_workers(master, max_workers)
        check_text("name", name)
        for_workers = _packed_initializer(initializer, initargs)
        queue = CallQueue()
        options = Options.make(
            queue.shape,
            cpus=cpus,
            mem=mem,
            timeout=timeout,
            retries=retries,
            kill_grace_s=kill_grace_s,
            resources=resources,
            name="",
        )
        framework = _framework_info(name, user, role, for_workers)
        connect = partial(
            SchedulerDriver, framework=framework, master=master, connect_timeout_s=connect_timeout_s
        )
        scheduler = CallScheduler(connect, queue, max_workers, for_workers)
        super().__init__(scheduler, options)
        self._driver = scheduler.driver
        self._driver.set_needs_offers(False)
        self._driver.start()
        self._driver.wait_registered()
        _at_exit.add(self._driver)
        # When nobody refers to this executor any more, nobody can submit or call `shutdown`: what was submitted is still done.
        weakref.finalize(self, scheduler.close, False).atexit = False

    @property
    def framework_id(self) -> str:
        """The id of this executor's framework, as `offerd frameworks` lists it."""
        return self._driver.framework_id

    @property
    def forged_results(self) -> int:
        """How many calls failed with `ForgedResult`, as their result did not come from the executor that was given the call."""
        return self._scheduler.forged

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `wait`, return when all have ended; `cancel_futures` drops calls that have not been
        launched. Leaving a `with` block calls this.
        """
        self._scheduler.close(cancel_futures)
        if wait:
            # Every future has the error that ended the driver.
            with contextlib.suppress(OfferdError):
                self._driver.join()


_at_exit: weakref.WeakSet[SchedulerDriver] = weakref.WeakSet()


def _shut_down_all() -> None:
    """Finish the calls that were submitted when the interpreter exits, as the standard library's executors do."""
    drivers = list(_at_exit)
    for driver in drivers:
        if isinstance(driver.scheduler, CallScheduler):
            driver.scheduler.close(cancel_futures=False)
    for driver in drivers:
        # The error that ended a driver is in the log and in every future; go on waiting for the other drivers.
        with contextlib.suppress(Exception, SystemExit):
            driver.join()


# Registered where the standard library's executors register: this runs before the functions of `atexit`, while threads, which
# fetch large results, can still be started.
threading._register_atexit(_shut_down_all)  # type: ignore[attr-defined]


def _in_order(
    submitted: Iterator[ClusterFuture[Any]], ahead: int | None, give_up_at: float | None
) -> Generator[Any, None, None]:
    """Submit as many as `ahead` allows at once, and yield the results."""
    futures = deque(itertools.islice(submitted, ahead))
    return _results(futures, submitted, give_up_at)


def _results(
    futures: deque[ClusterFuture[Any]], submitted: Iterator[ClusterFuture[Any]], give_up_at: float | None
) -> Generator[Any, None, None]:
    try:
        while futures:
            left_s = None if give_up_at is None else give_up_at - time.monotonic()
            # Not kept in a variable here: the caller alone decides how long the result lives.
            yield _result_or_cancel(futures, submitted, left_s)
    finally:
        for future in futures:
            future.cancel()


def _result_or_cancel(
    futures: deque[ClusterFuture[Any]], submitted: Iterator[ClusterFuture[Any]], left_s: float | None
) -> Any:
    """The next result. If it cannot be had, its call is cancelled."""
    future = futures.popleft()
    try:
        result = future.result(left_s)
    except BaseException:
        future.cancel()
        raise
    finally:
        del future
    futures.extend(itertools.islice(submitted, 1))
    return result


def _each_of(lists: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    """The elements of each list. Each element is dropped from its list before it is yielded."""
    with contextlib.closing(lists):
        for results in lists:
            results.reverse()
            while results:
                yield results.pop()


def _check_workers(master: Where, max_workers: int | None) -> None:
    """`max_workers` is the first parameter in the standard library: a caller who passes a number as `master` is helped."""
    if isinstance(master, int):
        raise TypeError(
            f"{master} is not the address of a master; write ClusterExecutor(max_workers={master})"
        )
    if max_workers is not None:
        check_count("max_workers", max_workers)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")


def _packed_initializer(initializer: Callable[..., object] | None, initargs: Sequence[Any]) -> bytes:
    """The call that each worker makes first; empty if there is none."""
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if not isinstance(initargs, Sequence) or isinstance(initargs, str | bytes):
        raise wrong("initargs", "a tuple of arguments", initargs)
    data = b"" if initializer is None else pack_call(initializer, initargs)
    if len(data) > MAX_CALL_BYTES:
        raise _too_large("an initializer", data)
    return data


def _framework_info(name: str, user: str, role: str, for_workers: bytes) -> FrameworkInfo:
    """The framework of a `ClusterExecutor`. Its executors fetch a large initializer, of which they get only the header."""
    data = for_workers if len(for_workers) <= INLINE_INITIALIZER_BYTES else header(len(for_workers))
    return FrameworkInfo(
        printable(name or os.path.basename(sys.argv[0]) or "python"),
        user=user,
        role=role,
        executors=[ExecutorInfo(EXECUTOR_ID, module="offerd_executors.python", name="python", data=data)],
        hostname=socket.gethostname(),
    )


def _too_large(what: str, data: bytes) -> MessageTooLarge:
    return MessageTooLarge(
        f"{what} of {len(data)} bytes, with its arguments, is larger than {MAX_CALL_BYTES}; "
        "put its data into a file and pass the path"
    )


def _name_of(fn: Callable[..., Any]) -> str:
    """The name of a function; of a bound method or a `functools.partial`, that of the function below."""
    while isinstance(fn, partial):
        fn = fn.func
    name = getattr(fn, "__name__", "")
    return name if name and isinstance(name, str) else type(fn).__name__
