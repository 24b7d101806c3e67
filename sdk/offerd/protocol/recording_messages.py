"""The part of the protocol with which an operator has a daemon write a recording (`offerd.daemons.recording`). The rules are
those of `offerd.messages`.
"""

from __future__ import annotations

from offerd.messages import Message
from offerd.values.bounds import Count, Name, Seconds, Text

MAX_RECORD_S = 600.0
"""Longest recording, in seconds."""


class RecordEvents(Message, frozen=True):
    """Record what happens from now on. From an operator to the master, and from the master to a slave. Answered by
    `EventsRecorded`.
    """

    for_s: Seconds
    """For how long, 600 s at most; 0 with the ticket of a recording that goes on: its asker has gone, so end it, unwritten."""
    slave: Name = ""
    """The id or hostname of the slave that is to record; empty: the master itself."""
    ticket: Count = 0
    """The master's number for the question, which the slave's answer repeats."""


class EventsRecorded(Message, frozen=True):
    """The recording is written, or there is none."""

    host: Name = ""
    """The host that has it."""
    path: Text = ""
    """Its file there, which the daemon's user and root can read."""
    is_whole: bool = False
    """It can be replayed."""
    fault: Text = ""
    """Why there is none, in a line for people; empty: there is one."""
    ticket: Count = 0
    """That of the question."""
