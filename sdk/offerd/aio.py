"""The scheduler driver for asyncio: the same core and orders, in the event loop's own thread.

It reads ZeroMQ's descriptor with `loop.add_reader` and drains the socket in batches; `zmq.asyncio`, which makes a future
of every receive, is several times slower. Callbacks may be coroutines; the next one waits until they are done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import Any, Self

import zmq

from offerd import codec
from offerd.absence import QUIET_S, MasterWatch
from offerd.callbacks import authors_lines, check_callbacks
from offerd.clusters import Where, resolve
from offerd.errors import FrameworkError, MasterUnreachable, OfferdError
from offerd.failures import text_of
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
from offerd.leader import SCHEME, patience_s, unreachable
from offerd.master_client import MasterClient
from offerd.messages import FrameworkInfo, GuaranteedShare, Message, Offer, TaskStatus
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
from offerd.resources import Resources
from offerd.scheduler_core import Action, Answer, Call, Deliver, End, Send
from offerd.transport import new_context
from offerd.workers import check_threads

log = logging.getLogger("offerd.driver")

MaybeAwaitable = Awaitable[None] | None


class AsyncScheduler:
    """The callbacks of `offerd.Scheduler`, each of which may be `async def`. All do nothing unless overridden."""

    def resource_offers(self, driver: AsyncSchedulerDriver, offers: list[Offer]) -> MaybeAwaitable:
        """Answer every offer, with `driver.reply_to_offer` or `driver.decline_offer`."""

    def offer_rescinded(self, driver: AsyncSchedulerDriver, offer_id: OfferID) -> MaybeAwaitable:
        """Forget this offer."""

    def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> MaybeAwaitable:
        """Acknowledged when this is done; one terminal status per task."""

    def slave_lost(self, driver: AsyncSchedulerDriver, slave_id: SlaveID) -> MaybeAwaitable:
        """A slave is gone."""

    def revocation_notice(
        self, driver: AsyncSchedulerDriver, task_ids: list[str], grace_s: float
    ) -> MaybeAwaitable:
        """Give up as much as these tasks hold, or some of them are killed after the grace."""

    def registered(
        self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
    ) -> MaybeAwaitable:
        """The master knows this framework now."""

    def reregistered(self, driver: AsyncSchedulerDriver, master_id: str) -> MaybeAwaitable:
        """The master, or a new one, is back."""

    def standing_by(
        self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
    ) -> MaybeAwaitable:
        """Another scheduler of this framework is active; see `Scheduler.standing_by`."""

    def disconnected(self, driver: AsyncSchedulerDriver) -> MaybeAwaitable:
        """The master is silent; the driver keeps trying."""

    def executor_lost(
        self,
        driver: AsyncSchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> MaybeAwaitable:
        """An executor ended."""

    def framework_message(
        self, driver: AsyncSchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> MaybeAwaitable:
        """Bytes from an executor."""

    def error(self, driver: AsyncSchedulerDriver, reason: str, message: str) -> MaybeAwaitable:
        """The end of this driver; see `Scheduler.error`."""


class AsyncSchedulerDriver(Orders):
    """Connects `scheduler` to the master, within a running event loop.

        async with AsyncSchedulerDriver(MyScheduler(), FrameworkInfo("my framework", executors=[...])) as driver:
            await driver.join()

    Leaving the block stops it. Orders are plain functions, called from the loop's thread only. The arguments and errors
    are those of `SchedulerDriver`.
    """

    def __init__(
        self,
        scheduler: AsyncScheduler,
        framework: FrameworkInfo,
        master: Where = None,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        stands_by: bool = False,
    ) -> None:
        check_callbacks(scheduler, AsyncScheduler, may_be_coroutines=True)
        self.scheduler = scheduler
        self.address, self._keys, _ = resolve(master)
        super().__init__(framework, stands_by=stands_by, finds_leader=self.address.startswith(SCHEME))
        self._connect_timeout_s = patience_s(self.address) if connect_timeout_s is None else connect_timeout_s
        self._orders: deque[tuple[Order, tuple[Any, ...]]] = deque()
        self._questions: dict[type, deque[asyncio.Future[Any]]] = {GuaranteedShare: deque(), Waiting: deque()}
        self._ready = asyncio.Event()
        self._registered = asyncio.Event()
        self._is_ending = False
        self._is_silent = False
        self._must_teardown = False
        self._joining = 0  # who waits, and is told what went wrong by what is raised there
        self._task: asyncio.Task[None] | None = None
        self._client: MasterClient[codec.ToScheduler]

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in a task of the running loop."""
        if self._task is not None:
            raise OfferdError("this driver was started already; make a new one")
        check_threads("the driver")
        self._task = asyncio.get_running_loop().create_task(self._live(), name="offerd-scheduler")

    async def wait_registered(self) -> FrameworkID:
        """Wait until the master knows this framework; returns its id. Raises what ended the driver."""
        self._joining += 1
        try:
            await self._registered.wait()
        finally:
            self._joining -= 1
        if not self._core.was_registered:
            await self.join()
            raise OfferdError("the driver was stopped before a master had answered")
        return self._core.framework_id

    async def join(self) -> None:
        """Wait for the end; raises what `SchedulerDriver.join` raises."""
        if self._task is None:
            raise OfferdError("this driver was not started; call start() or run()")
        self._joining += 1
        try:
            await asyncio.shield(self._task)
        finally:
            self._joining -= 1

    async def run(self) -> None:
        """`start` and `join`; to cancel this is to abort the driver."""
        self.start()
        assert self._task is not None
        self._joining += 1
        try:
            await self._task
        finally:
            self._joining -= 1

    def stop(self, failover: bool = False) -> None:
        """End. The framework's tasks are killed, unless `failover`: then the next scheduler that stands by takes over, or the
        tasks wait for one. `join` waits.
        """
        self._must_teardown = not failover
        self._is_ending = True
        self._ready.set()

    def abort(self) -> None:
        """End without another callback or message."""
        self._is_silent = True
        self._is_ending = True
        self._ready.set()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            await self.join()
        elif self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # seen: the error on its way out is the one that counts

    @property
    def framework_id(self) -> FrameworkID:
        """The master's name for this framework; empty until registered."""
        return self._core.framework_id

    @property
    def is_registered(self) -> bool:
        return self._core.is_registered

    # -- questions ----------------------------------------------------------------------------------------------------

    async def get_guaranteed_share(self, timeout_s: float | None = 5.0) -> Resources:
        """What this framework may hold without ever losing a task. Not from a callback. Raises `OfferdError`."""
        share: Resources = await self._question(timeout_s, GuaranteedShare, self._core.ask_guaranteed_share)
        return share

    async def explain_waiting(
        self,
        wanted: Resources,
        time_limit_s: float | None = None,
        timeout_s: float | None = 5.0,
        *,
        count: int = 1,
        per_slave: int = 0,
    ) -> Waiting:
        """Why no resources come for a task of this size and time limit, or for `count` of them that must all run at once, at
        most `per_slave` on one slave (0: as many as fit). Not from a callback. Raises `OfferdError`.
        """
        asked = (wanted, time_limit_s, count, per_slave)
        why: Waiting = await self._question(timeout_s, Waiting, self._core.ask_waiting, *asked)
        return why

    async def _question(self, timeout_s: float | None, kind: type, question: Order, *arguments: Any) -> Any:
        if self._task is None or self._task.done():
            raise OfferdError("the driver does not run; call start() first")
        if asyncio.current_task() is self._task:
            raise OfferdError("a callback cannot wait for the master; ask in a task of your own")
        if not self._core.is_registered:
            raise OfferdError(f"not registered with a master at {self.address}; ask again later")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._questions[kind].append(future)
        self._order(question, *arguments)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            raise OfferdError(unreachable(self.address)) from None

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _order(self, method: Order, *arguments: Any) -> None:
        self._orders.append((method, arguments))
        self._ready.set()

    async def _live(self) -> None:
        context = new_context()
        try:
            self._client = MasterClient(context, self.address, codec.to_scheduler, self._keys)
            try:
                await self._take_turns()
            except BaseException:
                self._is_silent = True
                raise
            finally:
                self._client.socket.setsockopt(zmq.LINGER, 0 if self._is_silent else STOP_LINGER_MS)
                self._client.close()
        except Exception as error:
            await self._tell(error)
            raise
        finally:
            self._is_ending = True
            self._registered.set()
            self._drop_questions("the driver has ended")
            # Waits for what is still to be sent; nothing is if we were cancelled or failed.
            if self._is_silent:
                context.term()
            else:
                await asyncio.to_thread(context.term)

    async def _take_turns(self) -> None:
        give_up_at, watch = time.monotonic() + self._connect_timeout_s, MasterWatch()
        await self._carry_out_orders()  # what was wished before goes with the hello
        await self._perform(self._core.start(time.monotonic()))
        while not self._is_ending:
            self._ready.clear()
            await self._turn()
            if self._client.follow():
                await self._perform(self._core.link_changed(False, time.monotonic()))
            for is_up in self._client.link.changes():
                await self._perform(self._core.link_changed(is_up, time.monotonic()))
                self._ready.set()
            if not self._core.was_registered and time.monotonic() >= give_up_at:
                raise MasterUnreachable(self._client.link.fault() or unreachable(self.address, watch.why))
            for text in watch.turn(self._core.is_heard, self._client.peer):
                if self._core.was_registered or self._connect_timeout_s > QUIET_S:
                    log.warning("%s", text)
            deadline = min(self._core.next_deadline(), watch.next_deadline())
            await self._sleep(deadline if self._core.was_registered else min(deadline, give_up_at))
        if not self._is_silent:
            await self._carry_out_orders()
            await self._flush()
            leave = self._core.teardown if self._must_teardown else self._core.fail_over
            await self._perform(leave(time.monotonic()))
            await self._flush()

    async def _sleep(self, deadline: float) -> None:
        """Until there is something to read or to do.

        ZeroMQ's descriptor tells of a change once, and any call on the socket, also a send, may take it: so its own word
        is asked after the last send. It is watched only while we sleep: during a slow callback it would stay readable and
        keep the loop spinning.
        """
        sockets, loop = (self._client.socket, self._client.link.socket), asyncio.get_running_loop()
        if self._ready.is_set() or any(socket.poll(0) for socket in sockets):
            await asyncio.sleep(0)
            return
        fds = [socket.fileno() for socket in sockets]
        if self._client.detector is not None:
            fds.append(self._client.detector.fd)
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._ready.set)
        for fd in fds:
            loop.add_reader(fd, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            for fd in fds:
                loop.remove_reader(fd)
            timer.cancel()

    async def _turn(self) -> None:
        core, handled = self._core, 0
        await self._carry_out_orders()
        for epoch, messages in self._client.drain():
            if not core.obeys(epoch):
                continue
            now = time.monotonic()
            for message in messages:
                await self._perform(handled_or_lost(core, message, now))
                if self._is_ending:
                    return
            handled += len(messages)
            if handled >= FLUSH_AFTER_MESSAGES:
                handled = 0
                await self._carry_out_orders()
                await self._flush()
                await asyncio.sleep(0)
        await self._perform(core.tick(time.monotonic()))
        await self._carry_out_orders()
        await self._flush()

    async def _carry_out_orders(self) -> None:
        orders = self._orders
        for _ in range(len(orders)):
            method, arguments = orders.popleft()
            await self._perform(method(*arguments, time.monotonic()))

    async def _flush(self) -> None:
        for message in self._core.acknowledgements():
            self._client.send(message)
        unsent: list[tuple[Message, str]] = []
        if self._client.flush(lambda message, why: unsent.append((message, why))):
            # Without a connection nobody reads: what there is to say of that is said elsewhere.
            if self._client.link.is_up:
                log.warning("the master at %s reads too slowly: registering again", self.address)
            await self._perform(self._core.lose_master(time.monotonic()))
        if unsent:
            await self._perform(not_sent(self._core, unsent, time.monotonic()))
            await self._flush()

    async def _perform(self, actions: Iterable[Action]) -> None:
        scheduler, core = self.scheduler, self._core
        for action in actions:
            if self._is_silent:
                return
            match action:
                case Deliver():
                    result = scheduler.status_update(self, action.status)
                    if result is not None:
                        await result
                    core.delivered(action.status)
                case Send():
                    self._client.send(action.message)
                case Call():
                    await self._call(action)
                case Answer():
                    self._settle(action.message)
                case End():
                    raise FrameworkError(action.reason, action.message)

    async def _call(self, call: Call) -> None:
        if call.callback in ("registered", "reregistered"):
            self._registered.set()
            if (cut_s := self._cut_s()) is not None:
                log.warning("the master cuts this framework's time-outs to %g s", cut_s)
        elif call.callback == "disconnected":
            self._drop_questions("the master is gone; ask again later")
        result = getattr(self.scheduler, call.callback)(self, *call.arguments)
        if result is not None:
            await result

    def _settle(self, answer: GuaranteedShare | Waiting) -> None:
        questions = self._questions[type(answer)]
        if questions:
            questions.popleft().set_result(
                answer.resources if isinstance(answer, GuaranteedShare) else answer
            )

    def _drop_questions(self, why: str) -> None:
        for questions in self._questions.values():
            while questions:
                future = questions.popleft()
                future.set_exception(OfferdError(why))
                future.exception()  # seen: who asked may have given up

    async def _tell(self, error: Exception) -> None:
        reason = reason_of(error)
        if reason == CALLBACK_RAISED:
            error.__traceback__ = authors_lines(error.__traceback__)
            log.error("a callback of %s raised", type(self.scheduler).__name__, exc_info=error)
        elif not self._joining and type(self.scheduler).error is AsyncScheduler.error:
            log.error("the driver has ended: %s", text_of(error))  # or nobody would hear of it
        try:
            result = self.scheduler.error(self, reason, text_of(error))
            if result is not None:
                await result
        except Exception as second:  # marked: the scheduler's own code; the first error is the one to raise
            log.error("and its error() raised too", exc_info=second)
