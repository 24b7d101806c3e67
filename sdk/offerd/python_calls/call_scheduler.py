"""The scheduler behind `ClusterExecutor`: it puts waiting calls into offers and turns statuses into results.

Everything here but `submit`, `cancelled` and `close` runs in the driver's thread. It holds almost nothing that it has no call
for: useless offers are declined at once, and when the queue is empty it calls `set_needs_offers(False)`. But it keeps one
suitable offer for a tenth of a second after the last call: a caller that has just received a result often makes its next
call soon, and that call then need not wait for an offer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any

from offerd.cluster_future import ClusterFuture, Shape
from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import (
    BadInput,
    BadMessage,
    ForgedResult,
    FrameworkError,
    MessageTooLarge,
    OfferdError,
)
from offerd.files_client import FilesClient
from offerd.ids import ExecutorID, OfferID, SlaveID, TaskID
from offerd.messages import Filters, Offer, Reason, TaskInfo, TaskState, TaskStatus
from offerd.operator_messages import Waiting
from offerd.python_calls import calls, large_calls
from offerd.python_calls.call_queue import CallQueue, Room, is_large, smallest
from offerd.resources import Resources
from offerd.task_errors import BrokenClusterExecutor, TaskError, TaskTimeoutError
from offerd.tasks.task_output import pack_taken
from offerd.values.failures import text_of
from offerd.values.screen_text import printable

log = logging.getLogger("offerd.cluster_executor")

EXECUTOR_ID = ExecutorID("python")
FETCHES = 4
"""Most large results fetched at the same time."""
PLACINGS = 100
"""How many offers a call may miss (rescinded, used, capped meanwhile) before that is an error."""

EXPLAIN_AFTER_S = 2.0
"""If calls have waited so long and none runs, ask the master why, and log its answer."""

WARM_S = 0.1
"""How long an offer is kept for the next call."""

_NEVER_RAN = frozenset(reason for reason in Reason if reason.never_ran) | {Reason.OFFER_EXCEEDED}
"""Also `OFFER_EXCEEDED`: a call is put only where it fits by our own count, so there is less there than was offered."""
_LOST = frozenset(
    {
        Reason.EXECUTOR_NOT_LAUNCHED, Reason.EXECUTOR_REGISTRATION_TIMEOUT, Reason.EXECUTOR_EXITED, Reason.SHIM_DIED,
        Reason.SLAVE_LOST, Reason.SLAVE_RESTARTED, Reason.SLAVE_DRAINING, Reason.HOST_REBOOTED,
        Reason.CHECKPOINT_DAMAGED, Reason.REVOKED,
    }
)  # fmt: skip
"""Reasons that are the cluster's fault, not the call's: the call is tried again."""


class _InFile(Exception):
    """This result is in a file, which must be fetched first."""


class CallScheduler(Scheduler):
    """See the module. `connect` makes its driver."""

    def __init__(
        self,
        connect: Callable[[Scheduler], SchedulerDriver],
        queue: CallQueue,
        max_running: int | None = None,
        initializer: bytes = b"",
    ) -> None:
        self.queue = queue
        self._initializer = initializer
        """For executors to ask for, if it is large."""
        self._max_running = max_running
        """Most calls on the cluster at one time; None: as many as there is room for."""
        self._is_held_back = False
        """An offer was declined because so many calls run already."""
        self.failure: OfferdError | None = None
        self.forged = 0
        """Results that were not from the executor that was given the call."""
        self._keys = calls.Keys()
        self._lock = threading.RLock()  # reentrant: the garbage collector may call `close` within `submit`
        self._inbox: deque[ClusterFuture[Any]] = deque()
        self._is_noted = False
        self._is_closed = False
        self._running: dict[TaskID, ClusterFuture[Any]] = {}
        self._needs_offers = False
        self._refused: set[Shape] | None = None
        """The shapes that waited when an offer was useless; None: no offer was declined since the last revival."""
        self._minimum: dict[str, int] = {}
        self._spare: Offer | None = None
        self._last_shape: Shape | None = None
        self._warm_until = 0.0
        self._is_cooling = False
        self._is_watching = False
        self._logged_why = ""
        """The last logged reason why calls wait."""
        self._fetcher: ThreadPoolExecutor | None = None
        self._fetching: set[ClusterFuture[Any]] = set()
        self.driver = connect(self)

    # -- from any thread ----------------------------------------------------------------------------------------------

    def submit(self, call: ClusterFuture[Any]) -> None:
        """Queue a call. Raises `RuntimeError` after `close`, and what ended the driver after that."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._inbox.append(call)
            if self._is_noted:
                return
            self._is_noted = True
        self.driver.call_soon(self._take_in)

    def cancelled(self, call: ClusterFuture[Any]) -> None:
        """Drop a call that was cancelled, or kill its task."""
        self.driver.call_soon(self._cancelled, call)

    def close(self, cancel_futures: bool) -> None:
        """Take no more calls; the driver stops when the last has ended."""
        with self._lock:
            if self._is_closed or self.failure is not None:
                return
            self._is_closed = True
        self.driver.call_soon(self._close, cancel_futures)

    # -- the driver's callbacks ---------------------------------------------------------------------------------------

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        self._use(driver, offers)
        if not self.queue.size or self._is_full():
            self._say_needs(False)
            self._stop_if_done()

    def offer_rescinded(self, driver: SchedulerDriver, offer_id: OfferID) -> None:
        if self._spare is not None and self._spare.offer_id == offer_id:
            self._spare = None

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        state = status.state
        if not state.terminal:
            return
        was_full = self._is_full()
        call = self._running.pop(status.task_id, None)
        if call is None:
            return
        if state is TaskState.FINISHED or status.reason == Reason.CALL_RAISED:
            self._settle(call, status)
        else:
            self._ended_badly(call, status)
        if was_full:
            self._want_offers()
        if self._is_closed:
            self._stop_if_done()
        elif not (self._running or self.queue.size) and self._spare is None and self._is_warm():
            self._say_needs(True)

    def error(self, driver: SchedulerDriver, reason: str, message: str) -> None:
        refused = reason in Reason.__members__
        with self._lock:
            self.failure = FrameworkError(reason, message) if refused else OfferdError(message)
        self._fail_all(self.failure)

    # -- calls in -----------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        self._is_noted = False
        inbox, queue = self._inbox, self.queue
        while inbox:
            queue.put(inbox.popleft())
        self._want_offers()

    def _want_offers(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._use(self.driver, [spare])
        if not self.queue.size or self._is_full():
            return
        self._watch()
        shapes = self.queue.waiting_shapes()
        if self._minimum and not all(_admits(self._minimum, shape) for shape in shapes):
            self._set_minimum(smallest(shapes))
        self._say_needs(True)
        if self._is_held_back or (self._refused is not None and not shapes <= self._refused):
            # Offers that were useless may be useful now, and the master would not repeat them so soon by itself.
            self._refused, self._is_held_back = None, False
            self.driver.revive_offers()

    def _watch(self) -> None:
        """While calls wait, have the reason logged if none runs."""
        if not self._is_watching:
            self._is_watching = True
            self.driver.call_later(EXPLAIN_AFTER_S, self._ask_why)

    def _ask_why(self) -> None:
        self._is_watching = False
        if not self.queue.size:
            return
        if self._running:
            self._watch()
            return
        shape = min(self.queue.waiting_shapes(), key=lambda shape: shape.waiting[0].number)
        question = self.driver.explain_waiting(shape.resources, shape.time_limit_s)
        question.add_done_callback(self._log_why)

    def _log_why(self, question: Future[Waiting]) -> None:
        """Log each reason once. Runs in the driver's thread."""
        self._watch()
        if question.exception() is not None or not self.queue.size or self._running:
            return  # the master is away, or calls run by now
        waiting = question.result()
        if not waiting.is_momentary and waiting.why != self._logged_why:
            self._logged_why = waiting.why
            ends = (
                f"; timeout={waiting.short_limit_s:g}, or less, would end this wait"
                if waiting.short_limit_s
                else ""
            )
            count = self.queue.size
            who = "a call waits" if count == 1 else f"{count} calls wait"
            log.warning("%s: %s%s", who, printable(waiting.message, 500), ends)

    def _use(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        """Put calls into offers; useless offers are declined, except one that is kept for the next call."""
        unused: list[OfferID] = []
        most = None if self._max_running is None else self._max_running - len(self._running)
        for room in self.queue.fill_all(offers, most):
            if room.calls:
                self._launch(driver, room)
            elif self._may_spare(room.offer):
                self._spare = room.offer
            else:
                unused.append(room.offer.offer_id)
        if unused and self.queue.size and self._is_full():
            self._is_held_back = True
            driver.decline_offer(unused, 0.0)
        elif unused:
            self._refuse(driver, unused)

    def _is_full(self) -> bool:
        return self._max_running is not None and len(self._running) >= self._max_running

    def _may_spare(self, offer: Offer) -> bool:
        if self._spare is not None or self.queue.size or self._last_shape is None or not self._is_warm():
            return False
        return Room(offer).holds(self._last_shape) > 0

    def _is_warm(self) -> bool:
        return not self._is_closed and time.monotonic() < self._warm_until

    def _stay_warm(self, shape: Shape) -> None:
        self._last_shape = shape
        self._warm_until = time.monotonic() + WARM_S
        if not self._is_cooling:
            self._is_cooling = True
            self.driver.call_later(WARM_S, self._cool)

    def _cool(self) -> None:
        left_s = self._warm_until - time.monotonic()
        if left_s > 0:
            self.driver.call_later(left_s, self._cool)
            return
        self._is_cooling = False
        self._give_back_spare()
        if not self.queue.size:
            self._say_needs(False)

    def _give_back_spare(self) -> None:
        if self._spare is not None:
            self.driver.decline_offer([self._spare.offer_id], 0.0)
            self._spare = None

    def _say_needs(self, needs_offers: bool) -> None:
        if needs_offers is not self._needs_offers:
            self._needs_offers = needs_offers
            self.driver.set_needs_offers(needs_offers)

    def _refuse(self, driver: SchedulerDriver, unused: list[OfferID]) -> None:
        """Decline for no time: the slave may be useful as soon as more of it is free."""
        driver.decline_offer(unused, 0.0)
        self._refused = shapes = self.queue.waiting_shapes()
        if shapes:
            self._set_minimum(smallest(shapes))

    def _set_minimum(self, minimum: dict[str, int]) -> None:
        if minimum != self._minimum:
            self._minimum = minimum
            self.driver.set_filters(Filters(minimum=Resources(minimum)))

    def _launch(self, driver: SchedulerDriver, room: Room) -> None:
        offer, running = room.offer, self._running
        tasks: list[TaskInfo] = []
        for call in room.calls:
            options, task_id = call.options, call.task_id
            call.slave_id = offer.slave_id
            call.key = self._keys.new()
            running[task_id] = call
            tasks.append(
                TaskInfo(
                    task_id,
                    options.shape.resources,
                    EXECUTOR_ID,
                    None,
                    _data_of(call),
                    options.shape.time_limit_s,
                    options.kill_grace_s,
                    call.name,
                )
            )
        try:
            driver.reply_to_offer(offer.offer_id, tasks)
        except (BadInput, MessageTooLarge):
            self._launch_good(driver, offer, tasks)
        self._logged_why = ""
        self._stay_warm(room.calls[-1].options.shape)

    def _launch_good(self, driver: SchedulerDriver, offer: Offer, tasks: list[TaskInfo]) -> None:
        """A call that does not fit into a message fails; the others are launched."""
        good: list[TaskInfo] = []
        for task in tasks:
            if fault := driver.fault(task):
                _resolve(self._running.pop(task.task_id), None, BadInput(fault))
            else:
                good.append(task)
        if good:
            driver.reply_to_offer(offer.offer_id, good)
        else:
            driver.decline_offer([offer.offer_id], 0.0)

    # -- results out --------------------------------------------------------------------------------------------------

    def framework_message(
        self, driver: SchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> None:
        """An executor asks for a piece of a large call or initializer. A slave gets only what it was given to run."""
        question = large_calls.question_in(data)
        if question is None:
            return
        start, end = question.offset, question.offset + question.count
        if not question.task_id:
            piece = self._initializer[start:end]
        else:
            call = self._running.get(TaskID(question.task_id))
            if call is None or call.slave_id != slave_id:
                return
            piece = calls.piece_with_key(call.data, call.key, start, end)
        driver.send_framework_message(slave_id, executor_id, large_calls.answer(question, piece))

    def _settle(self, call: ClusterFuture[Any], status: TaskStatus) -> None:
        try:
            outcome = calls.unpack_result(status.data, _defer, call.key)
        except _InFile:
            self._fetch_later(call, status)
            return
        except ForgedResult as error:
            self.forged += 1
            log.warning("%s fails: %s", status.task_id, error)
            _resolve(call, None, error)
            return
        except BadMessage as error:
            _resolve(call, None, error)
            return
        if outcome.is_broken:
            self._running[status.task_id] = call
            self._break(outcome.exception)
            return
        _resolve(call, outcome.value, outcome.exception)

    def _ended_badly(self, call: ClusterFuture[Any], status: TaskStatus) -> None:
        """Try again if the cluster lost the call; otherwise the call fails."""
        if call.cancelled():
            return
        if status.reason in _NEVER_RAN and call.misses < PLACINGS:
            call.misses += 1
        elif (status.state is TaskState.LOST or status.reason in _LOST) and call.lost < call.options.retries:
            call.lost += 1
            log.info("%s is tried again: %s %s", status.task_id, status.reason, status.message)
        else:
            kind = TaskTimeoutError if status.reason == Reason.TASK_TIMEOUT else TaskError
            _resolve(call, None, kind(status))
            return
        self._try_again(call)

    def _try_again(self, call: ClusterFuture[Any]) -> None:
        call.tries += 1
        call.task_id = TaskID("")
        self.queue.put_back(call)
        self._want_offers()

    def _fetch_later(self, call: ClusterFuture[Any], status: TaskStatus) -> None:
        if self._fetcher is None:
            self._fetcher = ThreadPoolExecutor(FETCHES, thread_name_prefix="offerd-fetch")
        self._fetching.add(call)
        try:
            self._fetcher.submit(self._fetch, call, status)
        except RuntimeError as error:  # no more threads, for this process or at all
            self._fetched(call, OfferdError(f"its result cannot be fetched: {error}"))

    def _fetch(self, call: ClusterFuture[Any], status: TaskStatus) -> None:
        """Runs in a thread of the fetcher's."""

        def read_file(file: calls.File) -> bytes:
            with FilesClient(self.driver.files(call.slave_id)) as client:
                return client.read(status.container_id, file.path, 0, file.size_bytes + 1)

        lost: OfferdError | None = None
        try:
            outcome = calls.unpack_result(status.data, read_file, call.key)
            _resolve(call, outcome.value, outcome.exception)
        except OfferdError as error:
            lost = error
        except BaseException as error:  # marked: after any error, the future must end
            log.critical("the result of %s cannot be fetched", status.task_id, exc_info=error)
            _resolve(call, None, error)
        finally:
            self.driver.call_soon(self._fetched, call, lost)

    def _fetched(self, call: ClusterFuture[Any], lost: OfferdError | None) -> None:
        """The result was fetched, or is lost, perhaps with its slave: then the call is tried again."""
        self._fetching.discard(call)
        self.driver.send_framework_message(call.slave_id, EXECUTOR_ID, pack_taken([call.task_id]))
        if lost is not None and not call.cancelled():
            if call.lost < call.options.retries:
                call.lost += 1
                log.info("%s is tried again, as its result is lost: %s", call.task_id, lost)
                self._try_again(call)
            else:
                _resolve(call, None, lost)
        self._stop_if_done()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _break(self, cause: BaseException | None) -> None:
        """The initializer raised, so no call can run. Those that run now end with the framework."""
        error = BrokenClusterExecutor()
        error.__cause__ = cause
        with self._lock:
            self.failure = error
        log.critical(
            "%s: %s: %s", error, type(cause).__name__, printable("" if cause is None else text_of(cause), 500)
        )
        self._fail_all(error)
        self.driver.stop()

    def _cancelled(self, call: ClusterFuture[Any]) -> None:
        if call.task_id in self._running:
            self.driver.kill_task(call.task_id)
            return
        self.queue.prune(call.options.shape)
        if not self.queue.size:
            self._say_needs(False)
            self._stop_if_done()

    def _close(self, cancel_futures: bool) -> None:
        self._take_in()
        self._give_back_spare()
        if cancel_futures:
            for call in self.queue.clear():
                call.cancel()
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._is_closed and not (self.queue.size or self._running or self._inbox or self._fetching):
            self.driver.stop()
            if self._fetcher is not None:
                self._fetcher.shutdown(wait=False)

    def _fail_all(self, error: OfferdError) -> None:
        for call in (*self._inbox, *self.queue.clear(), *self._running.values(), *self._fetching):
            _resolve(call, None, error)
        self._inbox.clear()
        self._running.clear()
        if self._fetcher is not None:
            self._fetcher.shutdown(wait=False)


def _data_of(call: ClusterFuture[Any]) -> bytes:
    if is_large(call.data):
        return large_calls.header(len(call.data) + calls.ADDED_BYTES)
    return calls.with_key(call.data, call.key)


def _defer(file: calls.File) -> bytes:
    raise _InFile


def _resolve(call: ClusterFuture[Any], value: object, exception: BaseException | None) -> None:
    call.data = b""
    try:
        if exception is None:
            call.set_result(value)
        else:
            call.set_exception(exception)
    except InvalidStateError:
        # Another thread has cancelled it meanwhile, without waiting for us: that counts.
        pass


def _admits(minimum: dict[str, int], shape: Shape) -> bool:
    return all(shape.resources.scalars.get(name, 0) >= least for name, least in minimum.items())
