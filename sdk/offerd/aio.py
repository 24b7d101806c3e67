"""The scheduler driver for asyncio: the same core and orders, in the event loop's own thread.

It reads ZeroMQ's descriptor with `loop.add_reader` and drains the socket in batches: `zmq.asyncio` makes a future for every
message received, and is several times slower. Callbacks may be coroutines; the next one waits until they are done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from offerd.drivers.callbacks import check_callbacks
from offerd.drivers.driver_base import CONNECT_TIMEOUT_S, DriverBase
from offerd.drivers.orders import Order
from offerd.errors import OfferdError
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
from offerd.masters.clusters import Where
from offerd.masters.leader import unreachable
from offerd.messages import FrameworkInfo, GuaranteedShare, Offer, TaskStatus
from offerd.operator_messages import Waiting
from offerd.resources import Resources
from offerd.wire.transport import new_context
from offerd.workers import check_threads

log = logging.getLogger("offerd.driver")

MaybeAwaitable = Awaitable[None] | None


class AsyncScheduler:
    """The callbacks of `Scheduler`, which describes them; each may be `async def`. The next one waits until it is done."""

    def resource_offers(self, driver: AsyncSchedulerDriver, offers: list[Offer]) -> MaybeAwaitable:
        """Free resources. Answer every offer with `driver.reply_to_offer` or `driver.decline_offer`."""

    def offer_rescinded(self, driver: AsyncSchedulerDriver, offer_id: OfferID) -> MaybeAwaitable:
        """The master has taken back an offer that was not answered."""

    def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> MaybeAwaitable:
        """A task is in another state. The status is acknowledged when this is done."""

    def slave_lost(self, driver: AsyncSchedulerDriver, slave_id: SlaveID) -> MaybeAwaitable:
        """A slave is lost."""

    def revocation_notice(
        self, driver: AsyncSchedulerDriver, task_ids: list[str], grace_s: float
    ) -> MaybeAwaitable:
        """End tasks that hold as much as these, or some of these are killed after `grace_s` seconds."""

    def registered(
        self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
    ) -> MaybeAwaitable:
        """The master has registered this framework."""

    def reregistered(self, driver: AsyncSchedulerDriver, master_id: str) -> MaybeAwaitable:
        """A master is back after `disconnected`, the same one or a new one."""

    def standing_by(
        self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
    ) -> MaybeAwaitable:
        """Another scheduler of this framework is active."""

    def disconnected(self, driver: AsyncSchedulerDriver) -> MaybeAwaitable:
        """The master is silent; the driver keeps trying to connect."""

    def executor_lost(
        self,
        driver: AsyncSchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> MaybeAwaitable:
        """An executor of this framework ended."""

    def framework_message(
        self, driver: AsyncSchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> MaybeAwaitable:
        """Bytes from one of the framework's executors."""

    def error(self, driver: AsyncSchedulerDriver, reason: str, message: str) -> MaybeAwaitable:
        """The driver ends; `reason` and `message` say why."""


class AsyncSchedulerDriver(DriverBase):
    """Connects `scheduler` to the master, within a running event loop.

        async with AsyncSchedulerDriver(MyScheduler(), FrameworkInfo("my framework", executors=[...])) as driver:
            await driver.join()

    Leaving the block stops it. Orders are plain functions, to be called in the loop's thread only. The arguments and errors
    are those of `SchedulerDriver`.
    """

    scheduler: AsyncScheduler
    _registered: asyncio.Event

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
        super().__init__(
            scheduler, framework, master, connect_timeout_s=connect_timeout_s, stands_by=stands_by
        )
        self._ready = asyncio.Event()
        self._registered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in a task of the running event loop. Raises `OfferdError` if that was done before."""
        if self._task is not None:
            raise OfferdError("this driver was started already; make a new one")
        check_threads("the driver")
        self._task = asyncio.get_running_loop().create_task(self._live(), name="offerd-scheduler")

    async def wait_registered(self) -> FrameworkID:
        """Wait until the master knows this framework, and return its id. Raises what ended the driver."""
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
        """Wait for the driver's end; raises what `SchedulerDriver.join` raises."""
        if self._task is None:
            raise OfferdError("this driver was not started; call start() or run()")
        self._joining += 1
        try:
            await asyncio.shield(self._task)
        finally:
            self._joining -= 1

    async def run(self) -> None:
        """`start`, then `join`. Cancelling this aborts the driver."""
        self.start()
        assert self._task is not None
        self._joining += 1
        try:
            await self._task
        finally:
            self._joining -= 1

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
                self._task.exception()  # retrieved; the caller gets the error that left the block

    # -- questions ----------------------------------------------------------------------------------------------------

    async def get_guaranteed_share(self, timeout_s: float | None = 5.0) -> Resources:
        """How much this framework may hold without losing a task to others. Not in a callback, which would wait for itself.
        Raises `OfferdError` if no answer comes within `timeout_s` seconds (None: waits without end).
        """
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
        """Why no resources come for a task that needs `wanted`, with this time limit in seconds; or for `count` tasks that
        must run at the same time, at most `per_slave` on one slave (0: as many as fit). Not in a callback. Raises
        `OfferdError` if no answer comes within `timeout_s` seconds.
        """
        asked = (wanted, time_limit_s, count, per_slave)
        why: Waiting = await self._question(timeout_s, Waiting, self._core.ask_waiting, *asked)
        return why

    async def _question(self, timeout_s: float | None, kind: type, question: Order, *arguments: Any) -> Any:
        if self._task is None or self._task.done():
            raise OfferdError("the driver is not running; call start() first")
        if asyncio.current_task() is self._task:
            raise OfferdError("a callback cannot wait for the master; ask in a task of your own")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put_question(kind, future, question, *arguments)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            raise OfferdError(unreachable(self.address)) from None

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._ready.set()

    async def _live(self) -> None:
        context = new_context()
        try:
            with self._connected(context):
                for _, function, arguments in self._take_turns():
                    result = function(*arguments)
                    if result is not None:
                        await result
        except Exception as error:
            await self._report_error(error)
            raise
        finally:
            self._ended()
            # Waits until everything has been sent. After a failure or a cancellation nothing is sent any more.
            if self._is_silent:
                context.term()
            else:
                await asyncio.to_thread(context.term)

    async def _wait(self, deadline: float) -> None:
        """Wait until a socket has something, an order wakes us, or the deadline.

        ZeroMQ's descriptor reports each change once, and any call on the socket, also a send, may consume the report: so the
        socket is polled after the last send. The descriptor is watched only during the wait: in a slow callback it would stay
        readable and keep the event loop spinning.
        """
        sockets, loop = (self._client.socket, self._client.link.socket), asyncio.get_running_loop()
        if self._ready.is_set() or any(socket.poll(0) for socket in sockets):
            await asyncio.sleep(0)
            self._ready.clear()
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
        self._ready.clear()

    async def _let_others_run(self) -> None:
        await asyncio.sleep(0)

    async def _report_error(self, error: Exception) -> None:
        reason, text = self._say_end(error, AsyncScheduler, logs_callbacks=True)
        try:
            result = self.scheduler.error(self, reason, text)
            if result is not None:
                await result
        except Exception as second:  # marked: the scheduler's own code; the first error is the one to raise
            log.error("the scheduler's error() raised, too", exc_info=second)
