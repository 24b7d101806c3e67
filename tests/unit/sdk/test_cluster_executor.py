"""`ClusterExecutor` against a master that ends every call as the test says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.fake_calls import SLAVE, WAIT_S, call_here, cluster, ends, finished, first, runs_on
from helpers.fake_master import FakeMaster, InstantCluster
from offerd import cluster_executor
from offerd.cluster_executor import ClusterExecutor, ClusterFuture, TaskTimeoutError
from offerd.errors import BadInput, FrameworkError, MessageTooLarge, OfferdError
from offerd.messages import (
    AcceptOffers,
    DeclineOffers,
    FrameworkRefused,
    KillTask,
    Reason,
    RegisterFramework,
    ReviveOffers,
    SetFilters,
    SetNeedsOffers,
    TaskInfo,
    TaskState,
    TaskStatus,
    TeardownFramework,
)
from offerd.python_calls import calls
from offerd.python_calls.call_queue import ACCEPT_BYTES
from offerd.python_calls.call_scheduler import PLACINGS
from offerd.resources import Resources
from offerd.task_errors import TaskError


def add(left: int, right: int = 0) -> int:
    return left + right


def fail(text: str) -> None:
    raise LookupError(text)


def resources_of(task: TaskInfo) -> dict[str, int]:
    return task.resources.scalars


def tasks_of(fake: FakeMaster) -> list[TaskInfo]:
    return [task for message in fake.received if isinstance(message, AcceptOffers) for task in message.tasks]


# -- calls and results --------------------------------------------------------------------------------------------------


def test_a_call_runs_and_its_result_comes_back() -> None:
    with cluster() as (fake, executor):
        assert executor.submit(add, 1, right=2).result(WAIT_S) == 3
        (task,) = tasks_of(fake)
        assert task.name == "add"
        assert task.executor_id == "python"
        assert task.resources == Resources.of(cpus=1, mem="128M")
        assert task.time_limit_s is None
        registration = fake.received[0]
        assert isinstance(registration, RegisterFramework)
        assert [info.module for info in registration.framework.executors] == ["offerd_executors.python"]


def test_an_exception_comes_back_with_the_workers_traceback() -> None:
    with cluster() as (_, executor):
        with pytest.raises(LookupError, match="not here") as caught:
            executor.submit(fail, "not here").result(WAIT_S)
        assert isinstance(caught.value.__cause__, calls.RemoteTraceback)
        assert "in fail" in str(caught.value.__cause__)


def test_keyword_arguments_are_the_functions_own() -> None:
    def echo(**kwargs: object) -> dict[str, object]:
        return kwargs

    with cluster() as (_, executor):
        assert executor.submit(echo, cpus=7, timeout="x").result(WAIT_S) == {"cpus": 7, "timeout": "x"}
        assert executor.submit_with(echo, kwargs={"mem": 1}, cpus=2).result(WAIT_S) == {"mem": 1}


def test_options_hold_for_one_call_or_one_view() -> None:
    with cluster(cpus=0.5, mem="64M", timeout=10) as (fake, executor):
        executor.submit_with(add, (1,), cpus=2, mem="1G", timeout=None, name="sum").result(WAIT_S)
        view = executor.options(cpus=3, resources="disk=1G")
        view.options(timeout=5, resources="", kill_grace_s=0.5).submit(add, 1).result(WAIT_S)
        executor.submit(add, 1).result(WAIT_S)
        one, two, three = tasks_of(fake)
        assert (resources_of(one), one.time_limit_s, one.name) == (
            {"cpus": 2000, "mem": 1 << 30},
            None,
            "sum",
        )
        assert (resources_of(two), two.time_limit_s, two.kill_grace_s) == (
            {"cpus": 3000, "mem": 64 << 20},
            5.0,
            0.5,
        )
        assert (resources_of(three), three.time_limit_s) == ({"cpus": 500, "mem": 64 << 20}, 10.0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"cpus": 0, "mem": 0}, "some resource"),
        ({"cpus": "two"}, "cpus=two"),
        ({"resources": "ports=[1-2]"}, "amounts only"),
    ],
)
def test_impossible_options_are_bad_input_at_once(options: dict[str, Any], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        ClusterExecutor("127.0.0.1:1", **options)
    with cluster() as (_, executor):
        with pytest.raises(BadInput, match=word):
            executor.submit_with(add, (1,), **options)
        with pytest.raises(BadInput, match=word):
            executor.options(**options)


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with cluster() as (_, executor), pytest.raises(TypeError, match="cpu; there are cpus"):
        executor.options(cpu=1)


def test_a_call_that_cannot_be_pickled_raises_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster() as (_, executor):
        with pytest.raises(TypeError):
            executor.submit(add, threading.Lock())
        monkeypatch.setattr(cluster_executor, "MAX_CALL_BYTES", ACCEPT_BYTES)
        with pytest.raises(MessageTooLarge, match="file"):
            executor.submit(len, b"\x00" * ACCEPT_BYTES)
        assert executor.submit(add, 1).result(WAIT_S) == 1


def test_an_invalid_result_is_an_error_of_that_call() -> None:
    outcome = first(1, lambda task: TaskStatus(task.task_id, TaskState.FINISHED, 1, data=b"\xff"))
    with cluster(outcome) as (_, executor):
        assert isinstance(executor.submit(add, 1).exception(WAIT_S), OfferdError)
        assert executor.submit(add, 1).result(WAIT_S) == 1


# -- what the cluster does to a call ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (TaskState.LOST, Reason.SLAVE_LOST),
        (TaskState.LOST, ""),
        (TaskState.FAILED, Reason.EXECUTOR_EXITED),
        (TaskState.KILLED, Reason.SLAVE_DRAINING),
        (TaskState.ERROR, Reason.OFFER_EXCEEDED),
    ],
)
def test_a_call_that_the_cluster_lost_is_tried_again_under_another_task_id(
    state: TaskState, reason: str
) -> None:
    with cluster(first(2, ends(state, reason))) as (fake, executor):
        assert executor.submit(add, 1, 1).result(WAIT_S) == 2
        assert len({task.task_id for task in tasks_of(fake)}) == 3


def test_retries_are_bounded_and_then_say_why() -> None:
    with cluster(ends(TaskState.LOST, Reason.SLAVE_LOST), retries=2) as (fake, executor):
        with pytest.raises(TaskError, match="because") as caught:
            executor.submit(add, 1).result(WAIT_S)
        assert caught.value.status.reason == Reason.SLAVE_LOST
        assert fake.launched == 3


def test_missed_offers_are_not_counted_as_tries_but_are_bounded_too() -> None:
    with cluster(first(10, ends(TaskState.LOST, Reason.OFFER_INVALID)), retries=0) as (_, executor):
        assert executor.submit(add, 1).result(WAIT_S) == 1
    with cluster(ends(TaskState.LOST, Reason.OFFER_INVALID)) as (fake, executor):
        executor.submit(add, 1)
        fake.wait_for(lambda: fake.launched > PLACINGS)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (TaskState.FAILED, Reason.WORKER_DIED),
        (TaskState.KILLED, Reason.KILLED_BY_FRAMEWORK),
        (TaskState.ERROR, Reason.TASK_INVALID),
    ],
)
def test_a_call_that_failed_by_itself_is_not_tried_again(state: TaskState, reason: Reason) -> None:
    with cluster(ends(state, reason)) as (fake, executor):
        with pytest.raises(TaskError):
            executor.submit(add, 1).result(WAIT_S)
        assert fake.launched == 1


def test_a_call_over_its_time_is_a_timeout_error() -> None:
    with cluster(ends(TaskState.KILLED, Reason.TASK_TIMEOUT)) as (_, executor):
        error = executor.submit(add, 1).exception(WAIT_S)
        assert isinstance(error, TimeoutError)
        assert isinstance(error, TaskTimeoutError)
        assert "because" in str(error)


# -- cancelling ---------------------------------------------------------------------------------------------------------


def test_a_running_call_that_is_cancelled_is_killed() -> None:
    with cluster(runs_on) as (fake, executor):
        future = executor.submit(add, 1)
        fake.expect(AcceptOffers)
        fake.wait_for(lambda: future.running())
        assert future.cancel()
        assert fake.expect(KillTask).task_id == future.task_id
        assert future.cancelled()
        assert future.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
        assert fake.count(KillTask) == 1
        assert concurrent.futures.wait([future], WAIT_S).done == {future}


def test_a_waiting_call_that_is_cancelled_never_runs() -> None:
    with cluster(runs_on, cpus=4) as (fake, executor):
        running = executor.submit(add, 1)
        fake.expect(AcceptOffers)
        waiting, last = executor.submit(add, 2), executor.submit(add, 3)
        assert not waiting.running()
        assert waiting.cancel()
        fake.outcome = call_here
        running.cancel()
        assert last.result(WAIT_S) == 3
        assert len(tasks_of(fake)) == 2


def test_a_finished_call_cannot_be_cancelled() -> None:
    with cluster() as (_, executor):
        future = executor.submit(add, 1)
        assert future.result(WAIT_S) == 1
        assert not future.cancel()
        assert not future.running()


def test_many_threads_may_cancel_one_call() -> None:
    with cluster(runs_on) as (fake, executor):
        future = executor.submit(add, 1)
        fake.expect(AcceptOffers)
        threads = [threading.Thread(target=future.cancel) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert future.cancelled()


def test_an_asyncio_caller_may_await_and_cancel() -> None:
    async def use(executor: ClusterExecutor) -> int:
        return await asyncio.get_running_loop().run_in_executor(executor, add, 2, 3)

    with cluster() as (_, executor):
        assert asyncio.run(use(executor)) == 5


# -- map ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_gives_the_results_in_order(chunksize: int) -> None:
    with cluster(slaves=2) as (fake, executor):
        numbers = range(10)
        assert list(executor.map(add, numbers, numbers, chunksize=chunksize)) == [
            2 * number for number in numbers
        ]
        assert fake.launched == -(-10 // chunksize)
        assert {task.name for task in tasks_of(fake)} == {"add"}


def test_map_reads_no_further_ahead_than_its_buffer() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    with cluster() as (_, executor):
        results = executor.map(add, numbers(), buffersize=5)
        assert len(read) == 5
        assert list(itertools.islice(results, 20)) == list(range(20))
        assert len(read) <= 26


def test_map_that_is_left_early_cancels_the_rest() -> None:
    with cluster(first(1, call_here, runs_on), cpus=0.1) as (fake, executor):
        results = executor.map(add, range(10))
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        fake.wait_for(lambda: fake.count(KillTask) + fake.launched >= 10 and not fake.running)


def test_map_raises_what_a_call_raised_and_stops_there() -> None:
    with cluster() as (_, executor):
        results = executor.map(fail, ["a", "b"])
        with pytest.raises(LookupError, match="a"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_map_gives_up_waiting_after_its_timeout() -> None:
    with cluster(runs_on) as (_, executor), pytest.raises(TimeoutError):
        list(executor.map(add, range(3), timeout=0.05))


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"buffersize": 0}])
def test_map_refuses_sizes_below_one(wrong: dict[str, int]) -> None:
    with cluster() as (_, executor), pytest.raises(ValueError, match="1 or more"):
        executor.map(add, [1], **wrong)


# -- manners towards the cluster ----------------------------------------------------------------------------------------


def test_without_calls_no_offer_is_wanted_or_held() -> None:
    with cluster() as (fake, executor):
        assert fake.expect(SetNeedsOffers) == SetNeedsOffers(False)
        executor.submit(add, 1).result(WAIT_S)
        fake.wait_for(lambda: not fake.needs_offers and not fake.free_offers())
        wanted = [message.needs_offers for message in fake.received if isinstance(message, SetNeedsOffers)]
        assert wanted[:3] == [False, True, False]
        assert wanted[-1] is False


def test_few_calls_spread_over_the_slaves() -> None:
    with cluster(runs_on, slaves=4, resources=Resources.of(cpus=64, mem="64G")) as (fake, executor):
        futures = [executor.submit(add, number) for number in range(8)]
        fake.wait_for(lambda: fake.launched == 8)
        by_slave = [slave for slave, _ in fake.running.values()]
        assert max(map(by_slave.count, by_slave)) <= 4
        for future in futures:
            future.cancel()


def test_a_useless_offer_is_declined_and_smaller_ones_are_filtered() -> None:
    with cluster(cpus=8) as (fake, executor):
        large = executor.submit(add, 1)
        assert fake.expect(DeclineOffers).refuse_seconds == 0
        assert fake.expect(SetFilters).filters.minimum == Resources.of(cpus=8, mem="128M")
        small = executor.submit_with(add, (2,), cpus=1, mem="64M")
        assert fake.expect(SetFilters).filters.minimum == Resources.of(cpus=1, mem="64M")
        fake.expect(ReviveOffers)
        assert small.result(WAIT_S) == 2
        assert not large.done()
        large.cancel()


def test_long_calls_take_only_their_part_of_an_offer() -> None:
    half = {"cpus": 2000, "mem": 2 << 30}
    with cluster(runs_on, long_quantities=half, timeout=None) as (fake, executor):
        long = [executor.submit(add, number) for number in range(4)]
        fake.wait_for(lambda: fake.launched >= 2)
        fake.long_quantities = {"cpus": 0, "mem": 0}
        short = executor.submit_with(add, (1,), timeout=5)
        fake.wait_for(lambda: bool(tasks_of(fake)))
        for future in (*long, short):
            future.cancel()
        assert all(
            sum(task.time_limit_s is None for task in message.tasks) <= 2
            for message in fake.received
            if isinstance(message, AcceptOffers)
        )


def test_large_arguments_are_divided_among_several_accepts() -> None:
    with cluster(cpus=0.01, mem="1M") as (fake, executor):
        data = b"\x00" * 200_000
        assert [future.result(WAIT_S) for future in [executor.submit(len, data) for _ in range(10)]] == [
            200_000
        ] * 10
        for message in fake.received:
            if isinstance(message, AcceptOffers):
                assert sum(len(task.data) for task in message.tasks) <= ACCEPT_BYTES


# -- beginning and end --------------------------------------------------------------------------------------------------


def test_no_master_is_one_clear_error() -> None:
    with pytest.raises(OfferdError, match="no offerd master answers"):
        ClusterExecutor("127.0.0.1:1", connect_timeout_s=0.05)


def test_shutdown_waits_for_the_calls_and_ends_the_framework() -> None:
    with cluster() as (fake, executor):
        futures = [executor.submit(add, number) for number in range(100)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        fake.expect(TeardownFramework)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(add, 1)
        executor.shutdown()


def test_shutdown_can_drop_what_has_not_started() -> None:
    with cluster(runs_on, cpus=4) as (fake, executor):
        running = executor.submit(add, 1)
        fake.expect(AcceptOffers)
        waiting = [executor.submit(add, number) for number in range(5)]
        executor.shutdown(wait=False, cancel_futures=True)
        assert concurrent.futures.wait(waiting, WAIT_S).not_done == set()
        assert all(future.cancelled() for future in waiting)
        assert not running.done()
        fake.end(call_here(fake.running[running.task_id][1]))
        assert running.result(WAIT_S) == 1
        fake.expect(TeardownFramework)


def test_when_the_master_ends_the_framework_every_call_gets_the_error() -> None:
    with cluster(runs_on, cpus=4) as (fake, executor):
        futures: list[ClusterFuture[int]] = [executor.submit(add, number) for number in range(3)]
        fake.expect(AcceptOffers)
        fake.send(FrameworkRefused(Reason.FRAMEWORK_REMOVED, "the operator said so"), fake.framework_peer)
        for future in futures:
            with pytest.raises(FrameworkError, match="operator"):
                future.result(WAIT_S)
        with pytest.raises(FrameworkError, match="operator"):
            executor.submit(add, 1)


SCRIPT = """
import sys
from offerd import ClusterExecutor
executor = ClusterExecutor(sys.argv[1])
executor.submit(print, "x")
{}
"""


@pytest.mark.parametrize("forgotten", ["", "del executor"])
def test_an_executor_that_is_forgotten_still_makes_its_calls(forgotten: str) -> None:
    with InstantCluster(SLAVE, outcome=quiet) as fake:
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(forgotten), fake.address],
            check=True,
            timeout=30,
            capture_output=True,
        )
        assert fake.launched == 1
        fake.expect(TeardownFramework)


def quiet(task: TaskInfo) -> TaskStatus:
    return finished(task, calls.Inline(calls.pickle_value(None)))


def test_callbacks_of_futures_may_use_the_executor() -> None:
    done: concurrent.futures.Future[int] = concurrent.futures.Future()

    def chain(executor: ClusterExecutor) -> Callable[[concurrent.futures.Future[int]], None]:
        def submit_next(future: concurrent.futures.Future[int]) -> None:
            if future.result() >= 5:
                done.set_result(future.result())
            else:
                executor.submit(add, future.result(), 1).add_done_callback(submit_next)

        return submit_next

    with cluster() as (_, executor):
        executor.submit(add, 0, 1).add_done_callback(chain(executor))
        assert done.result(WAIT_S) == 5
