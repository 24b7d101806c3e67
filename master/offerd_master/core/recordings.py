"""Recordings that operators ask for (`offerd debug record`): the master's own, and slaves', which the master requests.

The answer comes when the file is written. Until then, or until it is overdue, a ticket identifies who asked.
"""

from __future__ import annotations

import math

from offerd.ids import PeerID
from offerd.protocol.recording_messages import MAX_RECORD_S, EventsRecorded, RecordEvents
from offerd.values.screen_text import printable
from offerd_master.core.actions import Record
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Asked, Cluster
from offerd_master.core.events import RecordingWritten
from offerd_master.core.state import Slave

MAX_ASKED = 16
"""How many recordings may be open at one time."""
OVERDUE_S = 60.0
"""How long after its end a recording may take to be written; after that its daemon is taken to be gone."""


def record_events(c: Cluster, caller: Caller, message: RecordEvents, now: float) -> None:
    """Answered by `EventsRecorded` when the recording is written."""
    fault, slave = "", None
    if message.for_s > MAX_RECORD_S:
        fault = f"a recording lasts {MAX_RECORD_S:g} s at most"
    elif len(c.recordings) >= MAX_ASKED:
        wait_s = max(1, math.ceil(min(asked.until for asked in c.recordings.values()) - now))
        fault = f"{MAX_ASKED} other recordings are running; ask again in {wait_s} s, when the first ends"
    elif message.slave:
        slave, fault = _slave(c, message.slave)
    if fault:
        c.send(caller.peer, EventsRecorded(fault=fault))
        return
    c.last_ticket = ticket = c.last_ticket + 1
    c.recordings[ticket] = Asked(caller.peer, slave, now + message.for_s)
    c.timers.set(now + message.for_s + OVERDUE_S, _overdue, ticket)
    if slave is None:
        c.out.append(Record(ticket, message.for_s))
    else:
        c.send(slave.peer, RecordEvents(message.for_s, ticket=ticket))


def _slave(c: Cluster, name: str) -> tuple[Slave | None, str]:
    """The slave of this name, or the reason why there is none."""
    found, shown = c.slaves_named(name), printable(name)
    if not found:
        return None, f"no slave {shown} is registered; `offerd slaves` lists them"
    if len(found) > 1:
        ids = ", ".join(slave.slave_id for slave in found[:10])
        return None, f"several slaves are called {shown}; choose one of {ids}"
    if found[0].peer is None:
        return None, f"slave {shown} is not connected at the moment; ask again when it is back"
    return found[0], ""


def events_recorded(c: Cluster, slave: Slave, message: EventsRecorded, now: float) -> None:
    """A slave has written a recording, or has failed to."""
    asked = c.recordings.get(message.ticket)
    if asked is not None and asked.slave is slave:
        _answer(c, message.ticket, message)


def recording_written(c: Cluster, event: RecordingWritten) -> None:
    """The master's own recording is written, or has failed."""
    _answer(c, event.ticket, EventsRecorded(event.host, event.path, event.is_whole, event.fault))


def peers(c: Cluster) -> set[PeerID]:
    """The peers that wait for recordings, or make them."""
    asked = c.recordings.values()
    makers = {each.slave.peer for each in asked if each.slave is not None and each.slave.peer is not None}
    return makers | {each.peer for each in asked}


def asker_gone(c: Cluster, peer: PeerID) -> None:
    """This peer has disconnected. Nobody waits for its recordings, and others may want to record."""
    for ticket, asked in [*c.recordings.items()]:
        if asked.peer == peer:
            del c.recordings[ticket]
            if asked.slave is None:
                c.out.append(Record(ticket, 0.0))
            else:
                c.send(asked.slave.peer, RecordEvents(0.0, ticket=ticket))


def slave_gone(c: Cluster, slave: Slave) -> None:
    """The slave has ended, or cannot be reached: what it records will not come."""
    for ticket, asked in [*c.recordings.items()]:
        if asked.slave is slave:
            fault = f"slave {printable(slave.info.hostname)} was lost while it recorded"
            _answer(c, ticket, EventsRecorded(fault=fault))


def _overdue(c: Cluster, ticket: int, now: float) -> None:
    _answer(
        c,
        ticket,
        EventsRecorded(
            fault="no recording has come: the daemon may be gone, or of a release that cannot record"
        ),
    )


def _answer(c: Cluster, ticket: int, answer: EventsRecorded) -> None:
    asked = c.recordings.pop(ticket, None)
    if asked is not None:
        c.send(asked.peer, answer)
