"""What the blocking and the asyncio scheduler driver have in common: everything but waiting, and awaiting callbacks.

The driver's loop is a generator that yields each call to be made: the scheduler's callbacks, and the wait when there is nothing
else to do. The subclass makes the call, awaits the result or not, and goes on. The generator itself calls nothing of the
scheduler's, because a `StopIteration` raised inside a generator would become another error.

One turn reads what is there, calls back, and sends everything that came of it, so a thousand statuses cost one acknowledgement
and one frame.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import zmq

from offerd.core.scheduler_core import Action, Answer, Call, Deliver, End, SchedulerCore, Send
from offerd.drivers.callbacks import authors_lines
from offerd.drivers.orders import Order, Orders
from offerd.errors import FrameworkError, KeyRefused, MasterUnreachable, MessageTooLarge, OfferdError
from offerd.ids import FrameworkID
from offerd.masters.absence import QUIET_S, MasterWatch
from offerd.masters.clusters import Where, resolve
from offerd.masters.leader import SCHEME, patience_s, unreachable
from offerd.masters.master_client import MasterClient
from offerd.messages import FrameworkInfo, GuaranteedShare, Message, Reason, RegisterFramework
from offerd.operator_messages import Waiting
from offerd.values.failures import describe, text_of
from offerd.values.screen_text import printable
from offerd.wire import codec

log = logging.getLogger("offerd.driver")

CONNECT_TIMEOUT_S = 10.0

MASTER_UNREACHABLE = "MASTER_UNREACHABLE"
CALLBACK_RAISED = "CALLBACK_RAISED"
"""Reasons of `Scheduler.error` that are the driver's own; the others are the master's."""

STOP_LINGER_MS = 2_000
"""How long the last frame, with the teardown, may take to be sent."""
FLUSH_AFTER_MESSAGES = 256
"""After so many messages, send what they have caused before handling more: a reply waits for no more than these."""

Step = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""The name of a callback, or ""; the function that the subclass is to call before it goes on; its arguments."""
Steps = Iterator[Step]


class _Flag(Protocol):
    """An event for threads or for coroutines."""

    def set(self) -> None: ...


class _Question(Protocol):
    """A future for threads or for coroutines."""

    def set_result(self, answer: Any, /) -> None: ...
    def set_exception(self, error: BaseException, /) -> None: ...
    def exception(self) -> BaseException | None: ...


class DriverBase(Orders):
    """A scheduler's driver that cannot wait yet: a subclass implements `_wake` and `_wait`, and runs `_take_turns`.

    Arguments and errors are those of `SchedulerDriver`.
    """

    _registered: _Flag
    """Set once a master has answered, or the driver has ended."""

    def __init__(
        self,
        scheduler: Any,
        framework: FrameworkInfo,
        master: Where,
        *,
        connect_timeout_s: float | None,
        stands_by: bool,
    ) -> None:
        self.scheduler = scheduler
        """The scheduler that the driver calls."""
        self.address, self._keys, _ = resolve(master)
        super().__init__(framework, stands_by=stands_by, finds_leader=self.address.startswith(SCHEME))
        self._connect_timeout_s = patience_s(self.address) if connect_timeout_s is None else connect_timeout_s
        self._orders: deque[tuple[Order | None, tuple[Any, ...]]] = deque()
        """For the loop: methods of the core with their arguments; None: any function, which comes first in the arguments."""
        self._questions: dict[type, deque[_Question]] = {GuaranteedShare: deque(), Waiting: deque()}
        self._is_ending = False
        self._is_silent = False
        self._has_ended = False
        self._must_teardown = False
        self._must_follow = True
        """The connection may have changed since it was last looked at."""
        self._joining = 0
        """How many callers wait in `join` or the like; what ends the driver is raised there."""
        self._client: MasterClient[codec.ToScheduler]

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """End the wait: there is an order, or the driver is to end."""
        raise NotImplementedError

    def _wait(self, deadline: float) -> Any:
        """Wait until there is something to read or to do, or until the deadline."""
        raise NotImplementedError

    def _let_others_run(self) -> Any:
        """Called between two batches of one turn."""

    def _timed(self) -> Steps:
        """The timed calls that are due."""
        return iter(())

    # -- life ---------------------------------------------------------------------------------------------------------

    def stop(self, failover: bool = False) -> None:
        """End the driver; returns at once, and `join` waits for the end. The framework ends with it and its tasks are killed,
        unless `failover`: then its tasks go on, and the next scheduler that stands by takes over, or one that comes within the
        framework's `failover_timeout_s`.
        """
        self._must_teardown = not failover
        self._is_ending = True
        self._wake()

    def abort(self) -> None:
        """End the driver without another callback or message. The master takes it for a crash of the scheduler."""
        self._is_silent = True
        self._is_ending = True
        self._wake()

    @property
    def framework_id(self) -> FrameworkID:
        """The id that the master gave this framework; empty until registered."""
        return self._core.framework_id

    @property
    def is_registered(self) -> bool:
        """Whether a master knows this framework now, and this scheduler is its active one."""
        return self._core.is_registered

    # -- questions ----------------------------------------------------------------------------------------------------

    def _put_question(self, kind: type, future: _Question, question: Order, *arguments: Any) -> None:
        """Ask the master; `future` gets its answer, of this `kind`, or an `OfferdError`."""
        self._order(self._ask, kind, future, question, *arguments)
        if self._has_ended:
            self._drop_questions("the driver has ended")

    def _ask(self, kind: type, future: _Question, question: Order, *arguments: Any) -> list[Action]:
        if not self._core.is_registered:
            _refuse(future, f"not registered with a master at {self.address}; ask again later")
            return []
        self._questions[kind].append(future)
        return question(*arguments)

    def _settle(self, answer: GuaranteedShare | Waiting) -> None:
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
                _refuse(questions.popleft(), why)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _order(self, method: Order | None, *arguments: Any) -> None:
        self._orders.append((method, arguments))
        self._wake()

    @contextlib.contextmanager
    def _connected(self, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[None]:
        """Open the socket to the master. If something is raised meanwhile, nothing more is sent."""
        self._client = MasterClient(context, self.address, codec.to_scheduler, self._keys)
        try:
            yield
        except BaseException:
            self._is_silent = True
            raise
        finally:
            self._client.socket.setsockopt(zmq.LINGER, 0 if self._is_silent else STOP_LINGER_MS)
            self._client.close()

    def _ended(self) -> None:
        """The driver has ended: nobody may go on waiting."""
        self._is_ending = self._has_ended = True
        self._registered.set()
        self._drop_questions("the driver has ended")

    def _take_turns(self) -> Steps:
        core = self._core
        give_up_at, watch = time.monotonic() + self._connect_timeout_s, MasterWatch()
        yield from self._carry_out_orders()  # what was ordered before the start is in the first registration
        yield from self._perform(core.start(time.monotonic()))
        while not self._is_ending:
            yield from self._turn()
            # After the turn, as messages that the lost connection still brought count. Nothing else of that master's does.
            if self._must_follow and (yield from self._follow()):
                continue
            if not core.was_registered and time.monotonic() >= give_up_at:
                raise MasterUnreachable(self._client.link.fault() or unreachable(self.address, watch.why))
            self._say_absence(watch)
            deadline = min(core.next_deadline(), watch.next_deadline())
            if not core.was_registered:
                deadline = min(deadline, give_up_at)
            yield "", self._wait, (deadline,)
        if not self._is_silent:
            yield from self._carry_out_orders()
            yield from self._flush()
            leave = core.teardown if self._must_teardown else core.fail_over
            yield from self._perform(leave(time.monotonic()))
            yield from self._flush()

    def _say_absence(self, watch: MasterWatch) -> None:
        for text in watch.turn(self._core.is_heard, self._client.peer):
            if self._core.was_registered or self._connect_timeout_s > QUIET_S:
                log.warning("%s", text)

    def _follow(self) -> Generator[Step, None, bool]:
        """Handle a connection made or lost, and another leader. Returns whether there was one: then we must register again."""
        has_changed = False
        for is_up in self._client.link.changes():
            has_changed = True
            yield from self._perform(self._core.link_changed(is_up, time.monotonic()))
        if not self._is_ending and self._client.follow():
            has_changed = True
            yield from self._perform(self._core.link_changed(False, time.monotonic()))
        return has_changed

    def _turn(self) -> Steps:
        """Read what is there, call back, carry out the resulting orders, and send."""
        core, handled = self._core, 0
        yield from self._carry_out_orders()
        for epoch, messages in self._client.drain():
            if not core.obeys(epoch):
                continue
            now = time.monotonic()
            for message in messages:
                yield from self._perform(_handled_or_lost(core, message, now))
                if self._is_ending:
                    return
            handled += len(messages)
            if handled >= FLUSH_AFTER_MESSAGES:
                handled = 0
                yield from self._carry_out_orders()
                yield from self._flush()
                yield "", self._let_others_run, ()
        yield from self._perform(core.tick(time.monotonic()))
        yield from self._timed()
        yield from self._carry_out_orders()
        yield from self._flush()

    def _carry_out_orders(self) -> Steps:
        orders = self._orders
        # Only those that are there now: a callback that always orders more must not keep the socket waiting.
        for _ in range(len(orders)):
            method, arguments = orders.popleft()
            if method is None:
                yield "", *arguments
            else:
                yield from self._perform(method(*arguments, time.monotonic()))

    def _flush(self) -> Steps:
        if self._is_silent:
            return
        for message in self._core.acknowledgements():
            self._client.send(message)
        unsent: list[tuple[Message, str]] = []
        if self._client.flush(lambda message, why: unsent.append((message, why))):
            # Without a connection nobody reads; the absence of the master is logged elsewhere.
            if self._client.link.is_up:
                log.warning("the master at %s reads too slowly: registering again", self.address)
            yield from self._perform(self._core.lose_master(time.monotonic()))
        if unsent:
            yield from self._perform(_not_sent(self._core, unsent, time.monotonic()))
            yield from self._flush()

    def _perform(self, actions: Iterable[Action]) -> Steps:
        scheduler, core = self.scheduler, self._core
        for action in actions:
            if self._is_silent:
                return
            match action:
                case Deliver():
                    yield "status_update", scheduler.status_update, (self, action.status)
                    core.delivered(action.status)
                case Send():
                    self._client.send(action.message)
                case Call():
                    self._before(action.callback)
                    yield action.callback, getattr(scheduler, action.callback), (self, *action.arguments)
                case Answer():
                    self._settle(action.message)
                case End():
                    raise FrameworkError(action.reason, action.message)

    def _before(self, callback: str) -> None:
        if callback in ("registered", "reregistered"):
            self._registered.set()
            if (cut_s := self._cut_s()) is not None:
                log.warning("the master cuts this framework's time-outs to %g s", cut_s)
        elif callback == "disconnected":
            self._drop_questions("the master is gone; ask again later")

    def _cut_s(self) -> float | None:
        """How long the master lets this framework be without a scheduler, or its tasks without their slave, if that is shorter
        than the framework asks for; else None.
        """
        most_s, info = self._core.max_failover_s, self.framework
        return most_s if 0 < most_s < max(info.failover_timeout_s, info.unreachable_timeout_s) else None

    def _say_end(self, error: BaseException, base: type, *, logs_callbacks: bool) -> tuple[str, str]:
        """Log what ended the driver: a refusal or a missing master if nobody waits and `error` is not overridden, a callback's
        error if `logs_callbacks`. Returns reason and text for `error`.
        """
        reason, text = _reason_of(error), text_of(error)
        if reason == CALLBACK_RAISED:
            error.__traceback__ = authors_lines(error.__traceback__)
            if logs_callbacks:
                log.error("a callback of %s raised", type(self.scheduler).__name__, exc_info=error)
        elif not self._joining and type(self.scheduler).error is vars(base)["error"]:
            log.error("the driver has ended: %s", text)  # nothing else would report it
        return reason, text


def _refuse(question: _Question, why: str) -> None:
    question.set_exception(OfferdError(why))
    question.exception()  # retrieved, as nobody may wait for it any more


def _reason_of(error: BaseException) -> str:
    """The reason that `Scheduler.error` is given for what ended a driver."""
    if isinstance(error, FrameworkError):
        return error.reason
    if isinstance(error, KeyRefused):
        return Reason.NOT_AUTHORIZED
    return MASTER_UNREACHABLE if isinstance(error, MasterUnreachable) else CALLBACK_RAISED


def _handled_or_lost(core: SchedulerCore, message: Message, now: float) -> list[Action]:
    """Handle a message from the master. An error in our handling costs the registration and no more."""
    try:
        return core.handle(message, now)
    except Exception as error:  # marked: one message must not end the scheduler; callbacks come later
        log.error("a message from the master could not be handled: %s", describe(message, error))
        return core.failed(now)


def _not_sent(core: SchedulerCore, unsent: Sequence[tuple[Message, str]], now: float) -> list[Action]:
    """Messages that do not fit into a frame, each with the reason: their orders fail, and nothing else.

    Raises `MessageTooLarge` for a registration, as nothing works without it.
    """
    actions: list[Action] = []
    for message, why in unsent:
        if isinstance(message, RegisterFramework):
            raise MessageTooLarge(why)
        log.error("an order cannot be sent: %s", printable(why))
        actions += core.not_sent(message, why, now)
    return actions
