"""A framework for tests: runs the given tasks, and remembers every status."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import offerd
from helpers.cli import wait_until
from offerd.ids import ExecutorID, SlaveID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, Offer, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources

COMMAND = ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")


class Recorder(offerd.Scheduler):
    """`with Recorder(address) as framework: framework.run("t1", "sleep 1")`; then wait for what should come."""

    patience_s = 20.0
    """How long a status may take to arrive."""

    def __init__(
        self, master: str, *, executors: tuple[ExecutorInfo, ...] = (COMMAND,), **framework: Any
    ) -> None:
        self._lock = threading.Lock()
        self._waiting: list[TaskInfo] = []
        self.statuses: dict[str, list[TaskStatus]] = {}
        self.lost_slaves: list[SlaveID] = []
        self.lost_executors: list[tuple[str, int | None]] = []
        self.messages: list[bytes] = []
        info = offerd.FrameworkInfo("recorder", executors=list(executors), **framework)
        self.driver = offerd.SchedulerDriver(self, info, master)

    def __enter__(self) -> Recorder:
        self.driver.start()
        self.driver.wait_registered(self.patience_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.stop()
        self.driver.join(10)

    # -- orders ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        shell: str = "",
        *,
        cpus: float = 0.1,
        mem: str = "16M",
        limit_s: float | None = 60.0,
        **more: Any,
    ) -> None:
        """Launch a task as soon as it fits somewhere."""
        executor_id = more.pop("executor_id", COMMAND.executor_id)
        command = more.pop("command", None) or (CommandInfo(shell=shell) if shell else None)
        task = TaskInfo(
            TaskID(name),
            Resources.of(cpus=cpus, mem=mem),
            executor_id,
            command,
            time_limit_s=limit_s,
            **more,
        )
        with self._lock:
            self._waiting.append(task)
        self.driver.revive_offers()

    # -- what to wait for -----------------------------------------------------------------------------------------------

    def states(self, name: str) -> list[TaskState]:
        return [status.state for status in self.statuses.get(name, ())]

    def wait(self, name: str, state: TaskState, timeout_s: float | None = None) -> TaskStatus:
        """Wait until the task has been in this state; returns that status."""
        wait_until(
            lambda: state in self.states(name), f"{name} to be {state.value}", timeout_s or self.patience_s
        )
        return next(status for status in self.statuses[name] if status.state is state)

    def wait_end(self, name: str, timeout_s: float | None = None) -> TaskStatus:
        """Wait until it has ended; returns its last status."""
        wait_until(
            lambda: any(s.terminal for s in self.states(name)), f"{name} to end", timeout_s or self.patience_s
        )
        return self.statuses[name][-1]

    # -- callbacks ------------------------------------------------------------------------------------------------------

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[Offer]) -> None:
        for offer in offers:
            free, tasks = offer.resources, []
            with self._lock:
                for task in list(self._waiting):
                    if free.covers(task.resources):
                        free = free - task.resources
                        tasks.append(task)
                        self._waiting.remove(task)
            if tasks:
                driver.reply_to_offer(offer.offer_id, tasks)
            else:
                driver.decline_offer(offer.offer_id, 3600)

    def status_update(self, driver: offerd.SchedulerDriver, status: TaskStatus) -> None:
        self.statuses.setdefault(status.task_id, []).append(status)

    def slave_lost(self, driver: offerd.SchedulerDriver, slave_id: SlaveID) -> None:
        self.lost_slaves.append(slave_id)

    def executor_lost(
        self,
        driver: offerd.SchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> None:
        self.lost_executors.append((executor_id, exit_status))

    def framework_message(
        self, driver: offerd.SchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> None:
        self.messages.append(data)


def ended_once(framework: Recorder, *names: str) -> bool:
    """Each of these tasks has had exactly one terminal status."""
    counts: list[int] = [sum(state.terminal for state in framework.states(name)) for name in names]
    return all(count == 1 for count in counts)
