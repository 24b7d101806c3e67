"""Ten thousand tasks, each with one side effect, and what has to be true of them in the end.

A task appends one byte to a file of its own, and then ends well or with status 3, as its number says. In the end each task has
exactly one terminal status; if that says how the command ended, its byte is there once; if it says that nobody knows (lost,
killed) the byte may be there, once at most: nothing is ever launched twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import offerd
from offerd.ids import ExecutorID, TaskID
from offerd.messages import (
    CommandInfo,
    ExecutorInfo,
    FrameworkInfo,
    Offer,
    Reason,
    TaskInfo,
    TaskState,
    TaskStatus,
)
from offerd.resources import Resources

COMMAND = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
SIZE = Resources.of(cpus="0.1", mem="8M")
LIMIT_S = 20.0
EXIT_STATUS = 3


class Ledger(offerd.Scheduler):
    """Launches `count` tasks, spread over `seconds`, and writes down every status."""

    def __init__(self, master: str, effects: Path, count: int, seconds: float, seed: int) -> None:
        self.count = count
        self.effects = effects
        self.terminal: dict[TaskID, list[TaskStatus]] = {}
        self.launched = 0
        self.registrations = 0
        self._random = random.Random(seed)
        self._rate = count / seconds
        self._began = time.monotonic()
        self._lock = threading.Lock()
        framework = FrameworkInfo(
            "ledger", executors=[COMMAND], failover_timeout_s=600.0, unreachable_timeout_s=20.0
        )
        self.driver = offerd.SchedulerDriver(self, framework, master, connect_timeout_s=60.0)

    @property
    def ended(self) -> int:
        return len(self.terminal)

    # -- callbacks ------------------------------------------------------------------------------------------------------

    def registered(self, driver: offerd.SchedulerDriver, framework_id: str, master_id: str) -> None:
        self.registrations += 1

    def reregistered(self, driver: offerd.SchedulerDriver, master_id: str) -> None:
        self.registrations += 1

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[Offer]) -> None:
        allowed = min(self.count, int((time.monotonic() - self._began) * self._rate) + 10)
        for offer in offers:
            tasks: list[TaskInfo] = []
            free = offer.resources
            while self.launched < allowed and len(tasks) < 20 and free.covers(SIZE):
                free = free - SIZE
                tasks.append(self._task(self.launched))
                self.launched += 1
            if tasks:
                driver.reply_to_offer(offer.offer_id, tasks, 0.2)
            else:
                driver.decline_offer(offer.offer_id, 0.2)

    def status_update(self, driver: offerd.SchedulerDriver, status: TaskStatus) -> None:
        if status.state.terminal:
            with self._lock:
                self.terminal.setdefault(status.task_id, []).append(status)

    def _task(self, number: int) -> TaskInfo:
        pause_s = self._random.choice([0.0, 0.05, 0.2, 1.0, 2.0])
        status = EXIT_STATUS if number % 5 == 0 else 0
        script = f'printf x >> "{self.effects}/$OFFERD_TASK_ID"; sleep {pause_s}; exit {status}'
        return TaskInfo(
            TaskID(f"t{number}"), SIZE, COMMAND.executor_id, CommandInfo(shell=script), time_limit_s=LIMIT_S
        )

    # -- the end --------------------------------------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """A line for each task that is not as it must be."""
        found = []
        for number in range(self.count):
            task_id = TaskID(f"t{number}")
            statuses = self.terminal.get(task_id, [])
            path = self.effects / task_id
            effects = path.stat().st_size if path.exists() else 0
            if len(statuses) != 1:
                found.append(f"{task_id} has {len(statuses)} terminal statuses: {statuses}")
                continue
            found += _wrong(number, statuses[0], effects)
        return found

    def summary(self) -> str:
        """How many tasks ended in which way."""
        reasons = Counter(
            f"{status.state.name.lower()}{f' ({status.reason})' if status.reason else ''}"
            for statuses in self.terminal.values()
            for status in statuses
        )
        return ", ".join(f"{number:,} {how}" for how, number in reasons.most_common())


def _wrong(number: int, status: TaskStatus, effects: int) -> list[str]:
    ended_by_itself = status.state is TaskState.FINISHED or (
        status.state is TaskState.FAILED and status.reason == Reason.COMMAND_EXITED
    )
    wrong = []
    if effects > 1 or (ended_by_itself and effects != 1):
        wrong.append(f"t{number} is {status.state.name} ({status.reason}) and has happened {effects} times")
    expected = EXIT_STATUS if number % 5 == 0 else 0
    if ended_by_itself and (status.exit_status or 0) != expected and (status.exit_status or 0) >= 0:
        wrong.append(f"t{number} ended with {status.exit_status}, it should have been {expected}")
    if status.state is TaskState.FINISHED and expected:
        wrong.append(f"t{number} is FINISHED and ended with {expected}")
    return wrong
