"""What happens to a master: past facts, made by the daemon, a test or the simulator."""

from __future__ import annotations

import msgspec

from offerd.ids import PeerID
from offerd.messages import Message
from offerd_master.allocation.base import Allocator
from offerd_master.core.registry import Contents
from offerd_master.principals import Principal, Principals
from offerd_master.settings import Settings


class Received(msgspec.Struct, frozen=True, gc=False):
    """A peer has sent a message. `ip`: from where, for a slave's hello."""

    peer: PeerID
    message: Message
    ip: str = ""


class Signed(msgspec.Struct, frozen=True, gc=False):
    """The same where peers have keys: the message of a peer that has proved to be `principal`."""

    peer: PeerID
    message: Message
    principal: Principal
    ip: str = ""


class HandshakeRefused(msgspec.Struct, frozen=True, gc=False):
    """Somebody wanted a connection and has no key that lets it in. `who`: one line; empty if the log has it already. `cause`:
    what a refusal by the registry is counted as; empty for any other.
    """

    who: str
    cause: str = ""


class PeerLost(msgspec.Struct, frozen=True, gc=False):
    """Nothing more will reach this peer: it is gone, or it read too slowly."""

    peer: PeerID


class PeerDropped(msgspec.Struct, frozen=True, gc=False):
    """This peer has sent what is no message of ours, or one it may not send; it is not listened to any more. `why`: a line.
    What is to be sent to it still reaches it.
    """

    peer: PeerID
    why: str


class TermsChanged(msgspec.Struct, frozen=True, gc=False):
    """The operator has said anew who gets how much: `settings` differ in `policy` and `allocator`, and `allocator` is a
    module made for them that knows nobody yet.
    """

    settings: Settings
    allocator: Allocator


class AuthorizedRead(msgspec.Struct, frozen=True, gc=False):
    """Where peers have keys: the `--authorized` file was read anew. It has these principals, by public key."""

    principals: Principals


class EnrolmentRead(msgspec.Struct, frozen=True, gc=False):
    """Where peers have keys: these are the enrolled keys and the tokens that are written down. Another master may have
    written them.
    """

    contents: Contents


class ChangeKept(msgspec.Struct, frozen=True):
    """The change that `KeepChange` asked to write down is safe; or it is not, and `fault` says why, in a line."""

    fault: str = ""


class EpochRaised(msgspec.Struct, frozen=True):
    """From now on this master speaks in this epoch, above the one before: an election gave it, or a peer has obeyed a later
    master (`LaterEpochSeen`).
    """

    epoch: int


class MessagesUnsent(msgspec.Struct, frozen=True):
    """So many messages of ours have been left out by now, as no frame could hold them."""

    total: int


class HandlingFailed(msgspec.Struct, frozen=True):
    """`handle`, or `tick`, has raised what nobody foresaw. What it had decided by then is returned: it belongs to what it had
    done by then.
    """

    is_tick: bool = False


class RecordingWritten(msgspec.Struct, frozen=True):
    """What `Record` asked for is at `path` on `host`, and can be replayed if it `is_whole`; or `fault` says why it is not."""

    ticket: int
    host: str = ""
    path: str = ""
    is_whole: bool = False
    fault: str = ""


Event = (
    Received
    | Signed
    | HandshakeRefused
    | PeerLost
    | PeerDropped
    | TermsChanged
    | AuthorizedRead
    | EnrolmentRead
    | ChangeKept
    | RecordingWritten
    | EpochRaised
    | MessagesUnsent
    | HandlingFailed
)
