"""Containers of a module that may block: what its threads say and do not say, and what waits for what."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
from offerd_slave.settings import SlaveOptions
from offerd_slave.workdir import WorkDir

PATIENCE_S = 10.0


class Slow(Isolation):
    """Prepares nothing before it may; what is in `error` is raised then."""

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
    """Only remembers."""

    def __init__(self) -> None:
        self.launched: list[LaunchSpec] = []

    def launch(self, spec: LaunchSpec) -> None:
        self.launched.append(spec)


class NoEndpoint:
    def expect(self, container_id: ContainerID, token: str, uid: int, gid: int) -> None:
        pass

    def address(self, container_id: ContainerID) -> str:
        return f"ipc:///{container_id}"


class Hands:
    """A containerizer, the module below it and the events above it."""

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

    def hear(self, kind: type[ev.Event], number: int = 1) -> list[Any]:
        """Until so many of this kind have come: all of them."""
        while len(found := [each for each in self.events if type(each) is kind]) < number:
            self.next_result()
        return found

    def next_result(self) -> None:
        assert select.select([self.containerizer.fd], [], [], PATIENCE_S)[0], self.events
        self.containerizer.results_ready()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    made = Hands(tmp_path / "work")
    yield made
    made.isolation.may_prepare.release(100)
    if not made.containerizer._is_closed:
        made.containerizer.close()
    made.data.close()
    made.workdir.release()


def test_a_bug_of_a_module_is_a_failed_launch_and_a_log_line(
    hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    hands.isolation.error = KeyError("State")
    container_id = hands.launch("c")
    (failed,) = hands.hear(ev.LaunchFailed)
    assert failed.container_id == container_id
    assert "KeyError('State')" in failed.message
    assert "Traceback" in caplog.text


def test_a_thread_that_cannot_be_started_is_a_failed_launch(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        hands.launch("first")
    (failed,) = hands.hear(ev.LaunchFailed)
    assert "can start no more threads" in failed.message
    hands.launch("second")
    while not hands.zygote.launched:
        hands.next_result()


def test_who_is_quick_does_not_wait_for_those_that_are_slow(hands: Hands) -> None:
    for number in range(8):
        hands.launch(f"slow{number}")
    quick = hands.launch("quick")
    while not hands.zygote.launched:
        hands.next_result()
    assert [spec.container_id for spec in hands.zygote.launched] == [quick]
    words = [(each.container_id, each.message) for each in hands.hear(ev.ContainerPreparing, 10)]
    assert words == [*((f"slow{number}", None) for number in range(8)), (quick, None), (quick, "")]


def test_a_container_has_the_limits_of_a_task_before_it_starts_whatever_a_thread_waits_for(
    hands: Hands,
) -> None:
    """Started first, the task would be killed for the memory of those before it."""
    hands.containerizer.verify()
    assert hands.isolation.verifying.wait(PATIENCE_S)
    more = Resources.of(cpus=1, mem="64M")
    hands.containerizer.update(act.UpdateContainer(ContainerID("one"), more))
    assert hands.isolation.updates == [(ContainerID("one"), more)]
    hands.isolation.error = IsolationError("no such file")
    hands.containerizer.update(act.UpdateContainer(ContainerID("one"), more))
    hands.isolation.may_verify.release()
    assert [each.message for each in hands.events if type(each) is ev.IsolationFailed] == ["no such file"]


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
    assert len(bench.statuses()) == 1, "no word of what is only for the clock"
    pass_s(55)
    assert not bench.asked_for(act.DestroyContainer)
    bench.turn(5.1)
    assert bench.asked_for(act.DestroyContainer)


def test_what_is_to_be_destroyed_need_not_be_made(hands: Hands) -> None:
    container_id = hands.launch("slow")
    hands.containerizer.destroy(container_id, 1.0)
    assert hands.isolation.cancelled == [container_id]


def test_the_end_of_a_slave_waits_for_nothing_and_hears_nothing(hands: Hands) -> None:
    container_id = hands.launch("slow")
    wait_until(lambda: hands.isolation.specs, "it to be prepared")
    preparing = [each for each in threading.enumerate() if each.name.startswith("prepare")]
    assert all(each.daemon for each in preparing)
    hands.containerizer.close()
    assert hands.isolation.cancelled == [container_id]
    hands.isolation.may_prepare.release()
    for each in preparing:
        each.join(PATIENCE_S)  # what it raised would fail the test
    assert hands.containerizer._results.empty()


def test_a_module_is_asked_at_once_which_limit_a_task_had_hit_whatever_a_thread_waits_for(
    hands: Hands,
) -> None:
    """A module that cannot tell has people know, and the task's end goes its way."""
    hands.containerizer.verify()
    assert hands.isolation.verifying.wait(PATIENCE_S)
    container_id, task_id = ContainerID("c"), TaskID("a")
    question = act.InspectFailure(container_id, task_id, -9)
    hit = hands.isolation.hit = Limitation(container_id, "memory.max=1", "needed more", task_id)
    hands.containerizer.inspect_failure(question)
    hands.isolation.error = IsolationError("no such file")
    hands.containerizer.inspect_failure(question)
    hands.isolation.may_verify.release()
    assert hands.isolation.failed == 2 * [(task_id, -9)]
    assert hands.events == [
        ev.FailureInspected(container_id, task_id, hit),
        ev.IsolationFailed("no such file"),
        ev.FailureInspected(container_id, task_id, None),
    ]


def wait_for(event: threading.Event) -> None:
    event.wait(PATIENCE_S)


def test_what_is_asked_for_first_keeps_no_thread_from_what_comes_next() -> None:
    """As many silent pulls as there are threads but one, and then a launch that needs none of them."""
    threads, may_end, done = _Threads(8, "test"), threading.Event(), threading.Event()
    for _ in range(20):  # whether a thread that begins finds its work at once is a race
        for _ in range(7):
            assert threads.submit(partial(wait_for, may_end))
        assert threads.submit(done.set)
        assert done.wait(PATIENCE_S)
        may_end.set()
        threads.close()
        threads, may_end, done = _Threads(8, "test"), threading.Event(), threading.Event()


def test_work_that_gets_no_thread_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, done = _Threads(1, "test"), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not threads.submit(lambda: pytest.fail("it was given back"))
    assert threads.submit(done.set)
    assert done.wait(PATIENCE_S)
    threads.close()
