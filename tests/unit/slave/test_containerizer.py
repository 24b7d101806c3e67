"""The containerizer with a module that may block: results of its threads, and what waits for them."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.proc import wait_until
from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.ids import ContainerID, TaskID
from offerd.resources import NOTHING, Resources
from offerd_isolation.base import (
    ContainerSpec,
    Isolation,
    IsolationError,
    Launch,
    Limitation,
    Report,
    report_to_nobody,
)
from offerd_slave.containerizer import Containerizer, _Threads
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.data_files import DataDirectory
from offerd_slave.launch.spec import LaunchSpec
from offerd_slave.options import SlaveOptions
from offerd_slave.workdir import WorkDir

PATIENCE_S = 10.0


class Slow(Isolation):
    """Its `prepare` waits for `may_prepare`. If `error` is set, methods raise it."""

    name = "slow"
    blocking = True
    limits_containers = True

    def __init__(self, work_dir: Path) -> None:
        super().__init__(work_dir)
        self.may_prepare = threading.Semaphore(0)
        self.error: Exception | None = None
        self.specs: list[ContainerSpec] = []
        self.cancelled: list[ContainerID] = []
        self.failed: list[tuple[TaskID, int | None]] = []
        self.hit: Limitation | None = None
        self.may_verify = threading.Semaphore(0)
        self.verifying = threading.Event()
        self.updates: list[tuple[ContainerID, Resources]] = []

    def verify(self) -> list[str]:
        self.verifying.set()
        assert self.may_verify.acquire(timeout=PATIENCE_S)
        return []

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        self.updates.append((container_id, resources))
        if self.error is not None:
            raise self.error

    def why_failed(
        self, container_id: ContainerID, task_id: TaskID, exit_status: int | None
    ) -> Limitation | None:
        self.failed.append((task_id, exit_status))
        if self.error is not None:
            raise self.error
        return self.hit

    def cancel(self, container_id: ContainerID) -> None:
        self.cancelled.append(container_id)

    def prepare(self, spec: ContainerSpec, report: Report = report_to_nobody) -> Launch:
        self.specs.append(spec)
        if spec.container_id.startswith("slow"):
            assert self.may_prepare.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return Launch()


class NoZygote:
    """Remembers launches, and does nothing."""

    def __init__(self) -> None:
        self.launched: list[LaunchSpec] = []

    def launch(self, spec: LaunchSpec) -> None:
        self.launched.append(spec)


class NoEndpoint:
    def expect(self, container_id: ContainerID, token: str, uid: int, gid: int) -> None:
        pass

    def address(self, container_id: ContainerID) -> str:
        return f"ipc:///{container_id}"


class Bed:
    """A containerizer with its isolation module and its events."""

    def __init__(self, work_dir: Path) -> None:
        self.workdir = WorkDir(work_dir)
        self.isolation = Slow(work_dir)
        self.zygote = NoZygote()
        self.events: list[ev.Event] = []
        self.data = DataDirectory(work_dir / "data")
        parts: list[Any] = [self.isolation, self.zygote, NoEndpoint(), self.events.append, self.data]
        self.containerizer = Containerizer(SlaveOptions(work_dir=work_dir), self.workdir, *parts)

    def launch(self, name: str) -> ContainerID:
        container_id = ContainerID(name)
        self.containerizer.launch(act.LaunchContainer(container_id, FRAMEWORK, COMMAND, NOTHING), "S-1")
        return container_id

    def wait_for_events(self, kind: type[ev.Event], number: int = 1) -> list[Any]:
        """All events of this kind, as soon as there are `number` of them."""
        while len(found := [each for each in self.events if type(each) is kind]) < number:
            self.next_result()
        return found

    def next_result(self) -> None:
        assert select.select([self.containerizer.fd], [], [], PATIENCE_S)[0], self.events
        self.containerizer.results_ready()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path / "work")
    yield made
    made.isolation.may_prepare.release(100)
    if not made.containerizer._is_closed:
        made.containerizer.close()
    made.data.close()
    made.workdir.release()


def test_a_bug_in_a_module_fails_the_launch_and_is_logged(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    bed.isolation.error = KeyError("State")
    container_id = bed.launch("c")
    (failed,) = bed.wait_for_events(ev.LaunchFailed)
    assert failed.container_id == container_id
    assert "KeyError('State')" in failed.message
    assert "Traceback" in caplog.text


def test_a_launch_fails_if_no_thread_can_be_started(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        bed.launch("first")
    (failed,) = bed.wait_for_events(ev.LaunchFailed)
    assert "can start no more threads" in failed.message
    bed.launch("second")
    while not bed.zygote.launched:
        bed.next_result()


def test_a_quick_launch_does_not_wait_for_slow_ones(bed: Bed) -> None:
    for number in range(8):
        bed.launch(f"slow{number}")
    quick = bed.launch("quick")
    while not bed.zygote.launched:
        bed.next_result()
    assert [spec.container_id for spec in bed.zygote.launched] == [quick]
    words = [(each.container_id, each.message) for each in bed.wait_for_events(ev.ContainerPreparing, 10)]
    assert words == [*((f"slow{number}", None) for number in range(8)), (quick, None), (quick, "")]


def test_a_launch_for_an_unknown_user_fails_with_one_line_and_makes_nothing(bed: Bed) -> None:
    container_id, framework = ContainerID("c"), msgspec.structs.replace(FRAMEWORK, user="nobody-of-this-name")
    bed.containerizer.launch(act.LaunchContainer(container_id, framework, COMMAND, NOTHING), "S-1")
    (failed,) = bed.wait_for_events(ev.LaunchFailed)
    assert "user 'nobody-of-this-name' does not exist on this host" in failed.message
    assert not bed.workdir.container(container_id).exists()


def test_limits_are_raised_before_a_task_starts_even_if_a_thread_hangs(
    bed: Bed,
) -> None:
    """If the task started first, it would be killed at the old memory limit."""
    bed.containerizer.verify()
    assert bed.isolation.verifying.wait(PATIENCE_S)
    more = Resources.of(cpus=1, mem="64M")
    bed.containerizer.update(act.UpdateContainer(ContainerID("one"), more))
    assert bed.isolation.updates == [(ContainerID("one"), more)]
    bed.isolation.error = IsolationError("no such file")
    bed.containerizer.update(act.UpdateContainer(ContainerID("one"), more))
    bed.isolation.may_verify.release()
    assert [each.message for each in bed.events if type(each) is ev.IsolationFailed] == ["no such file"]


def test_an_executors_time_to_register_begins_when_its_container_is_made() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"))
    container_id = bench.container_id

    def pass_s(seconds: int) -> None:
        for _ in range(seconds // 5):
            bench.turn(5.0)
            bench.from_master(m.Ping())

    bench.event(ev.ContainerPreparing(container_id, None))
    pass_s(180)
    bench.event(ev.ContainerPreparing(container_id, "1 of 3 layers"))
    pass_s(180)
    assert not bench.asked_for(act.DestroyContainer)
    bench.event(ev.ContainerPreparing(container_id, ""))
    assert len(bench.statuses()) == 1, "the empty message is not reported"
    pass_s(55)
    assert not bench.asked_for(act.DestroyContainer)
    bench.turn(5.1)
    assert bench.asked_for(act.DestroyContainer)


def test_destroying_a_container_cancels_its_preparation(bed: Bed) -> None:
    container_id = bed.launch("slow")
    bed.containerizer.destroy(container_id, 1.0)
    assert bed.isolation.cancelled == [container_id]


def test_closing_waits_for_no_thread_and_drops_its_results(bed: Bed) -> None:
    container_id = bed.launch("slow")
    wait_until(lambda: bed.isolation.specs, "it to be prepared")
    preparing = [each for each in threading.enumerate() if each.name.startswith("prepare")]
    assert all(each.daemon for each in preparing)
    bed.containerizer.close()
    assert bed.isolation.cancelled == [container_id]
    bed.isolation.may_prepare.release()
    for each in preparing:
        each.join(PATIENCE_S)  # what it raised would fail the test
    assert bed.containerizer._results.empty()


def test_a_hit_limit_is_looked_up_at_once_even_if_a_thread_hangs(
    bed: Bed,
) -> None:
    """An error of the module is reported, and the task's end goes on without a limit."""
    bed.containerizer.verify()
    assert bed.isolation.verifying.wait(PATIENCE_S)
    container_id, task_id = ContainerID("c"), TaskID("a")
    question = act.InspectFailure(container_id, task_id, -9)
    hit = bed.isolation.hit = Limitation(container_id, "memory.max=1", "needed more", task_id)
    bed.containerizer.inspect_failure(question)
    bed.isolation.error = IsolationError("no such file")
    bed.containerizer.inspect_failure(question)
    bed.isolation.may_verify.release()
    assert bed.isolation.failed == 2 * [(task_id, -9)]
    assert bed.events == [
        ev.FailureInspected(container_id, task_id, hit),
        ev.IsolationFailed("no such file"),
        ev.FailureInspected(container_id, task_id, None),
    ]


def wait_for(event: threading.Event) -> None:
    event.wait(PATIENCE_S)


def test_hanging_work_does_not_delay_later_work_while_threads_are_left() -> None:
    """Hanging pulls take all threads but one; then comes a quick launch."""
    threads, may_end, done = _Threads(8, "test"), threading.Event(), threading.Event()
    for _ in range(20):  # whether a thread that begins finds its work at once is a race
        for _ in range(7):
            assert threads.submit(partial(wait_for, may_end))
        assert threads.submit(done.set)
        assert done.wait(PATIENCE_S)
        may_end.set()
        threads.close()
        threads, may_end, done = _Threads(8, "test"), threading.Event(), threading.Event()


def test_work_is_refused_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, done = _Threads(1, "test"), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not threads.submit(lambda: pytest.fail("it was refused"))
    assert threads.submit(done.set)
    assert done.wait(PATIENCE_S)
    threads.close()
