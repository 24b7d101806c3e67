"""The blocking driver against a fake master with real sockets."""

from __future__ import annotations

import gc
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from helpers.fake_master import FakeMaster, InstantCluster
from offerd.driver import Scheduler, SchedulerDriver
from offerd.drivers import driver_base
from offerd.errors import BadInput, FrameworkError, MessageTooLarge, OfferdError
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import (
    AcceptOffers,
    Acknowledge,
    DeclineOffers,
    Filters,
    FrameworkInfo,
    FrameworkMessage,
    FrameworkRefused,
    GetGuaranteedShare,
    GuaranteedShare,
    KillTask,
    NotRegistered,
    Offer,
    Reason,
    ReconcileTasks,
    RegisterFramework,
    ResourceOffers,
    ReviveOffers,
    SetFilters,
    SetNeedsOffers,
    SlaveLost,
    StatusUpdate,
    TaskInfo,
    TaskState,
    TaskStatus,
    TeardownFramework,
)
from offerd.operator_messages import ExplainWaiting, Waiting
from offerd.resources import Resources
from offerd.wire.codec import MAX_MESSAGE_BYTES

WAIT_S = 10.0
F = FrameworkID("F-1")
CPU = Resources.of(cpus=1)


class Recorder(Scheduler):
    """Puts every callback into a queue; `on` holds what else a callback does."""

    def __init__(self, **on: Callable[..., None]) -> None:
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.on = on

    def __getattribute__(self, name: str) -> Any:
        if name in Scheduler.__dict__ and not name.startswith("_"):

            def record(driver: SchedulerDriver, *arguments: Any) -> None:
                self.calls.put((name, *arguments))
                if name in self.on:
                    self.on[name](driver, *arguments)

            return record
        return super().__getattribute__(name)

    def expect(self, name: str) -> tuple[Any, ...]:
        """The arguments of the next callback of this name; others before it are skipped."""
        while True:
            called, *arguments = self.calls.get(timeout=WAIT_S)
            if called == name:
                return tuple(arguments)


def offer(number: int = 1) -> Offer:
    return Offer(OfferID(f"O-{number}"), SlaveID("S-1"), "host", Resources.of(cpus=4))


def task(name: str = "t", data: bytes = b"") -> TaskInfo:
    return TaskInfo(TaskID(name), CPU, ExecutorID("e"), data=data)


def finished(name: str = "t") -> StatusUpdate:
    return StatusUpdate(F, TaskStatus(TaskID(name), TaskState.FINISHED, 1, slave_id=SlaveID("S-1")))


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    with FakeMaster() as fake:
        yield fake


Start = Callable[[Scheduler], SchedulerDriver]


@pytest.fixture
def start(master: FakeMaster) -> Iterator[Start]:
    """Starts a driver, waits until it is registered, and stops it at the end."""
    started: list[SchedulerDriver] = []

    def start_driver(scheduler: Scheduler) -> SchedulerDriver:
        driver = SchedulerDriver(scheduler, FrameworkInfo("test"), master.address)
        driver.start()
        started.append(driver)
        assert driver.wait_registered(WAIT_S) == F
        return driver

    yield start_driver
    for driver in started:
        driver.abort()
        try:
            driver.join(WAIT_S)
        except Exception as error:  # marked: the test has looked at it already, or caused it
            logging.getLogger(__name__).info("ended by %r", error)


def test_settings_made_before_the_start_are_in_the_registration(master: FakeMaster) -> None:
    driver = SchedulerDriver(Recorder(), FrameworkInfo("test"), master.address)
    driver.set_needs_offers(False)
    driver.set_filters(Filters(minimum=CPU))
    driver.start()
    registration = master.expect(RegisterFramework)
    assert (registration.needs_offers, registration.filters) == (False, Filters(minimum=CPU))
    driver.abort()
    driver.join(WAIT_S)


def test_a_driver_registers_and_reports_it(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    assert scheduler.expect("registered") == (F, "M-1")
    assert driver.is_registered
    assert driver.framework_id == F
    assert master.expect(RegisterFramework).framework.name == "test"


def test_every_action_becomes_its_message(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())
    driver.set_needs_offers(True)
    assert master.expect(SetNeedsOffers) == SetNeedsOffers(True)
    driver.set_filters(Filters(minimum=CPU))
    assert master.expect(SetFilters) == SetFilters(Filters(minimum=CPU))
    driver.revive_offers()
    master.expect(ReviveOffers)
    driver.reply_to_offer(OfferID("O-1"), [task()], 2.5)
    assert master.expect(AcceptOffers) == AcceptOffers([OfferID("O-1")], [task()], 2.5)
    driver.reply_to_offer([OfferID("O-1"), OfferID("O-2")], [])
    assert master.expect(AcceptOffers) == AcceptOffers([OfferID("O-1"), OfferID("O-2")], [], 0.0)
    driver.kill_task(TaskID("t"), 1.5)
    assert master.expect(KillTask) == KillTask(F, TaskID("t"), grace_s=1.5)
    driver.reconcile_tasks([TaskID("t")])
    assert master.expect(ReconcileTasks) == ReconcileTasks([TaskID("t")])
    driver.reconcile_tasks()
    assert master.expect(ReconcileTasks) == ReconcileTasks([])
    driver.send_framework_message(SlaveID("S-1"), ExecutorID("e"), b"hi")
    assert master.expect(FrameworkMessage).data == b"hi"
    driver.stop()
    master.expect(TeardownFramework)
    assert driver.join(WAIT_S)


def test_an_open_offer_can_be_declined(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder(resource_offers=lambda driver, offers: driver.decline_offer(offers[0].offer_id, 3))
    start(scheduler)
    master.send(ResourceOffers([offer()]))
    assert master.expect(DeclineOffers) == DeclineOffers([OfferID("O-1")], 3)


def test_callbacks_run_in_one_thread_that_is_not_ours(master: FakeMaster, start: Start) -> None:
    threads: set[int] = set()
    scheduler = Recorder(
        registered=lambda *_: threads.add(threading.get_ident()),
        status_update=lambda *_: threads.add(threading.get_ident()),
    )
    driver = start(scheduler)
    master.send(finished())
    scheduler.expect("status_update")
    done: Future[int] = Future()
    driver.call_soon(lambda: done.set_result(threading.get_ident()))
    threads.add(done.result(WAIT_S))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_what_is_called_later_runs_in_the_order_of_its_time(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    ran: list[str] = []
    done: Future[int] = Future()
    begin = time.monotonic()
    driver.call_later(0.05, lambda: done.set_result(threading.get_ident()))
    driver.call_later(0.02, ran.append, "second")
    driver.call_later(0.0, ran.append, "first")
    assert done.result(WAIT_S) != threading.get_ident()
    assert time.monotonic() - begin >= 0.05
    assert ran == ["first", "second"]


def test_many_statuses_are_acknowledged_in_few_messages(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder()
    start(scheduler)
    for number in range(1000):
        master.send(finished(str(number)))
    for _ in range(1000):
        scheduler.expect("status_update")

    def acknowledged() -> int:
        return sum(len(message.updates) for message in master.received if isinstance(message, Acknowledge))

    master.wait_for(lambda: acknowledged() == 1000)
    assert master.count(Acknowledge) < 500


def test_an_action_from_another_thread_wakes_a_sleeping_driver(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())
    for number in range(200):
        driver.kill_task(TaskID(str(number)))
        assert master.expect(KillTask).task_id == str(number)


def test_actions_of_many_threads_all_arrive(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())

    def kill_many(first: int) -> None:
        for number in range(first, first + 500):
            driver.kill_task(TaskID(str(number)))

    threads = [threading.Thread(target=kill_many, args=(first,)) for first in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    master.wait_for(lambda: master.count(KillTask) == 2000)


def test_stop_for_a_successor_leaves_the_framework(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())
    driver.kill_task(TaskID("t"))
    driver.stop(failover=True)
    assert driver.join(WAIT_S)
    master.expect(KillTask)
    assert master.count(TeardownFramework) == 0


def test_abort_from_a_callback_ends_without_another_word(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder(status_update=lambda driver, status: driver.abort())
    driver = start(scheduler)
    for number in range(10):
        master.send(finished(str(number)))
    assert driver.join(WAIT_S)
    scheduler.expect("status_update")
    assert scheduler.calls.empty()
    assert master.count(Acknowledge) == 0
    assert master.count(TeardownFramework) == 0


def test_stop_from_a_callback_ends_after_it(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder(status_update=lambda driver, status: driver.stop()))
    master.send(finished())
    assert driver.join(WAIT_S)
    assert master.expect(Acknowledge).updates == [("t", 1)]
    master.expect(TeardownFramework)


@pytest.mark.parametrize("kind", [ZeroDivisionError, StopIteration])
def test_a_callback_that_raises_ends_the_driver_and_hides_nothing(
    master: FakeMaster, start: Start, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise kind("in a callback")

    scheduler = Recorder(status_update=fail)
    driver = start(scheduler)
    master.send(finished())
    assert scheduler.expect("error") == (driver_base.CALLBACK_RAISED, "in a callback")
    for _ in range(2):
        with pytest.raises(kind, match="in a callback"):
            driver.join(WAIT_S)
    assert "callback of Recorder raised" in caplog.text
    assert master.count(Acknowledge) == 0


def test_an_error_callback_that_raises_too_does_not_hide_the_first(
    master: FakeMaster, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("first")

    def fail_again(*_: object) -> None:
        raise KeyError("second")

    driver = start(Recorder(status_update=fail, error=fail_again))
    master.send(finished())
    with pytest.raises(ZeroDivisionError, match="first"):
        driver.join(WAIT_S)
    assert "second" in caplog.text


class Unspeakable(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


def test_a_callbacks_exception_without_a_text_is_reported(master: FakeMaster, start: Start) -> None:
    def fail(*_: object) -> None:
        raise Unspeakable

    scheduler = Recorder(status_update=fail)
    driver = start(scheduler)
    master.send(finished())
    with pytest.raises(Unspeakable):
        driver.join(WAIT_S)
    assert scheduler.expect("error") == (
        driver_base.CALLBACK_RAISED,
        "Unspeakable, whose text cannot be made",
    )


def test_a_refusal_ends_the_driver_with_its_reason(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    master.send(FrameworkRefused(Reason.FRAMEWORK_FAILED_OVER, "another scheduler took over"))
    with pytest.raises(FrameworkError, match="took over") as caught:
        driver.join(WAIT_S)
    assert caught.value.reason == Reason.FRAMEWORK_FAILED_OVER
    assert scheduler.expect("error") == (Reason.FRAMEWORK_FAILED_OVER, "another scheduler took over")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_no_master_is_one_line_with_the_address_and_what_to_do() -> None:
    port = free_port()
    scheduler = Recorder()
    driver = SchedulerDriver(scheduler, FrameworkInfo("x"), f"127.0.0.1:{port}", connect_timeout_s=0.1)
    with pytest.raises(OfferdError, match=f"127.0.0.1:{port}.*offerd local") as caught:
        driver.run()
    assert len(str(caught.value).splitlines()) == 1
    assert scheduler.expect("error")[0] == driver_base.MASTER_UNREACHABLE
    with pytest.raises(OfferdError):
        driver.wait_registered()


def test_the_master_is_taken_from_the_environment(
    master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERD_MASTER", master.address.removeprefix("tcp://"))
    driver = SchedulerDriver(Recorder(), FrameworkInfo("x"))
    driver.start()
    driver.wait_registered(WAIT_S)
    driver.stop()
    driver.join(WAIT_S)


def test_a_bad_address_is_bad_input_before_anything_starts() -> None:
    with pytest.raises(BadInput):
        SchedulerDriver(Recorder(), FrameworkInfo("x"), "host:port")


def test_a_driver_is_started_once_and_joined_only_after_that(master: FakeMaster, start: Start) -> None:
    with pytest.raises(OfferdError, match="not started"):
        SchedulerDriver(Recorder(), FrameworkInfo("x"), master.address).join()
    driver = start(Recorder())
    with pytest.raises(OfferdError, match="already"):
        driver.start()


def test_a_stopped_driver_that_never_registered_says_so() -> None:
    driver = SchedulerDriver(Recorder(), FrameworkInfo("x"), f"127.0.0.1:{free_port()}")
    driver.start()
    driver.abort()
    with pytest.raises(OfferdError, match="stopped before"):
        driver.wait_registered(WAIT_S)


def test_a_master_that_forgot_us_gets_a_new_registration_and_everything_goes_on(
    master: FakeMaster, start: Start
) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    driver.set_needs_offers(False)
    master.expect(SetNeedsOffers)
    master.send(NotRegistered())
    scheduler.expect("disconnected")
    assert scheduler.expect("reregistered") == ("M-1",)
    assert master.expect(RegisterFramework).framework.framework_id == F
    assert master.expect(SetNeedsOffers) == SetNeedsOffers(False)


def test_a_master_that_dies_is_reported_at_once_and_a_new_one_on_its_address_is_found(
    start: Start, master: FakeMaster
) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    master.send(ResourceOffers([offer()]))
    scheduler.expect("resource_offers")
    master.close()
    assert scheduler.expect("offer_rescinded") == ("O-1",)
    scheduler.expect("disconnected")
    with FakeMaster(master.address) as second:
        scheduler.expect("reregistered")
        assert second.expect(RegisterFramework).framework.framework_id == F
        assert second.count(RegisterFramework) == 1
        driver.abort()
        driver.join(WAIT_S)


# -- sizes --------------------------------------------------------------------------------------------------------------


def test_tasks_that_do_not_fit_raise_where_they_are_sent_and_nothing_goes_out(
    master: FakeMaster, start: Start
) -> None:
    driver = start(Recorder())
    large = task(data=b"\x00" * (MAX_MESSAGE_BYTES // 2))
    assert driver.fits_message([large])
    assert not driver.fits_message([large, large])
    with pytest.raises(MessageTooLarge, match="2 tasks"):
        driver.reply_to_offer(OfferID("O-1"), [large, large])
    driver.reply_to_offer(OfferID("O-2"), [large])
    assert master.expect(AcceptOffers).offer_ids == ["O-2"]
    with pytest.raises(MessageTooLarge):
        driver.send_framework_message(SlaveID("s"), ExecutorID("e"), b"\x00" * MAX_MESSAGE_BYTES)
    with pytest.raises(MessageTooLarge):
        driver.set_filters(Filters(slave_ids=[SlaveID("s" * 100)] * 20_000))


def test_an_order_that_no_message_can_hold_fails_its_own_tasks_and_no_others(
    master: FakeMaster, start: Start
) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    too_many = [OfferID(f"{number}{'o' * 100}") for number in range(20_000)]
    driver.reply_to_offer(too_many, [task("lost")])
    (status,) = scheduler.expect("status_update")
    assert (status.task_id, status.state, status.reason) == ("lost", TaskState.ERROR, Reason.TASK_INVALID)
    assert "AcceptOffers" in status.message
    driver.reply_to_offer(OfferID("O-2"), [task("t")])
    assert master.expect(AcceptOffers).offer_ids == ["O-2"]


# -- questions ----------------------------------------------------------------------------------------------------------


def test_the_guaranteed_share_is_asked_for_and_waited_for(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())
    share: Future[Resources] = driver.ask_guaranteed_share()
    master.expect(GetGuaranteedShare)
    master.send(GuaranteedShare(CPU))
    assert share.result(WAIT_S) == CPU
    with pytest.raises(OfferdError, match="no offerd master answers"):
        driver.get_guaranteed_share(timeout_s=0.01)


def test_why_nothing_comes_is_explained(master: FakeMaster, start: Start) -> None:
    driver = start(Recorder())
    answers = [driver.explain_waiting(CPU, 5.0), driver.explain_waiting(CPU)]
    assert master.expect(ExplainWaiting) == ExplainWaiting(F, CPU, 5.0)
    assert master.expect(ExplainWaiting) == ExplainWaiting(F, CPU, None)
    master.send(Waiting("no_slaves", "there are none"))
    master.send(Waiting("not_yet", "a moment"))
    assert [answer.result(WAIT_S).why for answer in answers] == ["no_slaves", "not_yet"]


def test_a_callback_cannot_wait_for_the_master(master: FakeMaster, start: Start) -> None:
    caught: queue.Queue[str] = queue.Queue()

    def wait(driver: SchedulerDriver, status: TaskStatus) -> None:
        try:
            driver.get_guaranteed_share()
        except OfferdError as error:
            caught.put(str(error))

    start(Recorder(status_update=wait))
    master.send(finished())
    assert "ask_guaranteed_share" in caught.get(timeout=WAIT_S)


def test_questions_without_a_master_fail_instead_of_hanging(master: FakeMaster, start: Start) -> None:
    scheduler = Recorder()
    driver = start(scheduler)
    open_question = driver.explain_waiting(CPU)
    master.expect(ExplainWaiting)
    master.answers_registration = False
    master.send(NotRegistered())
    scheduler.expect("disconnected")
    with pytest.raises(OfferdError, match="master is gone"):
        open_question.result(WAIT_S)
    with pytest.raises(OfferdError, match="not registered"):
        driver.explain_waiting(CPU).result(WAIT_S)
    driver.abort()
    driver.join(WAIT_S)
    with pytest.raises(OfferdError, match="has ended"):
        driver.explain_waiting(CPU).result(WAIT_S)


def test_drivers_leave_no_descriptor_and_no_thread_behind() -> None:
    def live_once() -> None:
        with InstantCluster(Resources.of(cpus=1)) as cluster:
            driver = SchedulerDriver(Scheduler(), FrameworkInfo("x"), cluster.address)
            driver.start()
            driver.wait_registered(WAIT_S)
            driver.stop()
            driver.join(WAIT_S)

    def held() -> tuple[int, int]:
        gc.collect()  # drivers of other tests, too
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    live_once()
    before = held()
    for _ in range(5):
        live_once()
    # What other tests have left may go meanwhile.
    assert all(now <= earlier for now, earlier in zip(held(), before, strict=True))


def test_a_message_that_cannot_be_handled_costs_the_registration_and_not_the_scheduler(
    master: FakeMaster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    driver = start(recorder)
    master.expect(RegisterFramework)
    driver.wait_registered(WAIT_S)

    def fail(message: object, now: float) -> None:
        monkeypatch.undo()
        raise KeyError("x")

    monkeypatch.setitem(driver._core._handlers, SlaveLost, fail)
    master.send(SlaveLost(SlaveID("s")))
    master.expect(RegisterFramework)
    assert driver._core.failed_messages == 1
    assert driver._thread is not None
    assert driver._thread.is_alive()
