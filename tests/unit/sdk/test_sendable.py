"""What no message holds is refused in words of who wrote it: the field, what it holds, and how much it may."""

from __future__ import annotations

import msgspec
import pytest

from offerd import BadInput, CommandInfo, ExecutorInfo, Filters, FrameworkInfo, Resources, TaskInfo
from offerd.operator import OperatorClient
from offerd.sendable import check

LONG = "n" * 2000
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
        (TaskInfo("t", Resources.of(cpus=1), "e", COMMAND), "command.environment of 20000 entries cannot be sent: 16384"),
        (TaskInfo("t", Resources.of(cpus=1), "e", time_limit_s=1e12), "time_limit_s: Expected"),
    ],
)  # fmt: skip
def test_what_no_message_holds_is_told_by_its_field(value: msgspec.Struct, said: str) -> None:
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
