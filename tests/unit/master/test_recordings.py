"""Operators let the master, or a slave, record events."""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness
from offerd import operator_messages as om
from offerd.protocol.recording_messages import MAX_RECORD_S, EventsRecorded, RecordEvents
from offerd_master.core.actions import Record
from offerd_master.core.events import RecordingWritten
from offerd_master.core.recordings import MAX_ASKED, OVERDUE_S
from offerd_master.principals import Principal


def test_the_masters_own_recording_is_answered_when_it_is_written() -> None:
    cluster = ClusterHarness()
    operator = cluster.operator()
    operator.send(RecordEvents(5.0))
    assert cluster.records == [Record(1, 5.0)]
    assert operator.inbox == []
    cluster.turn(RecordingWritten(1, "host1", "/recordings/a", is_whole=True))
    assert operator.take(EventsRecorded) == EventsRecorded("host1", "/recordings/a", is_whole=True)
    cluster.turn(RecordingWritten(1, "host1", "/recordings/a", is_whole=True))
    cluster.assert_nothing_else_sent()


@pytest.mark.parametrize("by_id", [True, False])
def test_a_slaves_recording_is_requested_and_its_answer_passed_on(by_id: bool) -> None:
    cluster = ClusterHarness()
    slave, other, operator = (
        cluster.slave(hostname="node1"),
        cluster.slave(hostname="node2"),
        cluster.operator(),
    )
    operator.send(RecordEvents(5.0, slave.slave_id if by_id else "node1"))
    asked = slave.take(RecordEvents)
    assert (asked.for_s, asked.slave) == (5.0, "")
    other.send(EventsRecorded("node2", "/not/what/was/asked/for", ticket=asked.ticket))
    assert operator.inbox == [], "another slave's word counts for nothing"
    slave.send(EventsRecorded("node1", "/recordings/b", is_whole=True, ticket=asked.ticket))
    assert operator.take(EventsRecorded).path == "/recordings/b"
    cluster.assert_nothing_else_sent()


def test_a_recording_that_does_not_come_is_reported_as_overdue() -> None:
    cluster = ClusterHarness()
    slave, operator = cluster.slave(hostname="node1"), cluster.operator()
    operator.send(RecordEvents(5.0, "node1"))
    slave.take(RecordEvents)
    cluster.advance(5.0 + OVERDUE_S + 0.1)
    assert operator.take(EventsRecorded).fault.startswith("no recording has come")


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (RecordEvents(MAX_RECORD_S + 1), "a recording lasts 600 s at most"),
        (RecordEvents(1.0, "nowhere"), "no slave nowhere is registered; `offerd slaves` lists them"),
        (RecordEvents(1.0, "twin"), "several slaves are called twin"),
        (RecordEvents(1.0, "gone"), "slave gone is not connected at the moment"),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_one_line(asked: RecordEvents, fault: str) -> None:
    cluster = ClusterHarness()
    for name in ("twin", "twin", "gone"):
        slave = cluster.slave(hostname=name)
    cluster.lose_peer(slave)
    operator = cluster.operator()
    operator.send(asked)
    assert operator.take(EventsRecorded).fault.startswith(fault)


def test_the_number_of_open_recordings_is_bounded() -> None:
    cluster = ClusterHarness()
    operator = cluster.operator()
    for _ in range(MAX_ASKED + 1):
        operator.send(RecordEvents(5.0))
    assert len(cluster.records) == MAX_ASKED
    assert (
        operator.take(EventsRecorded).fault
        == "16 other recordings are running; ask again in 5 s, when the first ends"
    )
    cluster.turn(RecordingWritten(1))
    operator.take(EventsRecorded)
    operator.send(RecordEvents(5.0))
    assert cluster.records[-1] == Record(MAX_ASKED + 1, 5.0)


def test_when_an_asker_has_gone_its_recordings_end_and_make_room() -> None:
    cluster = ClusterHarness()
    slave, leaving, staying = cluster.slave(hostname="node1"), cluster.operator(), cluster.operator()
    leaving.send(RecordEvents(600.0, "node1"))
    ticket = slave.take(RecordEvents).ticket
    for _ in range(MAX_ASKED - 1):
        leaving.send(RecordEvents(600.0))
    cluster.lose_peer(leaving)
    assert slave.take(RecordEvents) == RecordEvents(0.0, ticket=ticket)
    ended = cluster.records[MAX_ASKED - 1 :]
    assert ended == [Record(record.ticket, 0.0) for record in cluster.records[: MAX_ASKED - 1]]
    staying.send(RecordEvents(5.0))
    assert cluster.records[-1] == Record(MAX_ASKED + 1, 5.0)
    slave.send(EventsRecorded("node1", "/recordings/b", is_whole=True, ticket=ticket))
    cluster.assert_nothing_else_sent()


@pytest.mark.parametrize("how", ["its connection breaks", "it comes back by another connection"])
def test_a_slave_that_is_lost_while_it_records_is_reported_at_once(how: str) -> None:
    cluster = ClusterHarness()
    slave, other, operator = (
        cluster.slave(hostname="node1"),
        cluster.slave(hostname="node2"),
        cluster.operator(),
    )
    operator.send(RecordEvents(60.0, "node1"))
    slave.take(RecordEvents)
    cluster.lose_peer(other)
    assert operator.inbox == []
    if how == "its connection breaks":
        cluster.lose_peer(slave)
    else:
        back = cluster.slave(registers=False)
        back.info = slave.info
        back.register()
    assert operator.take(EventsRecorded).fault == "slave node1 was lost while it recorded"


def test_only_operators_may_record() -> None:
    cluster = ClusterHarness()
    asked = cluster.operator()
    asked.principal = Principal(name="alice", roles=("science",), users=("alice",))
    asked.send(RecordEvents(5.0))
    assert "may not record what daemons do" in asked.take(om.NotAuthorized).message
    assert cluster.records == []
