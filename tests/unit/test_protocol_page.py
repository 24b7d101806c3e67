"""The table of who sends which message is the code's."""

from __future__ import annotations

import re
from pathlib import Path

from offerd import operator_messages as om
from offerd.wire import codec
from offerd_master.core import master

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/protocol.md"


def table() -> dict[str, set[str]]:
    """Each row's first cell, and the messages in the second."""
    section = PAGE.read_text().split("## Who sends which message")[1].split("\n:::")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows[1:]}


def names(*kinds: type) -> set[str]:
    return {kind.__name__ for kind in kinds}


def test_the_table_says_what_the_master_takes_from_whom() -> None:
    found = table()
    slave, framework = sorted(names(*master.REGISTRATIONS), reverse=True)
    assert found["scheduler, master"] == names(*master.FROM_SCHEDULER, om.ExplainWaiting) | {framework}
    assert found["scheduler that stands by, master"] == names(*master.FROM_STANDBY)
    assert found["slave, master"] == names(*master.FROM_SLAVE) | {slave}
    assert found["operator, master"] == names(*master.QUESTIONS)


def test_the_table_says_what_others_read() -> None:
    found = table()
    assert found["master, scheduler"] == names(*codec.to_scheduler.types)
    assert found["master, slave"] == names(*codec.to_slave.types)
    assert found["master, operator"] == names(*codec.to_operator.types)
    assert found["executor, slave"] == names(*codec.from_executor.types)
    assert found["slave, executor"] == names(*codec.to_executor.types)


def test_every_message_is_in_a_row() -> None:
    assert names(*codec.to_master.types) <= set().union(*table().values())
