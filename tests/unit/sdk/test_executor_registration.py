"""An executor's later registrations: what they hold, and what causes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_slave import DEADLINE_S, FakeSlave, task
from offerd import messages as m
from offerd.executor import Executor, ExecutorDriver
from offerd.ids import TaskID
from offerd.messages import TaskState
from offerd.values.bounds import MAX_STATUS_BYTES
from offerd.wire import codec


class Stage(Executor):
    """A fake slave, and a driver in a thread. Tasks with data end at once with that data; the others stay."""

    def __init__(self, sandbox: Path) -> None:
        self.slave = FakeSlave(sandbox)
        self.slave.__enter__()
        self.launched: list[TaskID] = []
        self.driver = ExecutorDriver(self, self.slave.executor_environ())
        self.thread = threading.Thread(target=self.driver.run, daemon=True)
        self.thread.start()
        self.slave.wait_until(lambda: self.slave.peer is not None, "the driver registers")

    def launch_task(self, driver: ExecutorDriver, task: m.TaskInfo) -> None:
        self.launched.append(task.task_id)
        if task.data:
            driver.send_status(task.task_id, TaskState.FINISHED, data=task.data)

    def launch(self, *tasks: m.TaskInfo) -> None:
        for info in tasks:
            self.slave.launch(info)
        self.slave.wait_until(lambda: len(self.launched) == len(tasks), "all are launched")

    def next_registration(self) -> m.RegisterExecutor:
        seen = len(self.slave.registrations)
        self.slave.wait_until(
            lambda: len(self.slave.registrations) > seen, "the driver says registration again"
        )
        return self.slave.registrations[-1]

    def close(self) -> None:
        self.slave.stores = True
        self.driver.stop()
        self.slave.wait_until(lambda: not self.thread.is_alive(), "the driver stops")
        self.thread.join(DEADLINE_S)
        self.slave.__exit__(None, None, None)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "sandbox")
    yield made
    made.close()


def test_a_slave_that_does_not_know_the_executor_gets_a_new_registration(stage: Stage) -> None:
    stage.launch(task("a"))
    stage.slave.send(m.NotRegistered())
    stage.slave.send(m.NotRegistered())
    assert stage.next_registration().task_ids == ["a"]
    stage.launched.clear()
    stage.launch(task("b"))


def test_a_registration_with_large_statuses_and_thousands_of_tasks_fits_a_message(stage: Stage) -> None:
    stage.slave.stores = False
    large = [task(f"large-{i}", data=bytes(MAX_STATUS_BYTES - 1024)) for i in range(3)]
    many = [task(f"{i:0128d}") for i in range(5000)]
    stage.launch(*large, *many)
    stage.slave.wait_until(lambda: len(stage.slave.ended) == len(large), "their ends have come")
    stage.slave.send(m.NotRegistered())
    registration = stage.next_registration()
    assert set(registration.task_ids) == set(stage.launched), (
        "every task is named, also those whose ends did not fit"
    )
    assert len(codec.encode_message(registration)) <= codec.MAX_MESSAGE_BYTES
    stage.slave.wait_until(lambda: len(stage.slave.updates) >= 2 * len(large), "the ends are sent again")


def test_tasks_beyond_those_that_a_registration_can_name_are_all_that_is_lost(stage: Stage) -> None:
    stage.launch(*[task(f"{i:0128d}") for i in range(9000)])
    stage.slave.send(m.NotRegistered())
    registration = stage.next_registration()
    assert registration.task_ids == stage.launched[: len(registration.task_ids)]
    assert len(registration.task_ids) > 7000
