"""What happens to a master: facts of the past, made by the daemon, a test or the simulator."""

from __future__ import annotations

import msgspec

from offerd.ids import PeerID
from offerd.messages import Message
from offerd.protocol.change_messages import Timing
from offerd_master.allocation.base import Allocator
from offerd_master.core.registry import Contents
from offerd_master.principals import Principal, Principals
from offerd_master.settings import MasterSettings


class Received(msgspec.Struct, frozen=True, gc=False):
    """A peer has sent a message. `ip`: its address, known only for a slave's registration."""

    peer: PeerID
    message: Message
    ip: str = ""


class Signed(msgspec.Struct, frozen=True, gc=False):
    """The same where peers have keys: the peer has proved to be `principal`."""

    peer: PeerID
    message: Message
    principal: Principal
    ip: str = ""


class HandshakeRefused(msgspec.Struct, frozen=True, gc=False):
    """A connection without an admitted key was refused. `who`: one line; empty if it is in the log already. `cause`: the name
    under which the registry counts the refusal; empty for other refusals.
    """

    who: str
    cause: str = ""


class PeerLost(msgspec.Struct, frozen=True, gc=False):
    """Nothing more will reach this peer: it is gone, or it read too slowly."""

    peer: PeerID


class PeerDropped(msgspec.Struct, frozen=True, gc=False):
    """This peer has sent something that is not a message of offerd, or a message that it may not send. It is ignored from now
    on; messages to it still reach it. `why`: one line.
    """

    peer: PeerID
    why: str


class TermsChanged(msgspec.Struct, frozen=True, gc=False):
    """The operator has changed the terms of roles and frameworks. `settings` differ in `policy` and `allocator`; `allocator` is
    a new module made for them, in which no framework is entered yet.
    """

    settings: MasterSettings
    allocator: Allocator


class AuthorizedRead(msgspec.Struct, frozen=True, gc=False):
    """The `--authorized` file was read again. It has these principals, by public key."""

    principals: Principals


class EnrolmentRead(msgspec.Struct, frozen=True, gc=False):
    """The enrolled keys and tokens that are written down now. Another master may have written them."""

    contents: Contents


class ChangeKept(msgspec.Struct, frozen=True):
    """The change of the action `KeepChange` is written; or it is not, and `fault` says why in one line."""

    fault: str = ""


class EpochRaised(msgspec.Struct, frozen=True):
    """This master speaks in this higher epoch from now on: an election gave it, or a peer has obeyed a later master
    (`LaterEpochSeen`).
    """

    epoch: int


class MessagesUnsent(msgspec.Struct, frozen=True):
    """In total so many of our messages could not be sent, because no frame could hold them."""

    total: int


class Measured(msgspec.Struct, frozen=True):
    """What the daemon has counted and measured since it leads: `counts`, `gauges` and `timings` as in `MasterNow`."""

    counts: dict[str, int] = {}
    gauges: dict[str, int] = {}
    timings: dict[str, Timing] = {}


class HandlingFailed(msgspec.Struct, frozen=True):
    """`handle` or `tick` has raised an unexpected error. The answer is the actions that it had decided before: they belong to
    the changes that it had made.
    """

    is_tick: bool = False


class RecordingWritten(msgspec.Struct, frozen=True):
    """The recording of the action `Record` is at `path` on `host`; `is_whole`: it can be replayed. Or `fault` says why not."""

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
    | Measured
    | HandlingFailed
)
