"""The table of who sends which message is the code's."""

from __future__ import annotations

import re
from pathlib import Path

from offerd import messages as m
from offerd import operator_messages as om
from offerd.wire import codec
from offerd_master.core import master

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/protocol.md"


def table() -> dict[str, set[str]]:
    """Each row's first cell, and the messages in the second."""
    section = PAGE.read_text().split("## Who sends which message")[1].split("\n:::")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    found = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows[1:]}
    assert len(found) == len(rows) - 1, "two rows of one kind"
    return found


def names(*kinds: type) -> set[str]:
    return {kind.__name__ for kind in kinds}


def test_the_table_says_who_sends_what_and_no_more() -> None:
    assert set(master.REGISTRATIONS) == {m.RegisterFramework, m.RegisterSlave}
    assert table() == {
        "scheduler, master": names(m.RegisterFramework, *master.FROM_SCHEDULER, om.ExplainWaiting),
        "scheduler that stands by, master": names(*master.FROM_STANDBY),
        "slave, master": names(m.RegisterSlave, *master.FROM_SLAVE),
        "operator, master": names(*master.QUESTIONS),
        "master, scheduler": names(*codec.to_scheduler.types),
        "master, slave": names(*codec.to_slave.types),
        "master, operator": names(*codec.to_operator.types),
        "executor, slave": names(*codec.from_executor.types),
        "slave, executor": names(*codec.to_executor.types),
    }


def test_the_master_reads_what_the_table_sends_it_and_no_more() -> None:
    sent = [messages for row, messages in table().items() if row.endswith(", master")]
    assert set().union(*sent) == names(*codec.to_master.types)
