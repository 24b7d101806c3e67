"""The scheduler behind `offerd run` and `offerd map`: so many commands of one size, one task each.

It lives in the driver's thread and touches nothing but itself and the `events` queue, from which the command's main
thread learns what happened. Offers are filled as far as they go; when nothing waits any more it asks for no more offers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import NamedTuple

from offerd.driver import SchedulerDriver
from offerd.ids import ExecutorID, OfferID, TaskID
from offerd.messages import (
    CommandInfo,
    ExecutorInfo,
    Filters,
    FrameworkInfo,
    Offer,
    Reason,
    TaskInfo,
    TaskState,
    TaskStatus,
)
from offerd.resources import Resources
from offerd.scheduler import Scheduler

COMMAND_EXECUTOR = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command", name="commands")
INLINE_OUTPUT = {"offerd.inline_output": "1"}
"""Label: output of at most 4 KiB comes with the terminal status, and no file is kept."""
REFUSE_SMALL_S = 1.0
"""How long an offer that nothing fits into is not wanted again. Short: what a long task leaves may make it fit."""
REFUSE_UNUSED_S = 60.0
TASKS_PER_REPLY = 2_000

NEVER_RAN = frozenset({Reason.OFFER_INVALID, Reason.LONG_TASK_CAP, Reason.SLAVE_UNKNOWN})
"""LOST or ERROR for one of these: the offer was overtaken by something on its way. The task never ran and is launched again."""


class Place(NamedTuple):
    """Where a task runs."""

    slave_id: str
    hostname: str
    files_address: str


class Started(NamedTuple):
    """A command runs. A very short one may end without having been seen running."""

    number: int
    status: TaskStatus
    place: Place


class Ended(NamedTuple):
    """A command has ended, for good: this number, the `index` of the command, comes once."""

    number: int
    status: TaskStatus
    place: Place


class Broken(NamedTuple):
    """No more events will come: the driver has ended; `driver.join()` raises why."""


Event = Started | Ended | Broken


class Batch(Scheduler):
    """`count` commands, `command(index)` each, as tasks `PREFIX` (a single one) or `PREFIX.NUMBER`.

    At most `max_running` at once. A task that ends otherwise than by finishing is run again up to `retries` times.
    """

    def __init__(
        self,
        count: int,
        command: Callable[[int], CommandInfo],
        resources: Resources,
        *,
        prefix: str,
        name: str = "",
        time_limit_s: float | None = None,
        max_running: int | None = None,
        retries: int = 0,
        labels: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        report_starts: bool = True,
    ) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.count = count
        self.resources = resources
        self.time_limit_s = time_limit_s
        self._command = command
        self._prefix = prefix
        self._name = name
        self._max_running = max_running or count
        self._retries = retries
        self._labels = dict(labels or {})
        self._attributes = dict(attributes or {})
        self._report_starts = report_starts
        self._scalars = list(resources.scalars.items())
        self._waiting: deque[int] = deque(range(count))
        self._running: dict[TaskID, tuple[int, Place]] = {}
        self._attempts: dict[int, int] = {}  # of those that were run more than once
        self._failures: dict[int, int] = {}
        self._wants_offers = True
        self._cancelled = False

    # -- for the main thread ----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many commands have no place yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether as many run as may at once: what waits then, waits for its own."""
        return len(self._running) >= self._max_running

    def running_ids(self) -> list[TaskID]:
        return list(self._running)

    def filters(self) -> Filters:
        """Offers that nothing fits into never come; the long cap alone is not the master's to filter by."""
        return Filters(minimum=self.resources, attributes=self._attributes)

    def cancel(self, driver: SchedulerDriver) -> None:
        """Launch nothing more and kill what runs."""
        self._cancelled = True
        driver.set_needs_offers(False)
        for task_id in self.running_ids():
            driver.kill_task(task_id)

    # -- callbacks --------------------------------------------------------------------------------------------------

    def error(self, driver: SchedulerDriver, reason: str, message: str) -> None:
        self.events.put(Broken())

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        unused: list[OfferID] = []
        small: list[OfferID] = []
        for offer in offers:
            free = self._max_running - len(self._running)
            if not self._waiting or free <= 0 or self._cancelled:
                unused.append(offer.offer_id)
                continue
            number = min(self._fitting(offer), len(self._waiting), free, TASKS_PER_REPLY)
            if number > 0:
                self._launch(driver, offer, number)
            else:
                small.append(offer.offer_id)
        if small:
            driver.decline_offer(small, REFUSE_SMALL_S)
        if unused:
            driver.decline_offer(unused, 0.0)
        self._say_whether_offers_are_wanted(driver)

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        if not status.state.terminal:
            if (
                self._report_starts
                and status.state is TaskState.RUNNING
                and (known := self._running.get(status.task_id))
            ):
                self.events.put(Started(known[0], status, known[1]))
            return
        known = self._running.pop(status.task_id, None)
        if known is None:
            return
        index, place = known
        if not self._cancelled and self._is_to_run_again(index, status):
            self._waiting.append(index)
        else:
            self.events.put(Ended(index, status, place))
        self._say_whether_offers_are_wanted(driver)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _fitting(self, offer: Offer) -> int:
        """How many tasks the offer holds; long ones only in the part for long ones."""
        # The filter says so too, but the first offers may have been under way before it.
        if any(offer.attributes.get(name) != value for name, value in self._attributes.items()):
            return 0
        scalars = offer.resources.scalars
        number = min(scalars.get(name, 0) // amount for name, amount in self._scalars)
        if self.time_limit_s is None or self.time_limit_s > offer.short_limit_s:
            long = offer.long_quantities
            number = min(number, *(long.get(name, 0) // amount for name, amount in self._scalars))
        return number

    def _launch(self, driver: SchedulerDriver, offer: Offer, number: int) -> None:
        place = Place(offer.slave_id, offer.hostname, offer.files_address)
        indices = [self._waiting.popleft() for _ in range(number)]
        tasks = [self._task(index) for index in indices]
        while len(tasks) > 1 and not driver.fits_message(tasks):
            # What does not fit goes back to where it came from, in order; half at a time is soon small enough.
            half = len(tasks) // 2
            self._waiting.extendleft(reversed(indices[half:]))
            del tasks[half:], indices[half:]
        for index, task in zip(indices, tasks, strict=True):
            self._running[task.task_id] = (index, place)
        driver.reply_to_offer(offer.offer_id, tasks)

    def _task(self, index: int) -> TaskInfo:
        task_id = self._prefix if self.count == 1 else f"{self._prefix}.{index + 1}"
        if attempt := self._attempts.get(index, 0):
            task_id = f"{task_id}.again{attempt}"
        return TaskInfo(
            TaskID(task_id),
            self.resources,
            COMMAND_EXECUTOR.executor_id,
            self._command(index),
            time_limit_s=self.time_limit_s,
            name=self._name,
            labels=self._labels,
        )

    def _is_to_run_again(self, index: int, status: TaskStatus) -> bool:
        if status.state in (TaskState.LOST, TaskState.ERROR) and status.reason in NEVER_RAN:
            self._attempts[index] = self._attempts.get(index, 0) + 1
            return True
        if status.state in (TaskState.FINISHED, TaskState.ERROR) or not self._retries:
            return False
        failures = self._failures[index] = self._failures.get(index, 0) + 1
        if failures > self._retries:
            return False
        self._attempts[index] = self._attempts.get(index, 0) + 1
        return True

    def _say_whether_offers_are_wanted(self, driver: SchedulerDriver) -> None:
        wants = bool(self._waiting) and len(self._running) < self._max_running and not self._cancelled
        if wants != self._wants_offers:
            self._wants_offers = wants
            driver.set_needs_offers(wants)


def framework(name: str, user: str = "", hostname: str = "") -> FrameworkInfo:
    """The framework of one `offerd run` or `offerd map`: it ends with its process."""
    return FrameworkInfo(name, user=user, executors=[COMMAND_EXECUTOR], hostname=hostname)
