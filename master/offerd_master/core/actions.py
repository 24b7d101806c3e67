"""What a master wants done: imperatives, performed in order by the daemon, a test or the simulator."""

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
    """One line for the operator; `level` as in `logging`: info | warning."""

    level: str
    text: str


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Listen to this peer no more, and answer with `PeerDropped`. `why` is one line."""

    peer: PeerID
    why: str


class LaterEpochSeen(msgspec.Struct, frozen=True, gc=False):
    """Somebody has obeyed a master of this epoch, above ours: it will not listen to us unless we take a higher one,
    which the daemon may do only if nobody has led after us.
    """

    epoch: int


class KeepChange(msgspec.Struct, frozen=True):
    """Write this down where the next master finds it, and answer with `ChangeKept`. One at a time."""

    change: Change


class CutOff(msgspec.Struct, frozen=True):
    """End the connections of these public keys, once what was just said to them may have arrived."""

    keys: frozenset[str]


class Record(msgspec.Struct, frozen=True, gc=False):
    """Record what happens for so many seconds, and answer with `RecordingWritten`."""

    ticket: int
    for_s: float


Action = Send | Log | Drop | LaterEpochSeen | KeepChange | CutOff | Record
