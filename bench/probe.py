"""A scheduler that runs one task at a time and notes when its statuses arrive."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import NamedTuple

from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import OfferdError
from offerd.ids import ExecutorID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, FrameworkInfo, Offer, TaskInfo, TaskState, TaskStatus
from offerd.python_calls.call_scheduler import EXECUTOR_ID
from offerd.resources import Resources

DEADLINE_S = 30.0
COMMAND = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
PYTHON = ExecutorInfo(EXECUTOR_ID, module="offerd_executors.python")
RESOURCES = Resources.of(cpus="0.1", mem="16M")


class Heard(NamedTuple):
    """Milliseconds from the submit until the task's RUNNING and its end have arrived."""

    running_ms: float
    ended_ms: float


class Probe(Scheduler):
    """Asks for offers only while it has a task."""

    def __init__(self, executor: ExecutorInfo) -> None:
        self._executor = executor
        self._heard: SimpleQueue[tuple[float, TaskStatus]] = SimpleQueue()
        self._task: TaskInfo | None = None
        self._numbers = itertools.count()

    def run_one(self, driver: SchedulerDriver, *, data: bytes = b"", argv: tuple[str, ...] = ()) -> Heard:
        """Run a task and wait for its end. Raises `OfferdError` if it fails or does not end."""
        command = CommandInfo(argv=list(argv)) if argv else None
        task_id = TaskID(f"probe-{next(self._numbers)}")
        task = TaskInfo(task_id, RESOURCES, self._executor.executor_id, command, data, time_limit_s=20.0)
        started = time.perf_counter()
        driver.call_soon(self._submit, driver, task)
        running_at = 0.0
        while True:
            try:
                at, status = self._heard.get(timeout=DEADLINE_S)
            except Empty:
                raise OfferdError(f"no status of {task.task_id} for {DEADLINE_S:g} s") from None
            # A very short task may end without a RUNNING; then its end counts for both.
            running_at = running_at or at
            if status.state is TaskState.FINISHED:
                return Heard((running_at - started) * 1e3, (at - started) * 1e3)
            if status.state.terminal:
                raise OfferdError(f"a task ended badly: {status.reason} {status.message}")

    def _submit(self, driver: SchedulerDriver, task: TaskInfo) -> None:
        self._task = task
        driver.set_needs_offers(True)

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        for offer in offers:
            if self._task is None:
                driver.decline_offer(offer.offer_id, 0.0)
            else:
                driver.reply_to_offer(offer.offer_id, [self._task])
                self._task = None
        driver.set_needs_offers(self._task is not None)

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        self._heard.put((time.perf_counter(), status))


@contextmanager
def framework(address: str, executor: ExecutorInfo) -> Iterator[tuple[Probe, SchedulerDriver]]:
    """A new registered framework, torn down at the end."""
    probe = Probe(executor)
    driver = SchedulerDriver(probe, FrameworkInfo("probe", executors=[executor]), address)
    driver.set_needs_offers(False)
    driver.start()
    try:
        driver.wait_registered(DEADLINE_S)
        yield probe, driver
    finally:
        driver.stop()
        driver.join(DEADLINE_S)
