"""The executor driver against a real ROUTER: statuses, their order and their safety, a slave that goes and
comes.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.fake_slave import DEADLINE_S, FakeSlave, task
from offerd import messages as m
from offerd.errors import BadInput
from offerd.executor import Executor, ExecutorDriver
from offerd.ids import SlaveID, TaskID
from offerd.messages import Reason, TaskState
from offerd.values.bounds import MAX_STATUS_BYTES


class Recorder(Executor):
    """Calls what a test puts into `on_launch`, and notes the other callbacks."""

    def __init__(self) -> None:
        self.on_launch: Callable[[ExecutorDriver, m.TaskInfo], None] = lambda driver, task: None
        self.on_kill: Callable[[ExecutorDriver, TaskID], None] = lambda driver, task_id: None
        self.launched: list[TaskID] = []
        self.graces_s: list[float] = []
        self.events: list[str] = []
        self.received: list[bytes] = []

    def registered(
        self,
        driver: ExecutorDriver,
        framework: m.FrameworkInfo,
        executor: m.ExecutorInfo,
        slave_id: SlaveID,
        sandbox: str,
    ) -> None:
        self.events.append(f"registered {framework.framework_id} {executor.executor_id} {slave_id}")

    def reregistered(self, driver: ExecutorDriver, slave_id: SlaveID) -> None:
        self.events.append("reregistered")

    def disconnected(self, driver: ExecutorDriver) -> None:
        self.events.append("disconnected")

    def launch_task(self, driver: ExecutorDriver, task: m.TaskInfo) -> None:
        self.launched.append(task.task_id)
        self.on_launch(driver, task)

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        self.graces_s.append(grace_s)
        self.on_kill(driver, task_id)

    def framework_message(self, driver: ExecutorDriver, data: bytes) -> None:
        self.received.append(data)
        driver.send_framework_message(data[::-1])


class Stage:
    """A fake slave, and a driver with its recorder in a thread."""

    def __init__(self, sandbox: Path, environ: dict[str, str]) -> None:
        self.slave = FakeSlave(sandbox, environ=environ)
        self.slave.__enter__()
        self.executor = Recorder()
        self.driver = ExecutorDriver(self.executor, self.slave.executor_environ())
        self.exit_status: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.slave.wait_until(lambda: self.slave.peer is not None, "the driver registers")

    def _run(self) -> None:
        self.exit_status = self.driver.run()

    def join(self) -> int | None:
        self._thread.join(DEADLINE_S)
        return self.exit_status

    def close(self) -> None:
        if self._thread.is_alive():
            self.driver.stop()
            if self.slave.peer is not None and self.slave.stores:
                self.slave.wait_until(lambda: not self._thread.is_alive(), "the driver stops")
            self._thread.join(DEADLINE_S)
        self.slave.__exit__(None, None, None)
        assert not self._thread.is_alive()

    def restart_slave(self) -> None:
        registrations = len(self.slave.registrations)
        self.slave.unbind()
        self.slave.bind()
        self.slave.wait_until(lambda: len(self.slave.registrations) > registrations, "the driver comes back")


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path / "sandbox", getattr(request, "param", {}))
    yield made
    made.close()


def finish(driver: ExecutorDriver, task: m.TaskInfo) -> None:
    driver.send_status(task.task_id, TaskState.FINISHED, data=task.data)


def states(slave: FakeSlave, task_id: str) -> list[TaskState]:
    return [update.status.state for update in slave.updates if update.status.task_id == task_id]


def test_the_registration_names_the_container_and_the_slave_answers(stage: Stage) -> None:
    stage.start()
    registration = stage.slave.registrations[0]
    assert (registration.container_id, registration.task_ids, registration.unacknowledged) == (
        "container-1",
        [],
        [],
    )
    stage.slave.wait_until(lambda: bool(stage.executor.events), "registered")
    assert stage.executor.events == ["registered framework-1 executor-1 slave-1"]


def test_statuses_say_where_they_come_from(stage: Stage) -> None:
    stage.executor.on_launch = finish
    stage.start()
    status = stage.slave.run(task("a", data=b"xyz"))
    assert (status.state, status.data, status.source) == (TaskState.FINISHED, b"xyz", "executor")
    assert (status.slave_id, status.executor_id) == ("slave-1", "executor-1")


def test_updates_are_numbered_through_and_sequences_rise_within_a_task(stage: Stage) -> None:
    def run_then_finish(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        driver.send_status(task.task_id, TaskState.RUNNING)
        driver.call_later(0.05, lambda: finish(driver, task))

    stage.executor.on_launch = run_then_finish
    stage.start()
    stage.slave.wait_ended([stage.slave.launch(task(f"t{n}")) for n in range(3)])
    assert [update.number for update in stage.slave.updates] == [1, 2, 3, 4, 5, 6]
    assert states(stage.slave, "t1") == [TaskState.RUNNING, TaskState.FINISHED]
    sequences = [update.status.sequence for update in stage.slave.updates if update.status.task_id == "t1"]
    assert sequences == [1, 2]


def test_running_overtaken_by_the_end_is_not_sent(stage: Stage) -> None:
    def run_and_finish(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        driver.send_status(task.task_id, TaskState.RUNNING)
        finish(driver, task)

    stage.executor.on_launch = run_and_finish
    stage.start()
    assert stage.slave.run(task("a")).sequence == 2
    assert states(stage.slave, "a") == [TaskState.FINISHED]


def test_held_running_is_sent_once_it_has_waited_enough(stage: Stage) -> None:
    stage.executor.on_launch = lambda driver, task: driver.send_status(task.task_id, TaskState.RUNNING)
    stage.driver.hold_running_s = 0.05
    stage.start()
    stage.slave.wait_running(stage.slave.launch(task("a")))
    assert states(stage.slave, "a") == [TaskState.RUNNING]


def test_held_updates_travel_together(stage: Stage) -> None:
    stage.executor.on_launch = finish
    stage.driver.hold_updates_s = 0.2
    stage.start()
    stage.slave.run(task("warm"))
    ended_together: list[int] = []

    def have_both_ended() -> bool:
        ended_together.append(len(stage.slave.ended))
        return ended_together[-1] == 3

    stage.slave.launch(task("a"))
    stage.slave.flush()
    stage.slave.wait_until(lambda: "a" in stage.executor.launched, "a is launched")
    stage.slave.launch(task("b"))
    stage.slave.wait_until(have_both_ended, "both end")
    assert 2 not in ended_together


def test_a_status_from_another_thread_arrives(stage: Stage) -> None:
    threads: list[threading.Thread] = []

    def launch(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        threads.append(threading.Thread(target=finish, args=(driver, task)))
        threads[-1].start()

    stage.executor.on_launch = launch
    stage.start()
    ended = stage.slave.wait_ended([stage.slave.launch(task(f"t{n}", data=b"%d" % n)) for n in range(50)])
    assert [status.data for status in ended] == [b"%d" % n for n in range(50)]
    for thread in threads:
        thread.join()


def test_launch_task_that_raises_costs_that_task_only(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        if task.task_id == "bad":
            raise ZeroDivisionError("in the executor")
        finish(driver, task)

    stage.executor.on_launch = launch
    stage.start()
    bad, good = stage.slave.wait_ended([stage.slave.launch(task("bad")), stage.slave.launch(task("good"))])
    assert (bad.state, bad.reason) == (TaskState.FAILED, Reason.EXECUTOR_RAISED)
    assert "ZeroDivisionError: in the executor" in bad.message
    assert good.state is TaskState.FINISHED
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.usefixtures("capsys")
def test_kill_task_that_raises_fails_the_task(stage: Stage) -> None:
    def kill(driver: ExecutorDriver, task_id: TaskID) -> None:
        raise RuntimeError("cannot kill")

    stage.executor.on_kill = kill
    stage.start()
    stage.slave.launch(task("a"))
    stage.slave.kill(TaskID("a"))
    (status,) = stage.slave.wait_ended([TaskID("a")])
    assert status.state is TaskState.FAILED
    assert "cannot kill" in status.message


@pytest.mark.usefixtures("capsys")
def test_a_status_too_large_to_send_raises_at_the_executor(stage: Stage) -> None:
    stage.executor.on_launch = lambda driver, task: driver.send_status(
        task.task_id, TaskState.FINISHED, data=bytes(MAX_STATUS_BYTES + 1 if task.task_id == "big" else 10)
    )
    stage.start()
    big, small = stage.slave.wait_ended([stage.slave.launch(task("big")), stage.slave.launch(task("small"))])
    assert big.state is TaskState.FAILED
    assert "put the data into a file" in big.message
    assert small.state is TaskState.FINISHED


def test_a_status_after_the_end_is_dropped(stage: Stage) -> None:
    def twice(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        finish(driver, task)
        driver.send_status(task.task_id, TaskState.FAILED)
        driver.send_status(TaskID("unknown"), TaskState.FAILED)

    stage.executor.on_launch = twice
    stage.start()
    stage.slave.run(task("a"))
    stage.slave.run(task("b"))
    assert [update.status.task_id for update in stage.slave.updates] == ["a", "b"]


def test_a_task_sent_twice_is_launched_once(stage: Stage) -> None:
    stage.start()
    for _ in range(2):
        stage.slave.launch(task("a"))
    stage.slave.wait_until(lambda: bool(stage.executor.launched), "launched")
    stage.executor.on_launch = finish
    stage.slave.run(task("b"))
    assert stage.executor.launched == ["a", "b"]


def test_the_grace_is_the_kills_or_the_tasks_or_the_default(stage: Stage) -> None:
    stage.start()
    stage.slave.launch(task("a", kill_grace_s=7.0))
    stage.slave.launch(task("b"))
    stage.slave.kill(TaskID("a"), 1.5)
    stage.slave.kill(TaskID("a"))
    stage.slave.kill(TaskID("b"))
    stage.slave.kill(TaskID("no such task"))
    stage.slave.wait_until(lambda: len(stage.executor.graces_s) == 3, "three kills")
    assert stage.executor.graces_s == [1.5, 7.0, 5.0]


def test_framework_messages_go_both_ways(stage: Stage) -> None:
    stage.start()
    stage.slave.send(
        m.FrameworkMessage(
            stage.driver.framework_id, stage.driver.slave_id, stage.driver.executor_id, b"ping"
        )
    )
    stage.slave.wait_until(lambda: bool(stage.slave.messages), "the answer")
    assert stage.executor.received == [b"ping"]
    assert stage.slave.messages[0].data == b"gnip"


def test_an_executor_watches_its_own_descriptors_and_timers(stage: Stage) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []

    def launch(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        def readable() -> None:
            heard.append(ours.recv(10))
            driver.remove_reader(ours.fileno())
            driver.call_later(0.01, lambda: finish(driver, task))
            driver.call_later(0.005, lambda: heard.append(b"never")).cancel()

        driver.add_reader(ours.fileno(), readable)
        theirs.send(b"hello")

    stage.executor.on_launch = launch
    stage.start()
    stage.slave.run(task("a"))
    assert heard == [b"hello"]
    ours.close()
    theirs.close()


def test_an_order_that_has_arrived_is_read_before_a_death_is_judged(stage: Stage) -> None:
    """Both have arrived when the executor reads them."""
    reading, dying = os.pipe()
    has_begun, all_is_there = threading.Event(), threading.Event()
    killed: list[TaskID] = []

    def busy() -> None:
        """Take so long that everything arrives meanwhile."""
        has_begun.set()
        assert all_is_there.wait(DEADLINE_S)
        client = stage.driver._client
        assert client is not None
        assert client.socket.poll(int(DEADLINE_S * 1000))

    def launch(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        def died() -> None:
            driver.remove_reader(reading)
            driver.send_status(task.task_id, TaskState.KILLED if killed else TaskState.FAILED)

        driver.add_reader(reading, died)
        driver.call_later(0.0, busy)

    stage.executor.on_launch = launch
    stage.executor.on_kill = lambda driver, task_id: killed.append(task_id)
    stage.start()
    task_id = stage.slave.launch(task("a"))
    stage.slave.wait_until(has_begun.is_set, "the executor is busy")
    os.close(dying)
    stage.slave.kill(task_id)
    stage.slave.flush()
    all_is_there.set()
    assert stage.slave.wait_ended([task_id])[0].state is TaskState.KILLED
    os.close(reading)


def test_statuses_are_sent_again_to_a_slave_that_came_back(stage: Stage) -> None:
    stage.executor.on_launch = lambda driver, task: None if task.task_id == "still" else finish(driver, task)
    stage.slave.stores = False
    stage.start()
    stage.slave.launch(task("still"))
    first = stage.slave.run(task("done", data=b"precious"))
    before = [*stage.slave.updates]
    stage.restart_slave()
    registration = stage.slave.registrations[-1]
    assert registration.unacknowledged == [first]
    assert set(registration.task_ids) == {"still", "done"}
    stage.slave.wait_until(lambda: len(stage.slave.updates) == 2 * len(before), "the update again")
    assert stage.slave.updates == before * 2
    assert stage.executor.events[1:] == ["disconnected", "reregistered"]
    stage.slave.stores = True
    stage.slave.store(before[-1].number)


def test_what_is_stored_is_not_sent_again(stage: Stage) -> None:
    stage.executor.on_launch = finish
    stage.start()
    stage.slave.run(task("a"))
    stage.slave.run(task("b"))
    stage.restart_slave()
    assert stage.slave.registrations[-1].unacknowledged == []
    assert stage.slave.registrations[-1].task_ids == []
    stage.slave.run(task("c"))
    assert [update.number for update in stage.slave.updates] == [1, 2, 3]


def test_an_end_while_no_slave_is_there_arrives_later(stage: Stage) -> None:
    stage.start()
    stage.slave.launch(task("a"))
    stage.slave.wait_until(lambda: stage.executor.launched == ["a"], "launched")
    stage.slave.unbind()
    deadline = threading.Event()
    while "disconnected" not in stage.executor.events:
        assert not deadline.wait(0.01)
    stage.driver.send_status(TaskID("a"), TaskState.FINISHED, data=b"meanwhile")
    stage.slave.bind()
    (status,) = stage.slave.wait_ended([TaskID("a")])
    assert status.data == b"meanwhile"


def test_a_slave_may_restart_again_and_again(stage: Stage) -> None:
    stage.executor.on_launch = finish
    stage.start()
    for number in range(5):
        stage.restart_slave()
        stage.slave.run(task(f"t{number}"))
    assert [update.number for update in stage.slave.updates] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("stage", [{"OFFERD_RECOVERY_TIMEOUT_S": "0.3"}], indirect=True)
def test_without_a_slave_the_executor_ends(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.start()
    stage.slave.wait_until(lambda: bool(stage.executor.events), "registered")
    stage.slave.unbind()
    assert stage.join() == 1
    assert "the slave did not come back within 0.3 s" in capsys.readouterr().err


def test_a_stopped_driver_waits_until_its_last_statuses_are_stored(stage: Stage) -> None:
    def finish_and_stop(driver: ExecutorDriver, task: m.TaskInfo) -> None:
        finish(driver, task)
        driver.stop()

    stage.executor.on_launch = finish_and_stop
    stage.slave.stores = False
    stage.start()
    stage.slave.run(task("a"))
    assert stage.exit_status is None
    stage.slave.store(1)
    stage.slave.flush()
    assert stage.join() == 0


def test_shutdown_ends_an_executor_that_does_not_override_it(stage: Stage) -> None:
    stage.start()
    stage.slave.send(m.Shutdown(1.0))
    stage.slave.flush()
    assert stage.join() == 0


def test_a_driver_closes_its_descriptors(stage: Stage) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        driver = ExecutorDriver(Recorder(), stage.slave.executor_environ())
        thread = threading.Thread(target=driver.run)
        thread.start()
        seen = len(stage.slave.registrations)
        stage.slave.wait_until(lambda seen=seen: len(stage.slave.registrations) > seen, "registered")  # type: ignore[misc]
        driver.stop()
        thread.join(DEADLINE_S)
        stage.slave.peer = None
        # The server's end of the connection closes a moment later.
        stage.slave.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors are closed")


@pytest.mark.parametrize("missing", ["OFFERD_SLAVE_SOCKET", "OFFERD_TOKEN", "OFFERD_CONTAINER_ID"])
def test_a_driver_outside_of_a_slave_says_what_is_missing(stage: Stage, missing: str) -> None:
    environ = stage.slave.executor_environ()
    del environ[missing]
    with pytest.raises(BadInput, match=missing):
        ExecutorDriver(Recorder(), environ)
    stage.start()
