"""A call of `ClusterExecutor`: what it asks for, and the future for its result."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar

from offerd.errors import BadInput
from offerd.fields.field_types import check_text, wrong
from offerd.ids import SlaveID, TaskID
from offerd.resources import Resources

log = logging.getLogger("offerd.cluster_executor")

T = TypeVar("T")

Amount = float | str | Decimal


class Shape:
    """What calls ask for, and the waiting calls that ask for it: one object for each distinct request (`CallQueue.shape`)."""

    __slots__ = ("__weakref__", "kill_grace_s", "needs", "resources", "time_limit_s", "waiting")

    def __init__(
        self, resources: Resources, time_limit_s: float | None, kill_grace_s: float | None = None
    ) -> None:
        self.resources = resources
        self.time_limit_s = time_limit_s
        self.kill_grace_s = kill_grace_s
        self.needs = tuple(resources.scalars.items())
        self.waiting: deque[ClusterFuture[Any]] = deque()


ShapeOf = Callable[[Resources, float | None, float | None], Shape]
"""Returns the one object for calls with these resources, this time limit and this grace."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a call, checked and converted."""

    cpus: Amount
    mem: int | str
    timeout: float | None
    retries: int
    kill_grace_s: float | None
    resources: str
    name: str
    shape: Shape

    @classmethod
    def make(
        cls,
        shape_of: ShapeOf,
        *,
        cpus: Amount,
        mem: int | str,
        timeout: float | None,
        retries: int,
        kill_grace_s: float | None,
        resources: str,
        name: str,
    ) -> Options:
        """Raises `BadInput` on impossible values, in one line that names the option."""
        for option, seconds in (("timeout", timeout), ("kill_grace_s", kill_grace_s)):
            if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, Real | Decimal)):
                raise wrong(option, "a number of seconds", seconds)
        check_count("retries", retries)
        for option, text in (("resources", resources), ("name", name)):
            check_text(option, text)
        if timeout is not None and not 0 < timeout < math.inf:
            raise BadInput(f"timeout={timeout} must be more than 0 seconds, or None for a long task")
        if retries < 0:
            raise BadInput(f"retries={retries} must be 0 or more")
        wanted = Resources.of(cpus=cpus, mem=mem) + Resources.parse(resources)
        if wanted.ranges or wanted.sets:
            raise BadInput(f"resources={resources}: a call can ask for amounts only, as in gpus=1,disk=1G")
        if not wanted:
            raise BadInput("a call must ask for some resource, at least cpus=0.001")
        if kill_grace_s is not None and not 0 <= kill_grace_s < math.inf:
            raise BadInput(f"kill_grace_s={kill_grace_s} must be a number of seconds, 0 or more")
        shape = shape_of(
            wanted,
            None if timeout is None else float(timeout),
            None if kill_grace_s is None else float(kill_grace_s),
        )
        return cls(cpus, mem, timeout, retries, kill_grace_s, resources, name, shape)

    def but(self, shape_of: ShapeOf, changes: Mapping[str, Any]) -> Options:
        """These options with some of them changed. Raises `TypeError` for an option that does not exist."""
        known = {name: getattr(self, name) for name in _OPTION_NAMES}
        if unknown := changes.keys() - known.keys():
            raise TypeError(f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return Options.make(shape_of, **{**known, **changes})


def check_count(option: str, value: object) -> None:
    """Raises `WrongType` unless the value is a whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise wrong(option, "a whole number", value)


_OPTION_NAMES = ("cpus", "mem", "timeout", "retries", "kill_grace_s", "resources", "name")


class ClusterFuture(Future[T]):
    """The result of a call, when it is there: a `concurrent.futures.Future`. `result()` raises what the call raised,
    `TaskError` if its task did not finish, or `TaskTimeoutError` if its time limit was over.
    """

    __slots__ = (
        "_on_cancel", "data", "key", "lost", "misses", "name", "number", "options", "slave_id", "task_id", "tries"
    )  # fmt: skip

    def __init__(
        self, on_cancel: Callable[[ClusterFuture[Any]], object], options: Options, name: str, data: bytes
    ) -> None:
        """`on_cancel` is called with the future when it has been cancelled."""
        super().__init__()
        self._on_cancel = on_cancel
        self.options = options
        self.name = name
        self.data = data
        self.task_id = TaskID("")
        """The task that runs the call, or ran it last; empty before its first launch."""
        self.number = 0
        self.tries = 0
        self.misses = 0
        self.lost = 0
        self.slave_id = SlaveID("")
        self.key = b""

    def running(self) -> bool:
        """Whether the call's task was launched and has not ended."""
        return bool(self.task_id) and not self.done()

    def cancel(self) -> bool:
        """Drop the call, or kill its task if it runs. Returns False if it has ended already."""
        try:
            if not super().cancel():
                return False
        finally:
            # Also when a callback raises. Of several threads that cancel, only the first notifies the waiters.
            token = object()
            if self.cancelled() and self.__dict__.setdefault("_cancelled_by", token) is token:
                self.set_running_or_notify_cancel()
                self._on_cancel(self)
        return True

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn(future)` when the call has ended, as in the standard library. If it raises in the driver's thread, that is
        logged, `SystemExit` too: other callbacks are called, and the executor goes on.
        """
        super().add_done_callback(fn if self.done() else partial(_call_back, fn))


def _call_back(fn: Callable[[Future[T]], object], future: Future[T]) -> None:
    try:
        fn(future)
    except Exception:
        raise  # the standard library logs it and calls the other callbacks
    except BaseException as error:  # marked: user code; it must not end the thread that brings results
        if threading.current_thread() is threading.main_thread():
            raise
        log.critical("a callback of a future raised %s", type(error).__name__, exc_info=error)
