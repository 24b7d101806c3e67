"""The blocking scheduler driver: one background thread that polls the master's socket and calls the scheduler.

Orders may be called from any thread, callbacks included: they are queued, and the loop is woken only if it sleeps.

What a framework author writes is a `Scheduler`, whose callbacks a driver calls: those of the paper's Table 1 (Mesos, NSDI 2011)
in snake case, and what users of Mesos expect beside them. All of them do nothing unless overridden. A driver calls one at a
time, never two at once, so a scheduler needs no locks of its own; while a callback runs, nothing else reaches the framework, so
a callback should be quick and never wait.
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
from offerd.credentials.clusters import Where
from offerd.drivers.callbacks import check_callbacks, returned_nothing
from offerd.drivers.driver_base import DriverBase, Steps
from offerd.drivers.orders import CONNECT_TIMEOUT_S, Order
from offerd.errors import OfferdError
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
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
    """Decides which offers to take and what to run on them. Give one to a `SchedulerDriver`.

    A callback that raises ends the driver: the error is logged, `error` is called, and `driver.join()` raises it again.
    """

    # -- the paper's callbacks ----------------------------------------------------------------------------------------

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        """Free resources, each offer those of one slave. Answer every one, with `driver.reply_to_offer` or
        `driver.decline_offer`: what is offered counts as yours, and an offer left lying is rescinded.

        Take only what you have work for now (the paper's incentives: short tasks, no minimum, scale down when idle).
        """

    def offer_rescinded(self, driver: SchedulerDriver, offer_id: OfferID) -> None:
        """An offer that you have not answered holds no more: forget it. Tasks sent for it would be lost."""

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        """A task is in another state. Of each task exactly one status with `status.state.terminal` comes, the last one.

        The status is acknowledged when this returns; if your process dies before, it comes again to its successor.
        A `RUNNING` may be missing when the end came close behind it.
        """

    def slave_lost(self, driver: SchedulerDriver, slave_id: SlaveID) -> None:
        """A slave is gone. Its offers were rescinded before; its tasks are reported `LOST`, each by a status."""

    def revocation_notice(self, driver: SchedulerDriver, task_ids: list[str], grace_s: float) -> None:
        """Others are to have what is guaranteed to them, and you hold more than is guaranteed to you. Within `grace_s` end
        as much as these tasks hold, whichever of your tasks you like, or let them save their work. What is then still
        missing is taken by killing of these: they end `KILLED` with reason `REVOKED`.
        """

    # -- beside them --------------------------------------------------------------------------------------------------

    def registered(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """The master knows this framework now. Keep `framework_id` if a successor is to take over its tasks."""

    def reregistered(self, driver: SchedulerDriver, master_id: str) -> None:
        """The master, or a new one, is back. Filters and `set_needs_offers` were said again by the driver, and tasks whose
        state is in doubt are reconciled by it; offers from before hold no more.
        """

    def standing_by(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """Another scheduler of this framework is active. `registered` (or `reregistered`, if this one has been active before)
        comes when this one is; `driver.reconcile_tasks()` then tells what runs.
        """

    def disconnected(self, driver: SchedulerDriver) -> None:
        """The master is silent. Tasks go on; the driver keeps trying. All offers have been rescinded."""

    def executor_lost(
        self,
        driver: SchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> None:
        """An executor of yours ended. What became of its tasks, their statuses say."""

    def framework_message(
        self, driver: SchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> None:
        """Bytes from one of your executors; best effort, may be lost."""

    def error(self, driver: SchedulerDriver, reason: str, message: str) -> None:
        """The end of this driver: refused by the master (`reason` is one of `offerd.messages.Reason`), taken over by
        another scheduler, no master found (`MASTER_UNREACHABLE`) or a callback that raised (`CALLBACK_RAISED`).
        """


class SchedulerDriver(DriverBase):
    """Connects `scheduler` to the master and runs until stopped, refused or broken.

        driver = SchedulerDriver(MyScheduler(), FrameworkInfo("my framework", executors=[...]))
        driver.run()

    `master` as for `offerd.credentials.clusters.resolve`: `HOST:PORT`, `zk://...`, or None for what the environment or
    the store of credentials says; the keys come from there, too. Raises `BadInput` for an address that is none, and
    `WrongType` for a scheduler with a method that looks like a callback and is none, or is a coroutine. If no master
    answers within `connect_timeout_s` (10 s; None: as long as an election may take where there is one, else 5 s) the
    driver ends with an `OfferdError` that says so. While a master is away the driver tries on, and logs why.

    `stands_by`: where another scheduler of this framework id is active, wait until it is gone (`standing_by`, then
    `registered` are called); without it a scheduler takes over from the active one.
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
        """The client's socket that the poller knows; another one after a move."""
        self._pacer = Pacer()
        self._failure: BaseException | None = None
        self._registered = threading.Event()
        self._thread: threading.Thread | None = None

    def __del__(self) -> None:
        # Not at the loop's end: an action called after it must not write to what may be somebody else's file by then.
        if self._wakeup >= 0:
            os.close(self._wakeup)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in a background thread; returns at once. Raises `OfferdError` where none can be started."""
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
        """Wait until the master knows this framework; returns its id. Raises what ended the driver, or `OfferdError`."""
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
        """Wait for the end; returns whether it came. Raises what ended the driver, if it was not `stop` or `abort`:
        `FrameworkError` (refused), `OfferdError` (no master), or what a callback raised.
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
        """`start` and `join`."""
        self._joining += 1
        try:
            self.start()
            self.join()
        finally:
            self._joining -= 1

    def files(self, slave_id: str) -> FilesAccess:
        """Access to what the framework has on a slave, the newest that the master has handed out. From any thread."""
        return self._core.files.get(SlaveID(slave_id), NO_ACCESS)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run `function` in the driver's thread, between callbacks: what it touches needs no lock against them."""
        self._order(None, function, arguments)

    def call_later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """The same in `delay_s` seconds, if the driver has not ended by then. There is no way to take it back."""
        self._order(self._set_timer, time.monotonic() + delay_s, function, arguments)

    # -- questions ----------------------------------------------------------------------------------------------------

    def ask_guaranteed_share(self) -> Future[Resources]:
        """What this framework may hold without ever losing a task (paper, section 3.3), as a future."""
        return self._question(GuaranteedShare, self._core.ask_guaranteed_share)

    def get_guaranteed_share(self, timeout_s: float | None = 5.0) -> Resources:
        """The same, waited for. Not from a callback, which would wait for itself. Raises `OfferdError`."""
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
        """Why no resources come for a task of this size and time limit, as a future; or for `count` of them that must all run
        at once, at most `per_slave` on one slave (0: as many as fit).
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
        # Whoever adds to the queue from now on wakes us; what was added before, we see here.
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
            log.error("and its error() raised too", exc_info=second)
