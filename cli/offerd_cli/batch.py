"""The scheduler behind `offerd run` and `offerd map`: many commands of one size. Each is a task, or one of a series in a task.

It lives in the driver's thread and touches only itself and the `events` queue, from which the command's main thread learns what
happened. It fills each offer as far as possible, and asks for no more offers when no command waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from offerd.core.own_statuses import cannot_be_sent
from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import BadInput, MessageTooLarge
from offerd.files_door import FilesDoor
from offerd.ids import ExecutorID, OfferID, SlaveID, TaskID
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
from offerd.tasks import series

COMMAND_EXECUTOR = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command", name="commands")
INLINE_OUTPUT = {series.INLINE_LABEL: "1"}
"""Label: output of at most 4 KiB comes with the terminal status, and no file is kept."""
SERIES_S = 0.5
"""Short commands that together take this long make one task, so that the cost of a task is small in comparison."""
LONGEST_SERIES = 64
SERIES_BYTES = 64 << 10
"""Bytes that a series may hold beyond its first command: a reply to an offer holds a little under 1 MiB."""
SEEN_BEFORE_SERIES = 16
"""How many commands must have ended before their mean duration is used."""
NEWEST_WEIGHT = 0.05
SERIES_AT_THE_END = 2
"""A series takes at most this part of the time that each running task has left, so that all end at about the same time..."""
UNEVEN_S = 0.05
"""... but at least this long: otherwise the last tasks would hold one command each, and cost more than it takes."""
REFUSE_SMALL_S = 1.0
"""How long an offer that nothing fits into is refused. Short, because what a long task leaves may make it fit."""
TASKS_PER_REPLY = 2_000

IMPRECISE_LIMIT = 0.01
"""How much less time than its limit a command in a series may have; if that is too little it gets a task of its own."""

NEVER_RAN = frozenset(reason for reason in Reason if reason.never_ran)
"""A task that is LOST or ERROR for one of these is launched again."""


class Place(NamedTuple):
    """Where a task runs, and how its files are read."""

    slave_id: str
    hostname: str
    files: FilesDoor


class NewestFiles(NamedTuple):
    """The newest access to a task's files: a task may outlive the access that came with its offer."""

    driver: SchedulerDriver
    slave_id: SlaveID

    @property
    def address(self) -> str:
        return self.driver.files(self.slave_id).address

    @property
    def fingerprint(self) -> str:
        return self.driver.files(self.slave_id).fingerprint

    def authorization(self, method: str, path: str) -> str:
        """As `FilesDoor`."""
        return self.driver.files(self.slave_id).authorization(method, path)


class Started(NamedTuple):
    """A command is running. A very short one may end unseen; the second command of a series always does."""

    number: int
    status: TaskStatus
    place: Place


class Ended(NamedTuple):
    """A command has ended for good. Each command, with its `index`, ends once."""

    number: int
    status: TaskStatus
    place: Place
    part: series.Part | None = None
    """Its output, with `INLINE_OUTPUT`; None if it never ran, or if the output is not known."""


class Preparing(NamedTuple):
    """A task has a slave, which prepares its environment; the message says how far it is."""

    message: str


class Broken(NamedTuple):
    """No more events will come, because the driver has ended; `driver.join()` raises the reason."""


Event = Preparing | Started | Ended | Broken


class Batch(Scheduler):
    """`count` commands, `command(index)` each, as the task `PREFIX` (if there is one) or as tasks `PREFIX.NUMBER`.

    At most `max_running` run at once. A failed command is run again up to `retries` times. `may_join`: very short commands may
    run several in a task, one after another; then they must be plain argument vectors.
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
        may_join: bool = False,
        executor: ExecutorInfo = COMMAND_EXECUTOR,
    ) -> None:
        self.executor = executor
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
        self._running: dict[TaskID, tuple[list[int], Place]] = {}
        self._attempts: dict[int, int] = {}  # of commands that were run more than once
        self._failures: dict[int, int] = {}
        self._may_join = may_join
        self._ended_parts = 0
        self._mean_s = 0.0  # mean duration of a command, weighted towards recent ones
        self._wants_offers = True
        self._cancelled = False

    # -- For the main thread ----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many commands do not run yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether `max_running` commands are running, so that others wait for these."""
        return len(self._running) >= self._max_running

    def running_ids(self) -> list[TaskID]:
        return list(self._running)

    def is_ours(self, status: TaskStatus) -> bool:
        """Whether the task was killed because `cancel` was called."""
        return self._cancelled and status.reason == Reason.KILLED_BY_FRAMEWORK

    def filters(self) -> Filters:
        """Filters that keep away offers into which nothing fits; the master cannot filter by the long-task cap."""
        return Filters(minimum=self.resources, attributes=self._attributes)

    def cancel(self, driver: SchedulerDriver) -> None:
        """Launch nothing more, and kill what is running."""
        self._cancelled = True
        driver.set_needs_offers(False)
        for task_id in self.running_ids():
            driver.kill_task(task_id)

    # -- Callbacks --------------------------------------------------------------------------------------------------

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
            known = self._running.get(status.task_id)
            if known is None:
                return
            if status.state is TaskState.RUNNING and self._report_starts:
                self.events.put(Started(known[0][0], status, known[1]))
            elif status.reason == Reason.CONTAINER_PREPARING:
                self.events.put(Preparing(status.message))
            return
        known = self._running.pop(status.task_id, None)
        if known is None:
            return
        indices, place = known
        parts = series.unpack(status.data) if status.data else []
        for index, part in zip(indices, parts, strict=False):
            self._note_duration(part)
            its = status if len(indices) == 1 else status_of(part, status)
            self._end(index, its, place, part)
        never_ran = indices[len(parts) :]
        if parts and not self._cancelled:
            self._waiting.extend(never_ran)
        else:
            for index in never_ran:
                self._end(index, status, place, None)
        self._say_whether_offers_are_wanted(driver)

    def _end(self, index: int, status: TaskStatus, place: Place, part: series.Part | None) -> None:
        if not self._cancelled and self._is_to_run_again(index, status):
            self._waiting.append(index)
        else:
            self.events.put(Ended(index, status, place, part))

    # -- Inside -----------------------------------------------------------------------------------------------------

    def _fitting(self, offer: Offer) -> int:
        """How many tasks fit into the offer; long tasks only into the part for long tasks."""
        # The filter ensures this, but the first offers may have been made before it was set.
        if any(offer.attributes.get(name) != value for name, value in self._attributes.items()):
            return 0
        scalars = offer.resources.scalars
        number = min(scalars.get(name, 0) // amount for name, amount in self._scalars)
        if self.time_limit_s is None or self.time_limit_s > offer.short_limit_s:
            long = offer.long_quantities
            number = min(number, *(long.get(name, 0) // amount for name, amount in self._scalars))
        return number

    def _launch(self, driver: SchedulerDriver, offer: Offer, number: int) -> None:
        place = Place(offer.slave_id, offer.hostname, NewestFiles(driver, offer.slave_id))
        length = self._series_length(offer, number)
        groups: list[list[int]] = []
        tasks: list[TaskInfo] = []
        while self._waiting and len(groups) < number:
            group, commands = self._next_series(length)
            groups.append(group)
            tasks.append(self._task(group, commands, offer))
        while len(tasks) > 1 and not driver.fits_message(tasks):
            # What does not fit goes back to its old place; halving the number soon makes it small enough.
            half = len(tasks) // 2
            for group in reversed(groups[half:]):
                self._waiting.extendleft(reversed(group))
            del tasks[half:], groups[half:]
        try:
            driver.reply_to_offer(offer.offer_id, tasks)
        except (BadInput, MessageTooLarge):
            groups, tasks = self._without_faulty(driver, groups, tasks, place)
            if not tasks:
                driver.decline_offer([offer.offer_id], 0.0)
                return
            driver.reply_to_offer(offer.offer_id, tasks)
        for group, task in zip(groups, tasks, strict=True):
            self._running[task.task_id] = (group, place)

    def _without_faulty(
        self, driver: SchedulerDriver, groups: list[list[int]], tasks: list[TaskInfo], place: Place
    ) -> tuple[list[list[int]], list[TaskInfo]]:
        """The tasks that can be sent. A task that no message can hold ends here, so that the others can run."""
        good: list[tuple[list[int], TaskInfo]] = []
        for group, task in zip(groups, tasks, strict=True):
            fault = driver.fault(task)
            if not fault:
                good.append((group, task))
                continue
            for index in group:
                self.events.put(Ended(index, cannot_be_sent(task.task_id, fault), place))
        return [group for group, _ in good], [task for _, task in good]

    def _next_series(self, length: int) -> tuple[list[int], list[CommandInfo]]:
        """The next `length` waiting commands, or as many of them as one task may carry."""
        group: list[int] = []
        commands: list[CommandInfo] = []
        room = SERIES_BYTES
        while self._waiting and len(group) < length:
            command = self._command(self._waiting[0])
            if group:
                room -= _most_bytes(command.argv)
                if room < 0:
                    break
            group.append(self._waiting.popleft())
            commands.append(command)
        return group, commands

    def _series_length(self, offer: Offer, number: int) -> int:
        """How many commands to put into each of `number` tasks."""
        if not self._may_join or self._ended_parts < SEEN_BEFORE_SERIES:
            return 1
        limit_s, series_limit_s = self.time_limit_s, self._limit_of_series(offer)
        if limit_s is not None and series_limit_s is not None:
            missing_s = limit_s + SERIES_S - series_limit_s
            if missing_s > IMPRECISE_LIMIT * limit_s:
                return 1
        before_each = len(self._waiting) // (len(self._running) + number)
        wanted = int(SERIES_S / max(self._mean_s, 1e-6))
        even = max(
            before_each // SERIES_AT_THE_END, min(before_each, int(UNEVEN_S / max(self._mean_s, 1e-6)))
        )
        return max(1, min(wanted, LONGEST_SERIES, even))

    def _limit_of_series(self, offer: Offer) -> float | None:
        """The time limit of a series. Commands before one add to its own limit, unless that would make the task a long one."""
        limit_s = self.time_limit_s
        if limit_s is None or limit_s > offer.short_limit_s:
            return None if limit_s is None else limit_s + SERIES_S
        return min(limit_s + SERIES_S, offer.short_limit_s)

    def _task(self, indices: list[int], commands: list[CommandInfo], offer: Offer) -> TaskInfo:
        index = indices[0]
        task_id = self._prefix if self.count == 1 else f"{self._prefix}.{index + 1}"
        if attempt := self._attempts.get(index, 0):
            task_id = f"{task_id}.again{attempt}"
        command, time_limit_s = commands[0], self.time_limit_s
        if len(commands) > 1:
            others = [other.argv for other in commands[1:]]
            command = msgspec.structs.replace(command, series=others, series_s=SERIES_S)
            time_limit_s = self._limit_of_series(offer)
        return TaskInfo(
            TaskID(task_id),
            self.resources,
            self.executor.executor_id,
            command,
            time_limit_s=time_limit_s,
            name=self._name,
            labels=self._labels,
        )

    def _note_duration(self, part: series.Part) -> None:
        self._ended_parts += 1
        weight = max(NEWEST_WEIGHT, 1 / self._ended_parts)
        self._mean_s += weight * (part.elapsed_s - self._mean_s)

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


def _most_bytes(argv: list[str]) -> int:
    """Upper bound on the wire: at most four bytes for a letter, and five for a word's length."""
    return sum((len(word) if word.isascii() else 4 * len(word)) + 5 for word in argv)


def status_of(part: series.Part, status: TaskStatus) -> TaskStatus:
    """The last status of a task, turned into the status of one of its commands."""
    if part.is_killed:
        return status
    state, reason = TaskState.FINISHED, ""
    if not part.is_started:
        state, reason = TaskState.FAILED, Reason.COMMAND_NOT_STARTED
    elif part.exit_status != 0:
        state, reason = TaskState.FAILED, Reason.COMMAND_EXITED
    return msgspec.structs.replace(
        status, state=state, reason=reason, message=part.message, exit_status=part.exit_status, data=b""
    )


def framework(
    name: str,
    user: str = "",
    hostname: str = "",
    executor: ExecutorInfo = COMMAND_EXECUTOR,
    role: str = "*",
) -> FrameworkInfo:
    """The framework of one `offerd run` or `offerd map`. It ends with the process."""
    return FrameworkInfo(name, user=user, role=role, executors=[executor], hostname=hostname)
