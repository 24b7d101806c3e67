"""A value that no message can hold is refused, with its field, its size and the most that the field may hold."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from offerd import (
    BadInput,
    CommandInfo,
    ExecutorInfo,
    Filters,
    FrameworkInfo,
    Resources,
    Scheduler,
    SchedulerDriver,
    TaskInfo,
)
from offerd.ids import OfferID, TaskID
from offerd.operator import OperatorClient
from offerd.wire.sendable import check

LONG = "n" * 2000
TASK = TaskInfo("t", Resources.of(cpus=1), "e")
COMMAND = CommandInfo(argv=["true"], environment={str(n): "" for n in range(20_000)})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (FrameworkInfo("f", role="r\udce9"), "r\\udce9 is not UTF-8, as role has to be"),
        (FrameworkInfo("f", executors=[ExecutorInfo("e", image="\ud800")]), "\\ud800 is not UTF-8, as executors.image"),
        (Filters(attributes={"n\udcff": "1"}), "n\\udcff is not UTF-8, as attributes has to be"),
        (FrameworkInfo(LONG), "nnn… has 2000 characters, more than the 1024 that name may have"),
        (FrameworkInfo("f", executors=[ExecutorInfo("e", image=LONG)]), "executors.image may have"),
        (Filters(attributes={"a": LONG}), "has 2000 characters, more than the 1024 that attributes may have"),
        (TaskInfo("t", Resources.of(cpus=1), "e", COMMAND), "of 20000 entries cannot be sent: the most is 16384"),
        (TaskInfo("t", Resources.of(cpus=1), "e", time_limit_s=1e12), "time_limit_s: Expected"),
    ],
)  # fmt: skip
def test_a_value_that_no_message_can_hold_is_reported_with_its_field(
    value: msgspec.Struct, said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        check(value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000, "x\udce9"])
def test_a_question_that_is_none_is_bad_input_and_not_sent(name: str) -> None:
    with OperatorClient("127.0.0.1:9") as client:
        for ask in (client.kill_task, client.find_task, client.explain_framework):
            with pytest.raises(BadInput, match=r"\d+ characters|is not UTF-8"):
                ask(name)


@pytest.mark.parametrize(
    "order",
    [
        lambda driver: driver.reply_to_offer(
            OfferID("o"), [msgspec.structs.replace(TASK, time_limit_s=float("nan"))]
        ),
        lambda driver: driver.reply_to_offer(
            OfferID("o"), [msgspec.structs.replace(TASK, kill_grace_s=1e12)]
        ),
        lambda driver: driver.reply_to_offer(OfferID("o"), [msgspec.structs.replace(TASK, name="x" * 2000)]),
        lambda driver: driver.reply_to_offer(
            OfferID("o"), [msgspec.structs.replace(TASK, labels={"x": "y" * 200_000})]
        ),
        lambda driver: driver.reply_to_offer(OfferID("o"), [], refuse_seconds=float("nan")),
        lambda driver: driver.kill_task(TaskID("x" * 300)),
        lambda driver: driver.kill_task(TaskID("x"), float("inf")),
        lambda driver: driver.reconcile_tasks([TaskID("x" * 300)]),
        lambda driver: driver.reconcile_tasks(["x\udce9"]),
        lambda driver: driver.reply_to_offer("o", [msgspec.structs.replace(TASK, task_id=TaskID("x\ud800"))]),
        lambda driver: driver.reply_to_offer("o\ud800", []),
        lambda driver: driver.decline_offer(["o\ud800"]),
        lambda driver: driver.send_framework_message("s", "e\ud800", b""),
        lambda driver: driver.set_filters(Filters(attributes_exist=["x"] * 300)),
    ],
)
def test_an_order_that_no_message_holds_is_an_error_to_its_caller(
    order: Callable[[SchedulerDriver], None],
) -> None:
    driver = SchedulerDriver(Scheduler(), FrameworkInfo("f"), "127.0.0.1:9")
    with pytest.raises(BadInput):
        order(driver)


def test_a_framework_that_no_message_holds_is_an_error_to_its_maker() -> None:
    with pytest.raises(BadInput):
        SchedulerDriver(Scheduler(), FrameworkInfo("f", failover_timeout_s=float("inf")), "127.0.0.1:9")
