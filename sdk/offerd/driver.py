"""The blocking scheduler driver: one background thread that polls the master's socket and calls the scheduler.

Orders may be called from any thread, callbacks included: they are queued, and the loop is woken only if it sleeps. One
turn of the loop reads what is there, calls back, and writes everything that came of it, so that a thousand statuses cost
one acknowledgement and one frame.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

import zmq

from offerd import codec
from offerd.absence import QUIET_S, MasterWatch
from offerd.callbacks import authors_lines, check_callbacks, returned_nothing
from offerd.clusters import Where, resolve
from offerd.errors import FrameworkError, MasterUnreachable, OfferdError
from offerd.failures import text_of
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.ids import FrameworkID, SlaveID
from offerd.leader import SCHEME, patience_s, unreachable
from offerd.master_client import MasterClient
from offerd.messages import FrameworkInfo, GuaranteedShare, Message
from offerd.operator_messages import Waiting
from offerd.orders import (
    CALLBACK_RAISED,
    CONNECT_TIMEOUT_S,
    FLUSH_AFTER_MESSAGES,
    STOP_LINGER_MS,
    Order,
    Orders,
    handled_or_lost,
    not_sent,
    reason_of,
)
from offerd.pacing import Pacer
from offerd.resources import Resources
from offerd.scheduler import Scheduler
from offerd.scheduler_core import Action, Answer, Call, Deliver, End, Send
from offerd.transport import new_context
from offerd.workers import NoThread, check_threads, start_thread

log = logging.getLogger("offerd.driver")

MAX_WAIT_S = 3600.0
"""Longest wait in the kernel, which counts milliseconds in 31 bits."""


class SchedulerDriver(Orders):
    """Connects `scheduler` to the master and runs until stopped, refused or broken.

        driver = SchedulerDriver(MyScheduler(), FrameworkInfo("my framework", executors=[...]))
        driver.run()

    `master` as for `offerd.clusters.resolve`: `HOST:PORT`, `zk://...`, or None for what the environment or the store of
    credentials says; the keys come from there, too. Raises `BadInput` for an address that is none, and `WrongType` for a
    scheduler with a method that looks like a callback and is none, or is a coroutine. If no master answers within
    `connect_timeout_s` (None: as long as an election may take where there is one, else five seconds) the driver ends with an
    `OfferdError` that says so. While a master is away the driver tries on, and logs why.

    `stands_by`: where another scheduler of this framework id is active, wait until it is gone (`standing_by`, then
    `registered` are called); without it a scheduler takes over from the active one.
    """

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
        self.scheduler = scheduler
        self.address, self._keys, _ = resolve(master)
        super().__init__(framework, stands_by=stands_by, finds_leader=self.address.startswith(SCHEME))
        self._connect_timeout_s = patience_s(self.address) if connect_timeout_s is None else connect_timeout_s
        self._orders: deque[tuple[Order, tuple[Any, ...]]] = deque()
        self._questions: dict[type, deque[Future[Any]]] = {GuaranteedShare: deque(), Waiting: deque()}
        self._timers: list[
            tuple[float, int, Callable[[], object]]
        ] = []  # a heap; the number keeps the order of setting
        self._timers_set = 0
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self._is_ending = False
        self._is_silent = False
        self._has_ended = False
        self._must_teardown = False
        self._failure: BaseException | None = None
        self._joining = 0  # threads that wait, and are told what went wrong by what is raised there
        self._registered = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: MasterClient[codec.ToScheduler]

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

    def stop(self, failover: bool = False) -> None:
        """End. The framework's tasks are killed, unless `failover`: then the next scheduler that stands by takes over, or the
        tasks wait for one. `join` waits.
        """
        self._must_teardown = not failover
        self._is_ending = True
        self._wake()

    def abort(self) -> None:
        """End without another callback or message; the master treats it as a crash of the scheduler."""
        self._is_silent = True
        self._is_ending = True
        self._wake()

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

    @property
    def framework_id(self) -> FrameworkID:
        """The master's name for this framework; empty until registered."""
        return self._core.framework_id

    @property
    def is_registered(self) -> bool:
        return self._core.is_registered

    def files(self, slave_id: str) -> FilesAccess:
        """Access to what the framework has on a slave, the newest that the master has handed out. From any thread."""
        return self._core.files.get(SlaveID(slave_id), NO_ACCESS)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run `function` in the driver's thread, between callbacks: what it touches needs no lock against them."""
        self._order(_run, function, arguments)

    def call_later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """The same in `delay_s` seconds, if the driver has not ended by then. There is no way to take it back."""
        due = time.monotonic() + delay_s
        self._order(self._set_timer, due, partial(function, *arguments))

    # -- questions ----------------------------------------------------------------------------------------------------

    def ask_guaranteed_share(self) -> Future[Resources]:
        """What this framework may hold without ever losing a task (paper, section 3.3), as a future."""
        future: Future[Resources] = Future()
        self._question(GuaranteedShare, future, self._core.ask_guaranteed_share)
        return future

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
        future: Future[Waiting] = Future()
        self._question(Waiting, future, self._core.ask_waiting, wanted, time_limit_s, count, per_slave)
        return future

    def _question(self, kind: type, future: Future[Any], question: Order, *arguments: Any) -> None:
        future.set_running_or_notify_cancel()
        self._order(self._ask, kind, future, question, *arguments)
        if self._has_ended:
            self._drop_questions("the driver has ended")

    def _ask(self, kind: type, future: Future[Any], question: Order, *arguments: Any) -> list[Action]:
        if not self._core.is_registered:
            future.set_exception(
                OfferdError(f"not registered with a master at {self.address}; ask again later")
            )
            return []
        self._questions[kind].append(future)
        return question(*arguments)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _order(self, method: Order, *arguments: Any) -> None:
        self._orders.append((method, arguments))
        if self._is_asleep:
            self._wake()

    def _wake(self) -> None:
        self._is_asleep = False
        os.eventfd_write(self._wakeup, 1)

    def _loop(self) -> None:
        context = None
        try:
            context = new_context()
            self._client = MasterClient(context, self.address, codec.to_scheduler, self._keys)
            try:
                self._take_turns()
            except BaseException:
                self._is_silent = True
                raise
            finally:
                self._client.socket.setsockopt(zmq.LINGER, 0 if self._is_silent else STOP_LINGER_MS)
                self._client.close()
        except BaseException as error:  # marked: the scheduler's own code; join() raises it
            self._fail(error)
        finally:
            if context is not None:
                context.term()
            self._is_ending = self._has_ended = True
            self._registered.set()
            self._drop_questions("the driver has ended")

    def _take_turns(self) -> None:
        poller = self._poller()
        give_up_at = time.monotonic() + self._connect_timeout_s
        pacer, watch = Pacer(), MasterWatch()
        self._carry_out_orders()  # what was wished before goes with the hello
        self._perform(self._core.start(time.monotonic()))
        while not self._is_ending:
            self._turn()
            if not self._core.was_registered and time.monotonic() >= give_up_at:
                raise MasterUnreachable(self._client.link.fault() or unreachable(self.address, watch.why))
            self._say_absence(watch)
            self._is_asleep = True
            # Whoever adds to the queue from now on wakes us; what was added before, we see here.
            if self._orders or self._is_ending:
                self._is_asleep = False
                continue
            deadline = min(self._core.next_deadline(), watch.next_deadline())
            if self._timers:
                deadline = min(deadline, self._timers[0][0])
            if not self._core.was_registered:
                deadline = min(deadline, give_up_at)
            wait_s = min(MAX_WAIT_S, max(0.0, deadline - time.monotonic()))
            ready = poller.poll(int(wait_s * 1000) + 1)
            self._is_asleep = False
            for readable, _ in ready:
                if readable == self._wakeup:
                    os.eventfd_read(self._wakeup)
                elif readable is self._client.link.socket:
                    self._follow_link()
                elif self._follow_leader():
                    poller = self._poller()
                    break
            pacer.collect(self._core.in_flight, self._core.tasks_ended)
        if not self._is_silent:
            self._carry_out_orders()
            self._flush()
            leave = self._core.teardown if self._must_teardown else self._core.fail_over
            self._perform(leave(time.monotonic()))
            self._flush()

    def _say_absence(self, watch: MasterWatch) -> None:
        for text in watch.turn(self._core.is_heard, self._client.peer):
            if self._core.was_registered or self._connect_timeout_s > QUIET_S:
                log.warning("%s", text)

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        poller.register(self._client.socket, zmq.POLLIN)
        poller.register(self._client.link.socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        if self._client.detector is not None:
            poller.register(self._client.detector.fd, zmq.POLLIN)
        return poller

    def _follow_leader(self) -> bool:
        """Another master leads: what the one before still sent counts, nothing more reaches it."""
        self._turn()
        if self._is_ending or not self._client.follow():
            return False
        self._perform(self._core.link_changed(False, time.monotonic()))
        return True

    def _follow_link(self) -> None:
        # First what the lost connection still brought: after it, nothing of that master's holds.
        self._turn()
        for is_up in self._client.link.changes():
            self._perform(self._core.link_changed(is_up, time.monotonic()))

    def _turn(self) -> None:
        """Read what is there, call back, carry out the orders that came of it, write."""
        core, handled = self._core, 0
        self._carry_out_orders()
        for epoch, messages in self._client.drain():
            if not core.obeys(epoch):
                continue
            now = time.monotonic()
            for message in messages:
                self._perform(handled_or_lost(core, message, now))
                if self._is_ending:
                    return
            handled += len(messages)
            if handled >= FLUSH_AFTER_MESSAGES:
                handled = 0
                self._carry_out_orders()
                self._flush()
        self._perform(core.tick(time.monotonic()))
        if self._timers:
            self._run_timers()
        self._carry_out_orders()
        self._flush()

    def _set_timer(self, due: float, function: Callable[[], object], now: float) -> list[Action]:
        self._timers_set += 1
        heapq.heappush(self._timers, (due, self._timers_set, function))
        return []

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic() and not self._is_ending:
            heapq.heappop(self._timers)[2]()

    def _carry_out_orders(self) -> None:
        orders = self._orders
        # Not more than are there now: a callback that always orders more must not keep the socket waiting.
        for _ in range(len(orders)):
            method, arguments = orders.popleft()
            self._perform(method(*arguments, time.monotonic()))

    def _flush(self) -> None:
        if self._is_silent:
            return
        for message in self._core.acknowledgements():
            self._client.send(message)
        unsent: list[tuple[Message, str]] = []
        if self._client.flush(lambda message, why: unsent.append((message, why))):
            # Without a connection nobody reads: what there is to say of that is said elsewhere.
            if self._client.link.is_up:
                log.warning("the master at %s reads too slowly: registering again", self.address)
            self._perform(self._core.lose_master(time.monotonic()))
        if unsent:
            self._perform(not_sent(self._core, unsent, time.monotonic()))
            self._flush()

    def _perform(self, actions: Iterable[Action]) -> None:
        scheduler, core = self.scheduler, self._core
        for action in actions:
            if self._is_silent:
                return
            match action:
                case Deliver():
                    scheduler.status_update(self, action.status)
                    core.delivered(action.status)
                case Send():
                    self._client.send(action.message)
                case Call():
                    self._call(action)
                case Answer():
                    self._settle(action.message)
                case End():
                    raise FrameworkError(action.reason, action.message)

    def _call(self, call: Call) -> None:
        if call.callback in ("registered", "reregistered"):
            self._registered.set()
            if (cut_s := self._cut_s()) is not None:
                log.warning("the master cuts this framework's time-outs to %g s", cut_s)
        elif call.callback == "disconnected":
            self._drop_questions("the master is gone; ask again later")
        result = getattr(self.scheduler, call.callback)(self, *call.arguments)
        if result is not None:
            returned_nothing(self.scheduler, call.callback, result)

    def _settle(self, answer: Message) -> None:
        questions = self._questions[type(answer)]
        if questions:
            questions.popleft().set_result(
                answer.resources if isinstance(answer, GuaranteedShare) else answer
            )

    def _drop_questions(self, why: str) -> None:
        if self._has_ended:
            while self._orders:
                method, arguments = self._orders.popleft()
                if method == self._ask:
                    self._questions[arguments[0]].append(arguments[1])
        for questions in self._questions.values():
            while questions:
                questions.popleft().set_exception(OfferdError(why))

    def _fail(self, error: BaseException) -> None:
        """The end, by refusal, for want of a master or by a callback: say so, once, to everybody concerned."""
        self._failure = error
        self._is_silent = True
        reason = reason_of(error)
        if reason == CALLBACK_RAISED:
            error.__traceback__ = authors_lines(error.__traceback__)
            if not self._joining:
                log.error("a callback of %s raised", type(self.scheduler).__name__, exc_info=error)
        elif not self._joining and type(self.scheduler).error is Scheduler.error:
            log.error("the driver has ended: %s", text_of(error))  # or nobody would hear of it
        try:
            self.scheduler.error(self, reason, text_of(error))
        except BaseException as second:  # marked: the scheduler's own code; the first is raised
            log.error("and its error() raised too", exc_info=second)


def _run(function: Callable[..., object], arguments: tuple[Any, ...], now: float) -> list[Action]:
    function(*arguments)
    return []
