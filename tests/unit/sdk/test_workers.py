"""Threads for waiting work, on a host that starts no more threads."""

from __future__ import annotations

import threading

import pytest

from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import OfferdError
from offerd.messages import FrameworkInfo
from offerd.operator import OperatorClient
from offerd.workers import NoThread, Workers, check_threads

WAIT_S = 10.0


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_work_is_done_and_its_errors_are_the_futures() -> None:
    with Workers(2, "test") as workers:
        done = [workers.submit(divmod, 7, number) for number in (2, 0, 5)]
    assert (done[0].result(), done[2].result()) == ((3, 1), (1, 2))
    assert isinstance(done[1].exception(), ZeroDivisionError)
    with pytest.raises(RuntimeError):
        workers.submit(int)


def test_if_no_thread_can_be_started_the_work_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with Workers(2, "fetching") as workers:
        future = workers.submit(int)
    with pytest.raises(NoThread, match="for fetching"):
        future.result()


def test_if_no_further_thread_can_be_started_the_others_do_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Workers(2, "test") as workers:
        assert workers.submit(int).result(WAIT_S) == 0
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        assert [workers.submit(int, text).result(WAIT_S) for text in "123"] == [1, 2, 3]


def test_it_is_known_beforehand_that_zeromq_would_get_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    check_threads("the connection")
    assert threading.active_count() == before
    start, left = threading.Thread.start, [1]

    def one_more(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_more)
    with pytest.raises(NoThread, match="for the connection: raise the limit on processes"):
        check_threads("the connection")
    assert threading.active_count() == before
    with pytest.raises(NoThread):
        OperatorClient("127.0.0.1:1")


def test_a_thread_that_cannot_be_started_is_said_where_the_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SchedulerDriver(Scheduler(), FrameworkInfo("x"), "127.0.0.1:1")
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(NoThread, match="no thread can be started for the driver"):
        driver.start()
    with pytest.raises(OfferdError, match="was not started"):
        driver.join()


def test_what_has_not_begun_can_be_cancelled() -> None:
    begun, gate = threading.Event(), threading.Event()
    workers = Workers(1, "test")

    def wait() -> bool:
        begun.set()
        return gate.wait(WAIT_S)

    first = workers.submit(wait)
    assert begun.wait(WAIT_S)
    second = workers.submit(int)
    workers.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    gate.set()
    assert first.result(WAIT_S)
