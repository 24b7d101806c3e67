"""The blocking scheduler driver: one background thread that polls the master's socket and calls the scheduler.

Orders may be called from any thread, callbacks included: they are queued, and the loop is woken only if it sleeps.

A framework author writes a `Scheduler`, and a driver calls its callbacks: those of Table 1 of the paper (Mesos, NSDI 2011) in
snake case, and the others that users of Mesos expect. All of them do nothing unless overridden. A driver makes one call at a
time, so a scheduler needs no locks of its own. While a callback runs, nothing else reaches the framework: a callback should be
quick and never wait.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import zmq

from offerd.core.scheduler_core import Action
from offerd.core.timers import Timers
from offerd.drivers.callbacks import check_callbacks, returned_nothing
from offerd.drivers.driver_base import CONNECT_TIMEOUT_S, DriverBase, Steps
from offerd.drivers.orders import Order
from offerd.errors import OfferdError
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
from offerd.masters.clusters import Where
from offerd.masters.leader import unreachable
from offerd.messages import FrameworkInfo, GuaranteedShare, Offer, TaskStatus
from offerd.operator_messages import Waiting
from offerd.resources import Resources
from offerd.wire.pacing import Pacer
from offerd.wire.transport import new_context
from offerd.workers import NoThread, check_threads, start_thread

log = logging.getLogger("offerd.driver")

MAX_WAIT_S = 3600.0
"""Longest wait in the kernel, which counts milliseconds in 31 bits."""


class Scheduler:
    """Decides which offers to take and what to run on them. Subclass it, and give one to a `SchedulerDriver`.

        class Echo(Scheduler):
            def resource_offers(self, driver, offers):
                for offer in offers:
                    driver.reply_to_offer(offer.offer_id, [TaskInfo(...)])

            def status_update(self, driver, status):
                if status.state.terminal:
                    driver.stop()

    The driver calls one callback at a time, so a scheduler needs no locks. A callback should be quick: while it runs, nothing
    else reaches the framework. One that raises ends the driver: the error is logged, `error` is called, and `driver.join()`
    raises it again. Callbacks that are not overridden do nothing.
    """

    # -- the paper's callbacks ----------------------------------------------------------------------------------------

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        """Free resources, each offer those of one slave. Answer every offer with `driver.reply_to_offer` or
        `driver.decline_offer`: it counts as held by the framework, and is rescinded if it is not answered (after 30 s by
        default).

        Take only what there is work for now: a framework that holds less is offered more.
        """

    def offer_rescinded(self, driver: SchedulerDriver, offer_id: OfferID) -> None:
        """The master has taken back an offer that was not answered. Tasks sent for it would be lost (`OFFER_INVALID`)."""

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        """A task is in another state. Each task has exactly one status with `status.state.terminal`, its last one.

        The status is acknowledged when this returns. If the process dies before, the next scheduler is sent it again. A
        `RUNNING` may be left out if the task ended right after it.
        """

    def slave_lost(self, driver: SchedulerDriver, slave_id: SlaveID) -> None:
        """A slave is gone. Its offers were rescinded before. Each of its tasks has a status: `LOST`, or `UNREACHABLE` if the
        framework has an `unreachable_timeout_s`.
        """

    def revocation_notice(self, driver: SchedulerDriver, task_ids: list[str], grace_s: float) -> None:
        """Another framework is below its guarantee, and this one holds more than its own. Within `grace_s` seconds end any
        tasks that hold as much as these do. What is still missing then is taken by killing some of these: they end `KILLED`
        with reason `REVOKED`.
        """

    # -- other callbacks ----------------------------------------------------------------------------------------------

    def registered(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """The master knows this framework now. Keep `framework_id` if another scheduler is to take over its tasks later."""

    def reregistered(self, driver: SchedulerDriver, master_id: str) -> None:
        """A master is back after `disconnected`, the same one or a new one. The driver has sent filters and `set_needs_offers`
        again, and reconciles tasks whose state is in doubt. Earlier offers were rescinded.
        """

    def standing_by(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """Another scheduler of this framework is active. When it is this one's turn, `registered` is called (`reregistered` if
        this one was active before); `driver.reconcile_tasks()` then asks what runs.
        """

    def disconnected(self, driver: SchedulerDriver) -> None:
        """The master is silent. Tasks go on, all offers have been rescinded, and the driver keeps trying to connect."""

    def executor_lost(
        self,
        driver: SchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> None:
        """An executor of this framework ended. `exit_status` is its exit code, or the signal that ended it as a negative
        number; None if that is not known. Statuses report its tasks.
        """

    def framework_message(
        self, driver: SchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> None:
        """Bytes from one of the framework's executors. Best effort: they may be lost."""

    def error(self, driver: SchedulerDriver, reason: str, message: str) -> None:
        """The driver ends, and this is the last callback. `reason` is one of `Reason` if the master refused the framework or
        another scheduler took over; `MASTER_UNREACHABLE` if no master answered; `CALLBACK_RAISED` if a callback raised.
        `message` is a line for people.
        """


class SchedulerDriver(DriverBase):
    """Connects `scheduler` to the master and runs until it is stopped or refused, or a callback raises.

        driver = SchedulerDriver(MyScheduler(), FrameworkInfo("my framework", executors=[...]))
        driver.run()

    * `master`: `HOST:PORT`, `zk://HOST:PORT,.../PATH`, or the name of a cluster that `offerd cluster` lists. None: what
      `OFFERD_MASTER` says, else the current one of these clusters. Its keys are found there, too.
    * `connect_timeout_s`: if no master answers in this time (10 s by default), the driver ends with an `OfferdError`. None:
      as long as an election may take if there are several masters, else 5 s. Later, when a master is away, the driver
      keeps trying, and logs why.
    * `stands_by`: if another scheduler of this framework id is active, wait until it is gone (`standing_by` is called, then
      `registered`). Without it, this scheduler takes over from the active one.

    Orders may be called from any thread, also in callbacks; they return at once and are sent soon after. Raises `BadInput`
    for an invalid address or description, `NoKey` if the master requires a key and there is none, and `WrongType` for a
    scheduler with a method that only looks like a callback, or is a coroutine.
    """

    scheduler: Scheduler
    _registered: threading.Event
    _wakeup = -1

    def __init__(
        self,
        scheduler: Scheduler,
        framework: FrameworkInfo,
        master: Where = None,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        stands_by: bool = False,
    ) -> None:
        check_callbacks(scheduler, Scheduler)
        super().__init__(
            scheduler, framework, master, connect_timeout_s=connect_timeout_s, stands_by=stands_by
        )
        self._timers: Timers[Callable[..., object], tuple[Any, ...]] = Timers()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self._poller = zmq.Poller()
        self._polled: object = None
        """The socket that the poller was made for; the client has another one after it has moved to another master."""
        self._pacer = Pacer()
        self._failure: BaseException | None = None
        self._registered = threading.Event()
        self._thread: threading.Thread | None = None

    def __del__(self) -> None:
        # Not at the loop's end: a later order would write to the descriptor's number, which may be another file by then.
        if self._wakeup >= 0:
            os.close(self._wakeup)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in a background thread; returns at once. Raises `OfferdError` if that was done before, or no thread can be
        started.
        """
        if self._thread is not None:
            raise OfferdError("this driver was started already; make a new one")
        check_threads("the driver", more=1)
        self._thread = threading.Thread(target=self._loop, name="offerd-scheduler", daemon=True)
        try:
            start_thread(self._thread)
        except NoThread:
            self._thread = None
            raise

    def wait_registered(self, timeout_s: float | None = None) -> FrameworkID:
        """Wait until the master knows this framework, for `timeout_s` seconds at most (None: without end), and return its id.
        Raises what ended the driver, or `OfferdError` when the time is over.
        """
        self._joining += 1
        try:
            is_settled = self._registered.wait(timeout_s)
        finally:
            self._joining -= 1
        if not is_settled:
            raise OfferdError(unreachable(self.address))
        if not self._core.was_registered:
            self.join()
            raise OfferdError("the driver was stopped before a master had answered")
        return self._core.framework_id

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the driver's end, for `timeout_s` seconds at most (None: without end); returns whether it came. If it was
        neither `stop` nor `abort` that ended the driver, raises what did: `FrameworkError` (the master refused it),
        `OfferdError` (no master answered), or what a callback raised.
        """
        if self._thread is None:
            raise OfferdError("this driver was not started; call start() or run()")
        self._joining += 1
        self._thread.join(timeout_s)
        self._joining -= 1
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def run(self) -> None:
        """`start`, then `join`; raises what these raise."""
        self._joining += 1
        try:
            self.start()
            self.join()
        finally:
            self._joining -= 1

    def files(self, slave_id: str) -> FilesAccess:
        """The newest access to the files of this framework on a slave, for `FilesClient`. From any thread."""
        return self._core.files.get(SlaveID(slave_id), NO_ACCESS)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call `function(*arguments)` soon in the driver's thread, between two callbacks, so that it needs no lock against
        them. From any thread.
        """
        self._order(None, function, arguments)

    def call_later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """As `call_soon`, in `delay_s` seconds, if the driver has not ended by then. It cannot be cancelled."""
        self._order(self._set_timer, time.monotonic() + delay_s, function, arguments)

    # -- questions ----------------------------------------------------------------------------------------------------

    def ask_guaranteed_share(self) -> Future[Resources]:
        """Ask how much this framework may hold without losing a task to others; returns a future. From any thread, also in
        callbacks.
        """
        return self._question(GuaranteedShare, self._core.ask_guaranteed_share)

    def get_guaranteed_share(self, timeout_s: float | None = 5.0) -> Resources:
        """How much this framework may hold without losing a task to others. Not in a callback, which would wait for itself.
        Raises `OfferdError` if no answer comes within `timeout_s` seconds (None: waits without end).
        """
        if threading.current_thread() is self._thread:
            raise OfferdError(
                "a callback cannot wait for the master; use ask_guaranteed_share().add_done_callback()"
            )
        try:
            return self.ask_guaranteed_share().result(timeout_s)
        except TimeoutError:
            raise OfferdError(unreachable(self.address)) from None

    def explain_waiting(
        self, wanted: Resources, time_limit_s: float | None = None, *, count: int = 1, per_slave: int = 0
    ) -> Future[Waiting]:
        """Ask why no resources come for a task that needs `wanted`, with this time limit in seconds; returns a future. With
        `count`, for so many tasks that must run at the same time, at most `per_slave` on one slave (0: as many as fit).
        """
        return self._question(Waiting, self._core.ask_waiting, wanted, time_limit_s, count, per_slave)

    def _question(self, kind: type, question: Order, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._put_question(kind, future, question, *arguments)
        return future

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._is_asleep:
            self._is_asleep = False
            os.eventfd_write(self._wakeup, 1)

    def _loop(self) -> None:
        context = None
        try:
            context = new_context()
            with self._connected(context):
                for name, function, arguments in self._take_turns():
                    result = function(*arguments)
                    if result is not None and name:
                        returned_nothing(self.scheduler, name, result)
        except BaseException as error:  # marked: the scheduler's own code; join() raises it
            self._fail(error)
        finally:
            if context is not None:
                context.term()
            self._ended()

    def _wait(self, deadline: float) -> None:
        self._is_asleep = True
        # An order that is queued from now on wakes us; one queued before is seen here.
        if self._orders or self._is_ending:
            self._is_asleep = False
            return
        if (due := self._timers.next_deadline()) is not None:
            deadline = min(deadline, due)
        client = self._client
        if self._polled is not client.socket:
            self._poll_anew()
        wait_s = min(MAX_WAIT_S, max(0.0, deadline - time.monotonic()))
        ready = self._poller.poll(int(wait_s * 1000) + 1)
        self._is_asleep = self._must_follow = False
        for readable, _ in ready:
            if readable == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif readable is not client.socket:
                self._must_follow = True
        self._pacer.collect(self._core.in_flight, self._core.tasks_ended)

    def _poll_anew(self) -> None:
        client, self._poller = self._client, zmq.Poller()
        self._poller.register(client.socket, zmq.POLLIN)
        self._poller.register(client.link.socket, zmq.POLLIN)
        self._poller.register(self._wakeup, zmq.POLLIN)
        if client.detector is not None:
            self._poller.register(client.detector.fd, zmq.POLLIN)
        self._polled = client.socket

    def _set_timer(
        self, due: float, function: Callable[..., object], arguments: tuple[Any, ...], now: float
    ) -> list[Action]:
        self._timers.set(due, function, arguments)
        return []

    def _timed(self) -> Steps:
        for function, arguments in self._timers.due(time.monotonic()):
            if self._is_ending:
                return
            yield "", function, arguments

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._is_silent = True
        reason, text = self._say_end(error, Scheduler, logs_callbacks=not self._joining)
        try:
            self.scheduler.error(self, reason, text)
        except BaseException as second:  # marked: the scheduler's own code; the first is raised
            log.error("the scheduler's error() raised, too", exc_info=second)
