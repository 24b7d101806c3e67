"""The asyncio driver: what differs from the blocking one, and that it has the same core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from helpers.fake_master import FakeMaster, InstantCluster
from offerd.aio import AsyncScheduler, AsyncSchedulerDriver
from offerd.errors import FrameworkError, OfferdError
from offerd.ids import ExecutorID, FrameworkID, PeerID, SlaveID, TaskID
from offerd.messages import (
    Acknowledge,
    Dropped,
    FrameworkInfo,
    FrameworkRefused,
    GetGuaranteedShare,
    GuaranteedShare,
    KillTask,
    NotRegistered,
    Offer,
    Reason,
    RegisterFramework,
    SetNeedsOffers,
    StatusUpdate,
    TaskInfo,
    TaskState,
    TaskStatus,
    TeardownFramework,
)
from offerd.operator_messages import ExplainWaiting, Waiting
from offerd.resources import Resources

F = FrameworkID("F-1")
CPU = Resources.of(cpus=1)
WAIT_S = 10.0


def finished(name: str) -> StatusUpdate:
    return StatusUpdate(F, TaskStatus(TaskID(name), TaskState.FINISHED, 1, slave_id=SlaveID("S-1")))


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    with FakeMaster() as fake:
        yield fake


def make(scheduler: AsyncScheduler, master: FakeMaster) -> AsyncSchedulerDriver:
    return AsyncSchedulerDriver(scheduler, FrameworkInfo("test"), master.address)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, WAIT_S))


async def off_loop(function: Any, *arguments: Any) -> Any:
    """Wait for the fake master without stopping the event loop."""
    return await asyncio.to_thread(function, *arguments)


class Counting(AsyncScheduler):
    """Launches `wanted` tasks and stops when all have ended; its callbacks really wait."""

    def __init__(self, wanted: int, pause_s: float | None = None) -> None:
        self.wanted = wanted
        self.launched = 0
        self.ended: list[TaskID] = []
        self.pause_s = pause_s
        self.inside = 0

    async def resource_offers(self, driver: AsyncSchedulerDriver, offers: list[Offer]) -> None:
        for offer in offers:
            count = min(10, self.wanted - self.launched)
            tasks = [
                TaskInfo(TaskID(str(self.launched + number)), Resources.of(cpus=0.1), ExecutorID("e"))
                for number in range(count)
            ]
            self.launched += count
            driver.reply_to_offer(offer.offer_id, tasks)
            await asyncio.sleep(0)

    async def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
        assert self.inside == 0, "two callbacks at once"
        self.inside += 1
        if self.pause_s is not None:
            await asyncio.sleep(self.pause_s)
        self.inside -= 1
        self.ended.append(status.task_id)
        if len(self.ended) == self.wanted:
            driver.stop()


@pytest.mark.parametrize("pause_s", [None, 0])
def test_tasks_run_and_each_ends_once(pause_s: float | None) -> None:
    with InstantCluster(Resources.of(cpus=1), slaves=2) as cluster:
        scheduler = Counting(500, pause_s)
        run(make(scheduler, cluster).run())
        assert sorted(scheduler.ended, key=int) == [str(number) for number in range(500)]
        cluster.expect(TeardownFramework)


def test_plain_callbacks_may_be_used_too(master: FakeMaster) -> None:
    class Plain(AsyncScheduler):
        def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
            driver.kill_task(TaskID("other"))
            driver.stop()

    async def use() -> None:
        async with make(Plain(), master) as driver:
            assert await driver.wait_registered() == F
            master.send(finished("t"))
            await driver.join()

    run(use())
    master.expect(KillTask)
    assert master.count(Acknowledge) == 1


def test_a_status_is_acknowledged_only_after_the_coroutine_is_done(master: FakeMaster) -> None:
    async def use() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        class Slow(AsyncScheduler):
            async def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
                begun.set()
                await go_on.wait()

        async with make(Slow(), master) as driver:
            await driver.wait_registered()
            master.send(finished("t"))
            await begun.wait()
            assert master.count(Acknowledge) == 0
            go_on.set()
            await off_loop(master.expect, Acknowledge)

    run(use())


def test_an_order_that_no_message_can_hold_fails_its_own_tasks(master: FakeMaster) -> None:
    async def use() -> None:
        statuses: asyncio.Queue[TaskStatus] = asyncio.Queue()

        class Noting(AsyncScheduler):
            def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
                statuses.put_nowait(status)

        async with make(Noting(), master) as driver:
            await driver.wait_registered()
            task = TaskInfo(TaskID("t"), CPU, ExecutorID("e"))
            driver.reply_to_offer([f"{number}{'o' * 100}" for number in range(20_000)], [task])
            status = await statuses.get()
            assert (status.state, status.reason) == (TaskState.ERROR, Reason.TASK_INVALID)
            driver.kill_task("other")
            await off_loop(master.expect, KillTask)

    run(use())


def test_the_loop_does_not_spin_while_a_callback_waits(master: FakeMaster) -> None:
    async def use() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        class Slow(AsyncScheduler):
            async def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
                begun.set()
                await go_on.wait()

        async with make(Slow(), master) as driver:
            await driver.wait_registered()
            master.send(finished("a"))
            await begun.wait()
            master.send(finished("b"))  # makes the descriptor readable
            before = time.thread_time()
            await asyncio.sleep(0.3)
            assert time.thread_time() - before < 0.1
            go_on.set()

    run(use())


def test_actions_wake_a_sleeping_driver(master: FakeMaster) -> None:
    async def use() -> None:
        async with make(AsyncScheduler(), master) as driver:
            await driver.wait_registered()
            for number in range(100):
                driver.kill_task(TaskID(str(number)))
                kill = await off_loop(master.expect, KillTask)
                assert kill.task_id == str(number)

    run(use())


def test_questions_are_awaited(master: FakeMaster) -> None:
    async def use() -> None:
        async with make(AsyncScheduler(), master) as driver:
            await driver.wait_registered()
            share = asyncio.create_task(driver.get_guaranteed_share())
            await off_loop(master.expect, GetGuaranteedShare)
            master.send(GuaranteedShare(CPU))
            assert await share == CPU
            why = asyncio.create_task(driver.explain_waiting(CPU))
            await off_loop(master.expect, ExplainWaiting)
            master.send(Waiting("no_slaves", "there are none"))
            assert (await why).why == "no_slaves"
            with pytest.raises(OfferdError, match="no offerd master answers"):
                await driver.get_guaranteed_share(timeout_s=0.01)
        with pytest.raises(OfferdError, match="is not running"):
            await driver.get_guaranteed_share()

    run(use())


class Forgetful(FakeMaster):
    """A task that is killed is reported as ended, and as unknown right after that."""

    def handle(self, peer: PeerID, message: Any) -> None:
        if isinstance(message, KillTask):
            self._server.send(peer, finished("t"))
            self._server.send(peer, NotRegistered())
        super().handle(peer, message)


def test_a_question_that_its_master_does_not_hear_is_not_asked_of_the_next() -> None:
    async def use(master: FakeMaster) -> None:
        begun, go_on, again = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Slow(AsyncScheduler):
            async def status_update(self, driver: AsyncSchedulerDriver, status: TaskStatus) -> None:
                begun.set()
                await go_on.wait()

            def reregistered(self, driver: AsyncSchedulerDriver, master_id: str) -> None:
                again.set()

        async with make(Slow(), master) as driver:
            await driver.wait_registered()
            driver.kill_task("t")
            await begun.wait()
            lost = asyncio.create_task(driver.explain_waiting(CPU))
            await asyncio.sleep(0)  # until it waits
            go_on.set()
            with pytest.raises(OfferdError, match="ask again later"):
                await lost
            await again.wait()
            why = asyncio.create_task(driver.explain_waiting(CPU))
            await off_loop(master.expect, ExplainWaiting)
            master.send(Waiting("no_slaves", "there are none"))
            assert (await why).why == "no_slaves"
        assert master.count(ExplainWaiting) == 1

    with Forgetful() as master:
        run(use(master))


def test_a_callback_that_waits_for_the_master_gets_an_error(master: FakeMaster) -> None:
    caught: list[str] = []

    class Waits(AsyncScheduler):
        async def registered(
            self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
        ) -> None:
            try:
                await driver.get_guaranteed_share()
            except OfferdError as error:
                caught.append(str(error))
            driver.stop()

    run(make(Waits(), master).run())
    assert "callback" in caught[0]


def test_a_callback_that_raises_ends_the_driver(master: FakeMaster, caplog: pytest.LogCaptureFixture) -> None:
    reported: list[str] = []

    class Fails(AsyncScheduler):
        async def registered(
            self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str
        ) -> None:
            raise ZeroDivisionError("in a callback")

        async def error(self, driver: AsyncSchedulerDriver, reason: str, message: str) -> None:
            reported.append(reason)

    with pytest.raises(ZeroDivisionError, match="in a callback"):
        run(make(Fails(), master).run())
    assert reported == ["CALLBACK_RAISED"]
    assert "callback of Fails raised" in caplog.text


def test_a_refusal_ends_the_driver(master: FakeMaster) -> None:
    class Refused(AsyncScheduler):
        def registered(self, driver: AsyncSchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
            master.send(FrameworkRefused(Reason.FRAMEWORK_REMOVED, "go away"))

    with pytest.raises(FrameworkError, match="go away"):
        run(make(Refused(), master).run())


def test_an_end_that_nothing_else_reports_is_in_the_log(
    master: FakeMaster, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        async with make(AsyncScheduler(), master) as driver:
            await driver.wait_registered()
            master.send(Dropped("it sent nonsense"))
            while not caplog.messages:
                await asyncio.sleep(0.01)

    with pytest.raises(FrameworkError, match="it sent nonsense"):
        run(use())
    assert caplog.messages == [
        "the driver has ended: the master has closed the connection to this scheduler: it sent nonsense"
    ]


def test_no_master_is_one_clear_error() -> None:
    driver = AsyncSchedulerDriver(AsyncScheduler(), FrameworkInfo("x"), "127.0.0.1:1", connect_timeout_s=0.05)
    with pytest.raises(OfferdError, match="no offerd master answers"):
        run(driver.run())


def test_to_cancel_run_is_to_abort(master: FakeMaster) -> None:
    async def use() -> None:
        driver = make(AsyncScheduler(), master)
        running = asyncio.create_task(driver.run())
        await driver.wait_registered()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(use())
    assert master.count(TeardownFramework) == 0


def test_a_master_that_dies_is_reported_at_once_and_a_new_one_is_found(master: FakeMaster) -> None:
    async def use() -> None:
        gone, again = asyncio.Event(), asyncio.Event()

        class Returns(AsyncScheduler):
            async def disconnected(self, driver: AsyncSchedulerDriver) -> None:
                gone.set()

            async def reregistered(self, driver: AsyncSchedulerDriver, master_id: str) -> None:
                again.set()

        driver = make(Returns(), master)
        driver.start()
        await driver.wait_registered()
        await off_loop(master.close)
        await gone.wait()
        with FakeMaster(master.address) as second:
            await again.wait()
            assert second.count(RegisterFramework) == 1
            driver.abort()
            await driver.join()

    run(use())


def test_settings_made_before_the_start_are_in_the_registration(master: FakeMaster) -> None:
    async def use() -> None:
        driver = make(AsyncScheduler(), master)
        driver.set_needs_offers(False)
        async with driver:
            registration = await off_loop(master.expect, RegisterFramework)
            assert not registration.needs_offers

    run(use())


def test_a_master_that_forgot_us_gets_a_new_registration(master: FakeMaster) -> None:
    async def use() -> None:
        again = asyncio.Event()

        class Returns(AsyncScheduler):
            async def reregistered(self, driver: AsyncSchedulerDriver, master_id: str) -> None:
                again.set()

        async with make(Returns(), master) as driver:
            driver.set_needs_offers(False)
            await driver.wait_registered()
            await off_loop(master.expect, SetNeedsOffers)
            master.send(NotRegistered())
            await again.wait()
            await off_loop(master.expect, SetNeedsOffers)

    run(use())
