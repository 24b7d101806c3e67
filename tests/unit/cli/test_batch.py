"""The scheduler behind `offerd run` and `offerd map`, against a driver that only notes its orders."""

from __future__ import annotations

from typing import cast

import pytest

from offerd.driver import SchedulerDriver
from offerd.errors import MessageTooLarge
from offerd.files_access import FilesAccess
from offerd.ids import OfferID, SlaveID, TaskID
from offerd.messages import CommandInfo, Offer, Reason, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources
from offerd.tasks.series import Part, pack
from offerd_cli.batch import SEEN_BEFORE_SERIES, SERIES_S, Batch, Ended, Preparing, Started

GIB = 1 << 30


class NotingDriver:
    """Notes the orders. `largest` tasks fit into a message."""

    def __init__(self, largest: int = 1000) -> None:
        self.launched: list[tuple[str, list[TaskInfo]]] = []
        self.declined: list[tuple[list[str], float]] = []
        self.needs: list[bool] = []
        self.killed: list[str] = []
        self._largest = largest
        self.unsendable: set[str] = set()

    def files(self, slave_id: str) -> FilesAccess:
        return FilesAccess("127.0.0.1:5051")

    def fault(self, task: TaskInfo) -> str:
        return "too large" if task.task_id in self.unsendable else ""

    def fits_message(self, tasks: list[TaskInfo]) -> bool:
        return len(tasks) <= self._largest

    def reply_to_offer(self, offer_id: str, tasks: list[TaskInfo]) -> None:
        if self.unsendable & {task.task_id for task in tasks}:
            raise MessageTooLarge("too large")
        self.launched.append((offer_id, list(tasks)))

    def decline_offer(self, offer_ids: list[str], refuse_seconds: float) -> None:
        self.declined.append((list(offer_ids), refuse_seconds))

    def set_needs_offers(self, needs: bool) -> None:
        self.needs.append(needs)

    def kill_task(self, task_id: str) -> None:
        self.killed.append(task_id)

    def ids(self) -> list[str]:
        return [task.task_id for _, tasks in self.launched for task in tasks]


def offer(
    name: str = "O-1",
    cpus: int = 4,
    long_cpus: int = 2,
    attributes: dict[str, str] | None = None,
    short_limit_s: float = 60.0,
) -> Offer:
    return Offer(
        OfferID(name),
        SlaveID("S-1"),
        "host",
        Resources({"cpus": cpus * 1000, "mem": 64 * GIB}),
        long_quantities={"cpus": long_cpus * 1000, "mem": 32 * GIB},
        short_limit_s=short_limit_s,
        files_address="127.0.0.1:5051",
        attributes=attributes or {},
    )


def batch(
    count: int,
    *,
    time_limit_s: float | None = 10.0,
    max_running: int | None = None,
    retries: int = 0,
    attributes: dict[str, str] | None = None,
    may_join: bool = False,
) -> Batch:
    return Batch(
        count,
        lambda index: CommandInfo(argv=["echo", str(index)]),
        Resources({"cpus": 1000, "mem": GIB}),
        prefix="echo-1",
        time_limit_s=time_limit_s,
        max_running=max_running,
        retries=retries,
        attributes=attributes,
        may_join=may_join,
    )


def give(of: Batch, driver: NotingDriver, *offers: Offer) -> None:
    of.resource_offers(cast(SchedulerDriver, driver), list(offers))


def update(
    of: Batch, driver: NotingDriver, task_id: str, state: TaskState, reason: str = "", *parts: Part
) -> None:
    data = pack(list(parts)) if parts else b""
    of.status_update(
        cast(SchedulerDriver, driver), TaskStatus(TaskID(task_id), state, reason=reason, data=data)
    )


def known_to_be_short(
    count: int, elapsed_s: float = 0.01, time_limit_s: float | None = 10.0, retries: int = 0
) -> tuple[Batch, NotingDriver]:
    """A batch whose first commands, one task each, have ended after this time."""
    work, driver = batch(count, time_limit_s=time_limit_s, retries=retries, may_join=True), NotingDriver()
    give(work, driver, offer(cpus=SEEN_BEFORE_SERIES, long_cpus=SEEN_BEFORE_SERIES))
    for task_id in driver.ids():
        update(work, driver, task_id, TaskState.FINISHED, "", Part(0, elapsed_s))
    assert len(events(work)) == SEEN_BEFORE_SERIES
    driver.launched.clear()
    return work, driver


def lengths(driver: NotingDriver) -> list[int]:
    """How many commands each launched task runs."""
    tasks = [task.command for _, tasks in driver.launched for task in tasks]
    return [1 + len(command.series) for command in tasks if command]


def numbers(happened: list[object]) -> list[int]:
    return [event.number for event in happened if isinstance(event, Ended)]


def events(of: Batch) -> list[object]:
    return [of.events.get_nowait() for _ in range(of.events.qsize())]


def test_preparation_of_a_command_is_reported_and_other_staging_is_not() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    update(work, driver, "echo-1", TaskState.STAGING)
    update(work, driver, "echo-1", TaskState.STAGING, Reason.CONTAINER_PREPARING)
    update(work, driver, "another", TaskState.STAGING, Reason.CONTAINER_PREPARING)
    assert events(work) == [Preparing("")]


def test_a_single_command_is_a_task_with_the_plain_name() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    assert driver.ids() == ["echo-1"]
    assert driver.launched[0][1][0].command == CommandInfo(argv=["echo", "0"])


def test_an_offer_is_filled_as_far_as_it_goes_and_the_rest_waits() -> None:
    work, driver = batch(6), NotingDriver()
    give(work, driver, offer())
    assert driver.ids() == ["echo-1.1", "echo-1.2", "echo-1.3", "echo-1.4"]
    assert work.waiting == 2
    assert driver.needs == []


@pytest.mark.parametrize("time_limit_s", [None, 61.0])
def test_long_commands_take_only_the_part_for_long_ones(time_limit_s: float | None) -> None:
    work, driver = batch(3, time_limit_s=time_limit_s), NotingDriver()
    give(work, driver, offer())
    assert len(driver.ids()) == 2


def test_an_offer_that_nothing_fits_into_is_refused_for_a_short_while() -> None:
    work, driver = batch(1, time_limit_s=None), NotingDriver()
    give(work, driver, offer(long_cpus=0))
    assert driver.declined == [(["O-1"], 1.0)]


def test_an_offer_of_a_slave_with_other_attributes_is_refused_even_if_it_came_before_the_filter() -> None:
    work, driver = batch(1, attributes={"rack": "7"}), NotingDriver()
    give(work, driver, offer())
    assert driver.launched == []
    assert driver.declined == [(["O-1"], 1.0)]
    give(work, driver, offer("O-2", attributes={"rack": "7", "disk": "ssd"}))
    assert driver.ids() == ["echo-1"]


def test_when_nothing_waits_no_more_offers_are_wanted() -> None:
    work, driver = batch(2), NotingDriver()
    give(work, driver, offer(), offer("O-2"))
    assert driver.declined == [(["O-2"], 0.0)]
    assert driver.needs == [False]


def test_no_more_commands_run_at_once_than_allowed() -> None:
    work, driver = batch(3, max_running=2), NotingDriver()
    give(work, driver, offer())
    assert driver.ids() == ["echo-1.1", "echo-1.2"]
    assert driver.needs == [False]
    update(work, driver, "echo-1.1", TaskState.FINISHED)
    assert driver.needs == [False, True]
    give(work, driver, offer("O-2"))
    assert driver.ids()[-1] == "echo-1.3"


def test_tasks_that_do_not_fit_into_one_message_wait_for_the_next_offer_in_order() -> None:
    work, driver = batch(4), NotingDriver(largest=2)
    give(work, driver, offer())
    give(work, driver, offer("O-2"))
    assert driver.ids() == ["echo-1.1", "echo-1.2", "echo-1.3", "echo-1.4"]


def test_a_command_that_no_message_can_hold_fails_and_the_others_run() -> None:
    work, driver = batch(4), NotingDriver()
    driver.unsendable = {"echo-1.2"}
    give(work, driver, offer())
    assert driver.ids() == ["echo-1.1", "echo-1.3", "echo-1.4"]
    (ended,) = events(work)
    assert isinstance(ended, Ended)
    assert (ended.number, ended.status.state, ended.status.message) == (1, TaskState.ERROR, "too large")


def test_an_offer_for_a_command_that_no_message_can_hold_goes_back() -> None:
    work, driver = batch(1), NotingDriver()
    driver.unsendable = {"echo-1"}
    give(work, driver, offer())
    assert (driver.ids(), driver.declined) == ([], [(["O-1"], 0.0)])
    assert len(events(work)) == 1


def test_starts_and_ends_are_reported_with_the_place() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    update(work, driver, "echo-1", TaskState.RUNNING)
    update(work, driver, "echo-1", TaskState.FINISHED)
    started, ended = events(work)
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    assert ended.place.files.address == "127.0.0.1:5051"


def test_a_command_that_failed_runs_again_as_often_as_asked_under_another_id() -> None:
    work, driver = batch(1, retries=2), NotingDriver()
    for attempt, task_id in enumerate(["echo-1", "echo-1.again1", "echo-1.again2"]):
        give(work, driver, offer(f"O-{attempt}"))
        assert driver.ids()[-1] == task_id
        update(work, driver, task_id, TaskState.FAILED, Reason.COMMAND_EXITED)
    assert [type(event) for event in events(work)] == [Ended]


def test_a_launch_overtaken_by_the_end_of_its_offer_is_repeated_without_being_asked_for() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    update(work, driver, "echo-1", TaskState.LOST, Reason.OFFER_INVALID)
    assert events(work) == []
    assert driver.needs == [False, True]
    give(work, driver, offer("O-2"))
    assert driver.ids() == ["echo-1", "echo-1.again1"]


def test_a_task_lost_with_its_slave_is_not_repeated_unasked_because_it_may_have_run() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    update(work, driver, "echo-1", TaskState.LOST, Reason.SLAVE_LOST)
    assert [type(event) for event in events(work)] == [Ended]


def test_cancelling_kills_what_runs_and_launches_no_more() -> None:
    work, driver = batch(6, retries=5), NotingDriver()
    give(work, driver, offer())
    work.cancel(cast(SchedulerDriver, driver))
    assert driver.killed == driver.ids()
    update(work, driver, "echo-1.1", TaskState.KILLED)
    give(work, driver, offer("O-2"))
    assert len(driver.ids()) == 4
    assert [type(event) for event in events(work)] == [Ended]


def test_a_status_of_a_task_that_has_ended_changes_nothing() -> None:
    work, driver = batch(1), NotingDriver()
    give(work, driver, offer())
    update(work, driver, "echo-1", TaskState.FINISHED)
    update(work, driver, "echo-1", TaskState.FAILED)
    assert len(events(work)) == 1


def test_the_filter_is_what_one_task_takes() -> None:
    assert batch(1).filters().minimum == Resources({"cpus": 1000, "mem": GIB})


def test_short_commands_make_tasks_of_half_a_second() -> None:
    work, driver = known_to_be_short(1000, elapsed_s=0.01)
    give(work, driver, offer())
    assert lengths(driver) == [50] * 4
    first = driver.launched[0][1][0]
    assert first.task_id == "echo-1.17"
    assert first.command is not None
    assert [first.command.argv, *first.command.series][:2] == [["echo", "16"], ["echo", "17"]]
    assert (first.command.series_s, first.time_limit_s) == (SERIES_S, 10.0 + SERIES_S)


def test_a_series_is_small_enough_for_several_to_fit_into_a_message() -> None:
    driver = NotingDriver()
    work = Batch(
        1000,
        lambda index: CommandInfo(argv=["echo", "\N{SNOWMAN}" * 5_000]),
        Resources({"cpus": 1000, "mem": GIB}),
        prefix="echo-1",
        time_limit_s=10.0,
        may_join=True,
    )
    give(work, driver, offer(cpus=SEEN_BEFORE_SERIES))
    for task_id in driver.ids():
        update(work, driver, task_id, TaskState.FINISHED, "", Part(0, 0.01))
    driver.launched.clear()
    give(work, driver, offer())
    assert lengths(driver) == [4] * 4
    assert work.waiting == 1000 - SEEN_BEFORE_SERIES - 16


@pytest.mark.parametrize(
    ("elapsed_s", "time_limit_s"),
    [
        (0.3, 10.0),  # long enough to be worth a task
        (0.01, 8.0),  # the offer's short limit leaves no room for the time of others on top
    ],
)
def test_commands_that_cannot_join_a_series_have_tasks_of_their_own(
    elapsed_s: float, time_limit_s: float
) -> None:
    work, driver = known_to_be_short(1000, elapsed_s, time_limit_s)
    give(work, driver, offer(short_limit_s=time_limit_s))
    assert lengths(driver) == ([1] * 4)


def test_a_limit_that_is_the_offers_may_be_a_hundredth_less_for_one_of_a_series() -> None:
    work, driver = known_to_be_short(1000, time_limit_s=60.0)
    give(work, driver, offer())
    assert lengths(driver) == [50] * 4
    assert {task.time_limit_s for task in driver.launched[0][1]} == {60.0}


def test_the_last_series_are_shorter_so_that_all_end_together() -> None:
    work, driver = known_to_be_short(SEEN_BEFORE_SERIES + 40)
    give(work, driver, offer())
    assert lengths(driver) == [5, 5, 5, 5]


def test_each_command_of_a_series_ends_with_its_own_outcome() -> None:
    work, driver = known_to_be_short(1000)
    give(work, driver, offer(cpus=1))
    bad = Part(3, 0.01, b"out", message="exited with status 3")
    update(
        work, driver, "echo-1.17", TaskState.FAILED, Reason.COMMAND_EXITED, Part(0, 0.01), bad,
        Part(127, 0.0, is_started=False, message="cannot start"), *[Part(0, 0.01)] * 17,
    )  # fmt: skip
    ended = [event for event in events(work) if isinstance(event, Ended)]
    assert numbers(list(ended)) == list(range(16, 36))
    assert [event.status.state for event in ended[:3]] == [
        TaskState.FINISHED,
        TaskState.FAILED,
        TaskState.FAILED,
    ]
    assert (ended[1].status.exit_status, ended[1].part) == (3, bad)
    assert ended[2].status.reason == Reason.COMMAND_NOT_STARTED


def test_commands_of_a_series_that_never_ran_wait_again() -> None:
    work, driver = known_to_be_short(36)
    give(work, driver, offer(cpus=1))
    assert lengths(driver) == [10]
    update(work, driver, "echo-1.17", TaskState.FINISHED, "", *[Part(0, 0.01)] * 4)
    assert numbers(events(work)) == [16, 17, 18, 19]
    assert work.waiting == 16


def test_a_time_limit_is_that_of_the_command_that_ran_and_spares_those_before_and_after() -> None:
    work, driver = known_to_be_short(36)
    give(work, driver, offer(cpus=1))
    killed = Part(-15, 10.0, is_killed=True)
    update(work, driver, "echo-1.17", TaskState.KILLED, Reason.TASK_TIMEOUT, Part(0, 0.01), killed)
    first, second = events(work)
    assert isinstance(first, Ended)
    assert first.status.state is TaskState.FINISHED
    assert isinstance(second, Ended)
    assert second.status.reason == Reason.TASK_TIMEOUT
    assert work.waiting == 18


def test_a_series_lost_with_its_slave_is_lost_for_every_command_of_it() -> None:
    work, driver = known_to_be_short(36)
    give(work, driver, offer(cpus=1))
    update(work, driver, "echo-1.17", TaskState.LOST, Reason.SLAVE_LOST)
    assert numbers(events(work)) == list(range(16, 26))


def test_one_command_of_a_series_that_failed_runs_again_alone() -> None:
    work, driver = known_to_be_short(36, retries=1)
    give(work, driver, offer(cpus=1))
    update(
        work,
        driver,
        "echo-1.17",
        TaskState.FAILED,
        Reason.COMMAND_EXITED,
        Part(1, 0.01),
        *[Part(0, 0.01)] * 9,
    )
    assert numbers(events(work)) == list(range(17, 26))
    assert work.waiting == 11
