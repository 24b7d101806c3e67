"""What happens to a master: past facts, made by the daemon, a test or the simulator."""

from __future__ import annotations

import msgspec

from offerd.ids import PeerID
from offerd.messages import Message


class Received(msgspec.Struct, frozen=True, gc=False):
    """A peer has sent a message."""

    peer: PeerID
    message: Message


class PeerLost(msgspec.Struct, frozen=True, gc=False):
    """Nothing more will reach this peer: it is gone, or it read too slowly."""

    peer: PeerID


class PeerDropped(msgspec.Struct, frozen=True, gc=False):
    """This peer has sent what is no message of ours, or one it may not send; it is not listened to any more."""

    peer: PeerID


Event = Received | PeerLost | PeerDropped
