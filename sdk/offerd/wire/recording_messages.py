"""The part of the protocol by which an operator has a daemon write a recording (`offerd.daemons.recording`). Same rules as
`offerd.messages`.
"""

from __future__ import annotations

from offerd.messages import Message
from offerd.wire.bounds import Count, Name, Seconds, Text

MAX_RECORD_S = 600.0
"""The longest that one may ask for."""


class RecordEvents(Message, frozen=True):
    """An operator to the master: record what happens for so many seconds, or have the slave of this id or hostname do so. The
    master to that slave: the same. `ticket` is the master's number for the question, and comes back in the answer.
    """

    for_s: Seconds
    slave: Name = ""
    ticket: Count = 0


class EventsRecorded(Message, frozen=True):
    """The answer: the recording is at `path` on `host`, where the daemon's user and root can read it; or `fault` says in a line
    why there is none. `is_whole`: it can be replayed.
    """

    host: Name = ""
    path: Text = ""
    is_whole: bool = False
    fault: Text = ""
    ticket: Count = 0
