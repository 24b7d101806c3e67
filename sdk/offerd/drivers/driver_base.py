"""What the blocking and the asyncio scheduler driver have in common: all but how one waits, and who awaits.

The driver's loop is a generator that yields what is to be called: the scheduler's callbacks, and the wait when there is nothing
else to do. Whoever runs it calls that, awaits what comes back or not, and goes on. Nothing of the scheduler's is called in the
generator itself, where a `StopIteration` would become another error.

One turn reads what is there, calls back, and writes everything that came of it, so that a thousand statuses cost one
acknowledgement and one frame.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

import zmq

from offerd.core.scheduler_core import Action, Answer, Call, Deliver, End, Send
from offerd.credentials.clusters import Where, resolve
from offerd.daemons.failures import text_of
from offerd.drivers.callbacks import authors_lines
from offerd.drivers.orders import CALLBACK_RAISED, Order, Orders, handled_or_lost, not_sent, reason_of
from offerd.errors import FrameworkError, MasterUnreachable, OfferdError
from offerd.ids import FrameworkID
from offerd.masters.absence import QUIET_S, MasterWatch
from offerd.masters.leader import SCHEME, patience_s, unreachable
from offerd.masters.master_client import MasterClient
from offerd.messages import FrameworkInfo, GuaranteedShare, Message
from offerd.operator_messages import Waiting
from offerd.wire import codec

log = logging.getLogger("offerd.driver")

STOP_LINGER_MS = 2_000
"""How long the last frame, the teardown, may take to leave the process."""
FLUSH_AFTER_MESSAGES = 256
"""Messages handled before what came of them is sent: a reply waits for no more than these."""

Step = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""The name of a callback, or none; what whoever runs the loop is to call before it goes on; with these arguments."""
Steps = Iterator[Step]


class _Flag(Protocol):
    """An event of threads or of coroutines."""

    def set(self) -> None: ...


class _Question(Protocol):
    """A future of threads or of coroutines."""

    def set_result(self, answer: Any, /) -> None: ...
    def set_exception(self, error: BaseException, /) -> None: ...
    def exception(self) -> BaseException | None: ...


class DriverBase(Orders):
    """A scheduler's driver without a way to wait: a subclass has `_wake` and `_wait`, and runs `_take_turns`.

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
        """To be carried out by the loop: the core's methods and their arguments; None: any function, and its arguments."""
        self._questions: dict[type, deque[_Question]] = {GuaranteedShare: deque(), Waiting: deque()}
        self._is_ending = False
        self._is_silent = False
        self._has_ended = False
        self._must_teardown = False
        self._must_follow = True
        """The connection may have changed since it was last asked."""
        self._joining = 0
        """Who waits, and is told what went wrong by what is raised there."""
        self._client: MasterClient[codec.ToScheduler]

    # -- of a subclass ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """End the wait: there is an order, or the end."""
        raise NotImplementedError

    def _wait(self, deadline: float) -> Any:
        """Until there is something to read or to do, or that time has come."""
        raise NotImplementedError

    def _let_others_run(self) -> Any:
        """Between two batches of one turn."""

    def _timed(self) -> Steps:
        """What is due."""
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
        """The master's name for this framework; empty until registered."""
        return self._core.framework_id

    @property
    def is_registered(self) -> bool:
        """Whether a master knows this framework now, and this scheduler is its active one."""
        return self._core.is_registered

    # -- questions ----------------------------------------------------------------------------------------------------

    def _put_question(self, kind: type, future: _Question, question: Order, *arguments: Any) -> None:
        """Have the master asked; `future` gets an answer of that `kind`, or an `OfferdError`."""
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
        """The master's socket; what is raised meanwhile ends it without another word."""
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
        """Nobody is left to wait in vain."""
        self._is_ending = self._has_ended = True
        self._registered.set()
        self._drop_questions("the driver has ended")

    def _take_turns(self) -> Steps:
        core = self._core
        give_up_at, watch = time.monotonic() + self._connect_timeout_s, MasterWatch()
        yield from self._carry_out_orders()  # what was wished before goes with the hello
        yield from self._perform(core.start(time.monotonic()))
        while not self._is_ending:
            yield from self._turn()
            # After the turn: what the lost connection still brought counts, and after it nothing of that master's holds.
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
        """Whether the connection was made or lost, or another master leads: that one has to be told who we are."""
        has_changed = False
        for is_up in self._client.link.changes():
            has_changed = True
            yield from self._perform(self._core.link_changed(is_up, time.monotonic()))
        if not self._is_ending and self._client.follow():
            has_changed = True
            yield from self._perform(self._core.link_changed(False, time.monotonic()))
        return has_changed

    def _turn(self) -> Steps:
        """Read what is there, call back, carry out the orders that came of it, write."""
        core, handled = self._core, 0
        yield from self._carry_out_orders()
        for epoch, messages in self._client.drain():
            if not core.obeys(epoch):
                continue
            now = time.monotonic()
            for message in messages:
                yield from self._perform(handled_or_lost(core, message, now))
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
        # Not more than are there now: a callback that always orders more must not keep the socket waiting.
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
            # Without a connection nobody reads: what there is to say of that is said elsewhere.
            if self._client.link.is_up:
                log.warning("the master at %s reads too slowly: registering again", self.address)
            yield from self._perform(self._core.lose_master(time.monotonic()))
        if unsent:
            yield from self._perform(not_sent(self._core, unsent, time.monotonic()))
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

    def _say_end(self, error: BaseException, base: type, *, logs_callbacks: bool) -> tuple[str, str]:
        """The end, by refusal, for want of a master or by a callback, is said in the log: where nobody waits and no `error` but
        that of `base` hears of it, and what a callback has raised if `logs_callbacks`. Returns what `error` is to be told.
        """
        reason, text = reason_of(error), text_of(error)
        if reason == CALLBACK_RAISED:
            error.__traceback__ = authors_lines(error.__traceback__)
            if logs_callbacks:
                log.error("a callback of %s raised", type(self.scheduler).__name__, exc_info=error)
        elif not self._joining and type(self.scheduler).error is vars(base)["error"]:
            log.error("the driver has ended: %s", text)  # or nobody would hear of it
        return reason, text


def _refuse(question: _Question, why: str) -> None:
    question.set_exception(OfferdError(why))
    question.exception()  # seen: who asked may have given up
