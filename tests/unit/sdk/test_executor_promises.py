"""What `concurrent.futures` promises, for calls that are tasks: none is forgotten, and every future, wait and thread ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from helpers.fake_calls import SLAVE, WAIT_S, call_here, cluster, finished, runs_on
from helpers.fake_master import InstantCluster
from offerd import cluster_executor
from offerd.cluster_executor import BrokenClusterExecutor, ClusterExecutor
from offerd.errors import BadInput, MessageTooLarge, OfferdError
from offerd.ids import ExecutorID, FrameworkID, SlaveID
from offerd.messages import (
    FrameworkMessage,
    KillTask,
    Reason,
    RegisterFramework,
    TaskInfo,
    TaskState,
    TaskStatus,
    TeardownFramework,
)
from offerd.operator_messages import ExplainWaiting, Waiting
from offerd.python_calls import call_scheduler, calls, large_calls
from offerd.resources import Resources


def leave(future: concurrent.futures.Future[Any]) -> None:
    sys.exit(3)


def test_map_makes_every_call_though_nobody_reads_the_results() -> None:
    with InstantCluster(SLAVE, outcome=call_here, keeps=False) as fake:
        with ClusterExecutor(fake.address, cpus=0.01, mem="1M") as executor:
            results = executor.map(abs, range(10_050))
        assert fake.launched == 10_050
        assert list(results) == list(range(10_050))


def test_map_with_a_buffer_says_after_shutdown_that_it_makes_no_more_calls() -> None:
    with cluster() as (_, executor):
        results = executor.map(abs, itertools.count(), buffersize=3)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            list(results)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_keeps_no_result_that_was_read(chunksize: int) -> None:
    with cluster() as (_, executor):
        results: Iterator[set[int]] = executor.map(set, [[1], [2], [3]], chunksize=chunksize)
        for result in results:
            held = weakref.ref(result)
            del result
            assert held() is None


def test_a_view_keeps_the_executor_alive() -> None:
    with InstantCluster(SLAVE, outcome=call_here) as fake:
        assert ClusterExecutor(fake.address).options(timeout=5).submit(abs, -1).result(WAIT_S) == 1
        view = ClusterExecutor(fake.address).options(timeout=5).options(cpus=2)
        gc.collect()
        assert view.submit(abs, -2).result(WAIT_S) == 2
        assert list(view.map(abs, [-3])) == [3]


def test_a_callback_that_exits_ends_neither_the_other_callbacks_nor_the_executor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[int] = []
    with cluster(lambda task: None) as (fake, executor):
        future = executor.submit(abs, -1)
        future.add_done_callback(leave)
        future.add_done_callback(lambda done: heard.append(done.result()))
        fake.wait_for(lambda: future.task_id in fake.running)
        fake.end(finished(fake.running[future.task_id][1], calls.Inline(calls.pickle_value(1))))
        assert future.result(WAIT_S) == 1
        fake.outcome = call_here
        assert executor.submit(abs, -2).result(WAIT_S) == 2
        assert heard == [1]
        assert "a callback of a future raised SystemExit" in caplog.text


def test_cancelling_a_call_whose_callback_exits_kills_its_task() -> None:
    with cluster(runs_on) as (fake, executor):
        future = executor.submit(abs, -1)
        future.add_done_callback(leave)
        fake.wait_for(lambda: future.task_id in fake.running)
        with pytest.raises(SystemExit):  # in the main thread it is the caller's own
            future.cancel()
        assert fake.expect(KillTask).task_id == future.task_id
        assert concurrent.futures.wait([future], WAIT_S).done == {future}


class Leaves:
    """Ends the thread that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (3,)


def test_a_result_that_exits_when_it_is_unpickled_is_an_error_of_that_call() -> None:
    def leaves(task: TaskInfo) -> TaskStatus:
        return finished(task, calls.Inline(calls.pickle_value(Leaves())))

    with cluster(leaves) as (fake, executor):
        error = executor.submit(abs, -1).exception(WAIT_S)
        assert "cannot be unpickled" in str(error)
        assert isinstance(error.__cause__, SystemExit)  # type: ignore[union-attr]
        fake.outcome = call_here
        assert executor.submit(abs, -2).result(WAIT_S) == 2


def test_whatever_ends_the_thread_that_runs_everything_reaches_each_future_and_the_main_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("no more")

    with InstantCluster(SLAVE) as fake:
        executor = ClusterExecutor(fake.address)
        monkeypatch.setattr(executor._scheduler, "resource_offers", fail)
        future = executor.submit(abs, -1)
        with pytest.raises(OfferdError, match="no more"):
            future.result(WAIT_S)
        with pytest.raises(MemoryError):
            executor.shutdown()


def test_names_that_no_message_can_hold_are_made_printable() -> None:
    def far() -> None:
        pass

    far.__name__ = "caf\udce9" + "e" * 5000
    with cluster(lambda task: TaskStatus(task.task_id, TaskState.FINISHED, 1), name="caf\udce9") as (
        fake,
        executor,
    ):
        executor.submit(far).exception(WAIT_S)
        registration = fake.expect(RegisterFramework)
        assert registration.framework.name == "caf\\udce9"


def test_an_exception_whose_text_is_not_utf_8_comes_back_with_its_traceback() -> None:
    def fail() -> None:
        raise ValueError("caf\udce9")

    def call_as_a_worker_does(task: TaskInfo) -> TaskStatus:
        status = call_here(task)
        assert status.data
        return status

    with cluster(call_as_a_worker_does) as (_, executor):
        error = executor.submit(fail).exception(WAIT_S)
        assert error is not None
        assert error.args == ("caf\udce9",)
        assert "ValueError: caf\\udce9" in str(error.__cause__)


@pytest.mark.parametrize("slaves", [1, 3])
def test_no_more_than_max_workers_calls_are_on_the_cluster_at_one_time(slaves: int) -> None:
    with cluster(runs_on, slaves=slaves, cpus=0.1, max_workers=3) as (fake, executor):
        futures = [executor.submit(abs, -number) for number in range(20)]
        for number in range(20):
            due = min(number + 3, 20)
            fake.wait_for(lambda due=due: fake.launched == due)  # type: ignore[misc]
            assert len(fake.running) <= 3
            (_, task) = next(iter(fake.running.values()))
            fake.end(call_here(task))
        assert [future.result(WAIT_S) for future in futures] == list(range(20))
        fake.wait_for(lambda: not fake.free_offers())


def test_with_as_many_calls_as_may_be_on_the_cluster_no_offer_is_held_or_wanted() -> None:
    with cluster(runs_on, slaves=2, cpus=0.1, max_workers=1) as (fake, executor):
        first, second = executor.submit(abs, -1), executor.submit(abs, -2)
        fake.wait_for(lambda: fake.launched == 1 and not fake.needs_offers and not fake.free_offers())
        first.cancel()
        fake.wait_for(lambda: fake.launched == 2)
        second.cancel()


class Unspeakable(ValueError):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


@pytest.mark.parametrize("cause", [ValueError, Unspeakable])
def test_an_initializer_that_raises_is_the_end_of_every_call(cause: type[ValueError]) -> None:
    def fails(task: TaskInfo) -> TaskStatus:
        raised = calls.raised(cause("no database"))
        data = calls.pack_result(
            calls.NotReady(raised.pickled, raised.traceback), calls.unpack_call(task.data).key
        )
        return TaskStatus(task.task_id, TaskState.FAILED, 1, Reason.CALL_RAISED, data=data)

    with cluster(runs_on, cpus=1, initializer=print) as (fake, executor):
        registration = fake.expect(RegisterFramework)
        assert calls.unpack_call(registration.framework.executors[0].data).function
        futures = [executor.submit(abs, -number) for number in range(9)]
        fake.wait_for(lambda: fake.launched == 4)
        fake.end(fails(next(iter(fake.running.values()))[1]))
        for future in futures:
            error = future.exception(WAIT_S)
            assert isinstance(error, BrokenClusterExecutor)
            assert type(error.__cause__) is cause
        with pytest.raises(concurrent.futures.BrokenExecutor):
            executor.submit(abs, -1)
        fake.expect(TeardownFramework)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"master": 5}, TypeError, "max_workers=5"),
        ({"max_workers": 0}, ValueError, "greater than 0"),
        ({"initializer": 5}, TypeError, "callable"),
        ({"initializer": len, "initargs": (threading.Lock(),)}, TypeError, "pickle"),
        ({"initializer": len, "initargs": ("x" * 200_000,)}, MessageTooLarge, "file"),
    ],
)
def test_impossible_arguments_raise_before_anything_is_started(
    wrong: dict[str, Any], kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_executor, "MAX_CALL_BYTES", 100_000)
    with pytest.raises(kind, match=words):
        ClusterExecutor(**{"master": "127.0.0.1:1", **wrong})


def test_calls_have_no_time_limit_unless_they_are_given_one() -> None:
    with cluster(runs_on) as (fake, executor):
        futures = [executor.submit(abs, -1), executor.submit_with(abs, (-1,), timeout=5)]
        fake.wait_for(lambda: fake.launched == 2)
        assert [task.time_limit_s for _, task in fake.running.values()] == [None, 5.0]
        for future in futures:
            future.cancel()


def test_if_calls_wait_and_none_runs_the_masters_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_scheduler, "EXPLAIN_AFTER_S", 0.05)
    answer = Waiting("long_task_cap", "half of each slave is for short tasks", 60.0)
    with cluster(cpus=8) as (fake, executor), contextlib.ExitStack() as at_end:
        at_end.callback(executor.submit(abs, -1).cancel)
        for _ in range(2):
            question = fake.expect(ExplainWaiting)
            assert (question.wanted, question.time_limit_s) == (Resources.of(cpus=8, mem="128M"), None)
            fake.send(answer, fake.framework_peer)
        fake.expect(ExplainWaiting)
    said = [record.getMessage() for record in caplog.records if "wait" in record.getMessage()]
    assert said == [
        "a call waits: half of each slave is for short tasks; timeout=60, or less, would end this wait"
    ]


def test_a_call_too_large_for_a_message_fails_and_no_other() -> None:
    with cluster() as (_, executor):
        calls = [executor.submit(abs, -1), executor.submit_with(abs, (-2,), timeout=2e9)]
        calls.append(executor.submit(abs, -3))
        assert [calls[number].result(WAIT_S) for number in (0, 2)] == [1, 3]
        with pytest.raises(BadInput, match="time_limit_s: Expected"):
            calls[1].result(WAIT_S)


def test_a_call_too_large_for_a_message_is_given_in_pieces_to_the_slave_that_runs_it_and_to_no_other() -> (
    None
):
    argument = b"x" * 2_000_000
    with cluster(runs_on) as (fake, executor):
        future = executor.submit(len, argument)
        fake.wait_for(lambda: future.task_id in fake.running)
        slave_id, task = fake.running[future.task_id]
        size_bytes = large_calls.size_in(task.data)
        assert size_bytes is not None

        def ask(slave_id: SlaveID, offset: int) -> None:
            question = large_calls.ask(future.task_id, offset, large_calls.PIECE_BYTES)
            said = FrameworkMessage(FrameworkID("F-1"), slave_id, ExecutorID("python"), question)
            fake.send(said, fake.framework_peer)

        ask(SlaveID("S-9"), 0)
        whole = b""
        while len(whole) < size_bytes:
            ask(slave_id, len(whole))
            answer = fake.expect(FrameworkMessage)
            assert answer.slave_id == slave_id
            piece = large_calls.piece_in(answer.data)
            assert piece is not None
            assert piece.offset == len(whole)
            whole += piece.data
        fake.end(call_here(msgspec.structs.replace(task, data=whole)))
        assert future.result(WAIT_S) == len(argument)
        assert fake.count(FrameworkMessage) == -(-size_bytes // large_calls.PIECE_BYTES)


def test_an_executor_that_is_over_leaves_nothing_in_memory() -> None:
    with cluster() as (_, executor):
        assert executor.submit(abs, -1).result(WAIT_S) == 1
        driver = weakref.ref(executor._driver)
    del executor
    gc.collect()
    assert driver() is None
