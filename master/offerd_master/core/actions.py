"""What a master wants done. The daemon, a test or the simulator performs the actions in their order."""

from __future__ import annotations

import msgspec

from offerd.ids import PeerID
from offerd.messages import Message
from offerd_master.core.registry import Change


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send the message to the peer."""

    peer: PeerID
    message: Message


class Log(msgspec.Struct, frozen=True, gc=False):
    """Write one line for the operator; `level` as in `logging`: info | warning."""

    level: str
    text: str


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Ignore this peer from now on, and answer with the event `PeerDropped`. `why` is one line."""

    peer: PeerID
    why: str


class LaterEpochSeen(msgspec.Struct, frozen=True, gc=False):
    """A peer has obeyed a master of this epoch, which is above ours. It obeys us only in a still higher epoch, which the daemon
    may take only if no other master has led since ours began.
    """

    epoch: int


class KeepChange(msgspec.Struct, frozen=True):
    """Write this where the next master finds it, and answer with the event `ChangeKept`. One change at a time."""

    change: Change


class CutOff(msgspec.Struct, frozen=True):
    """End the connections of these public keys, after a moment in which the last messages to them can arrive."""

    keys: frozenset[str]


class Record(msgspec.Struct, frozen=True, gc=False):
    """Record events for `for_s` seconds, and answer with the event `RecordingWritten`. 0 ends a recording of this ticket that
    goes on; then there is no answer.
    """

    ticket: int
    for_s: float


Action = Send | Log | Drop | LaterEpochSeen | KeepChange | CutOff | Record
