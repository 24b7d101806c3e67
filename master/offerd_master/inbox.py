"""Frames that peers have sent and the master has not handled yet: each peer's in order, and each peer in turn.

A frame may hold a hundred thousand messages, and a peer may send any number of frames. So frames wait here undecoded until it
is their sender's turn. They are handled for a slice of time, then the next sender has its turn. Peers with the same key share
one turn, since an owner may connect any number of times. `put` reports a peer for which too much waits: it sends faster than it
is served.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence

from offerd.errors import BadMessage
from offerd.ids import PeerID
from offerd.messages import Message

SLICE_S = 0.005
"""Time slice of one peer. A single message may take longer."""
TURN_S = 0.02
"""Time for all peers, before new frames are read, due work is done (pings, offers) and answers are written."""
MAX_WAITING_BYTES = 16 << 20
"""Bytes that may wait for one peer. After a fail-over, slaves and schedulers send less than a quarter of that at once."""
MAX_KEY_BYTES = 32 << 20
"""Bytes that may wait for all peers with the same key."""
HOLD_S = 0.5
"""How long a standby master holds frames before it sends their senders to the leader: it may lead by then."""
MAX_HELD = 1_000
"""How many frames it holds."""
MAX_HELD_BYTES = 16 << 20
"""How many bytes these may have together. Registrations are small; a peer that sends anything else before its answer is no
slave or scheduler.
"""
Frame = bytes | BadMessage
Decode = Callable[[bytes], tuple[int, Sequence[Message]]]


class _Waiting:
    """What waits for one peer: the present frame's messages from `place` on, then more frames, with the senders' keys."""

    __slots__ = ("frames", "key", "messages", "place", "size_bytes")

    def __init__(self) -> None:
        self.frames: deque[tuple[Frame, str]] = deque()
        self.messages: Sequence[Message] = ()
        self.place = 0
        self.key = ""
        self.size_bytes = 0


class _Line:
    """The peers with one key; the first has the next turn."""

    __slots__ = ("peers", "size_bytes")

    def __init__(self) -> None:
        self.peers: OrderedDict[PeerID, _Waiting] = OrderedDict()
        self.size_bytes = 0


class Inbox:
    """`handle(peer, message, key)` is called for each message, and `refuse(peer, fault, key)` for a frame that is none. Both
    return whether to go on listening to the peer.
    """

    def __init__(
        self,
        decode: Decode,
        handle: Callable[[PeerID, Message, str], bool],
        refuse: Callable[[PeerID, BadMessage, str], bool],
    ) -> None:
        self._decode = decode
        self._handle = handle
        self._refuse = refuse
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()
        self._line_of: dict[PeerID, Hashable] = {}  # of each peer for which something waits

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def peers_waiting(self) -> int:
        """For how many peers something waits."""
        return len(self._line_of)

    @property
    def bytes_waiting(self) -> int:
        """How many bytes wait, without the frames that are being handled."""
        return sum(line.size_bytes for line in self._lines.values())

    def put(self, peer: PeerID, frame: Frame, key: str) -> bool:
        """A frame has come. False if too much waits for this peer, or for all with its key."""
        name: Hashable = key or peer  # a peer without a key has its own line
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        waiting = line.peers.get(peer)
        if waiting is None:
            waiting = line.peers[peer] = _Waiting()
            self._line_of[peer] = name
        waiting.frames.append((frame, key))
        waiting.size_bytes += size_of(frame)
        line.size_bytes += size_of(frame)
        return waiting.size_bytes <= MAX_WAITING_BYTES and line.size_bytes <= MAX_KEY_BYTES

    def forget(self, peer: PeerID) -> None:
        """Discard everything that waits for this peer."""
        name = self._line_of.pop(peer, None)
        line = self._lines.get(name)
        if line is None:
            return
        waiting = line.peers.pop(peer, None)
        if waiting is not None:
            line.size_bytes -= waiting.size_bytes
        if not line.peers:
            del self._lines[name]

    def turn(self) -> None:
        """Handle waiting messages for a bounded time: key after key, and each time the next peer of that key."""
        ends_at = time.monotonic() + TURN_S
        while self._lines:
            now = time.monotonic()
            if now >= ends_at:
                return
            name, line = next(iter(self._lines.items()))
            peer, waiting = next(iter(line.peers.items()))
            if not self._slice(peer, waiting, line, now + SLICE_S):
                self.forget(peer)
            elif peer in line.peers:
                line.peers.move_to_end(peer)
            if name in self._lines:
                self._lines.move_to_end(name)

    def _slice(self, peer: PeerID, waiting: _Waiting, line: _Line, ends_at: float) -> bool:
        """Handle one peer's messages until its time is over; returns whether there are more. The clock is checked after each
        message, because some take a thousand times as long as others.
        """
        handle, clock = self._handle, time.monotonic
        while waiting.messages or waiting.frames:
            if not waiting.messages and not self._open(peer, waiting, line):
                return False
            messages, key = waiting.messages, waiting.key
            for number in range(waiting.place, len(messages)):
                if not handle(peer, messages[number], key):
                    return False
                if clock() >= ends_at:
                    waiting.place = number + 1
                    return waiting.place < len(messages) or bool(waiting.frames)
            waiting.messages, waiting.place = (), 0
        return False

    def _open(self, peer: PeerID, waiting: _Waiting, line: _Line) -> bool:
        """Decode the next frame; False if the peer is to be ignored from now on."""
        frame, waiting.key = waiting.frames.popleft()
        try:
            if isinstance(frame, BadMessage):
                raise frame
            waiting.size_bytes -= len(frame)
            line.size_bytes -= len(frame)
            waiting.messages = self._decode(frame)[1]
        except BadMessage as fault:
            return self._refuse(peer, fault, waiting.key)
        return True


class Held:
    """The frames that have come to a standby master, the oldest first: `(peer, frame, key)`."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, PeerID, Frame, str]] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[PeerID, Frame, str]]:
        return ((peer, frame, key) for _, peer, frame, key in self._held)

    def put(self, now: float, peer: PeerID, frame: Frame, key: str) -> None:
        self._held.append((now, peer, frame, key))
        self._size_bytes += size_of(frame)

    def overdue(self, now: float) -> Iterator[PeerID]:
        """The peers that have waited long enough, or must go because there are too many; their frames are discarded."""
        held = self._held
        while held and (
            len(held) > MAX_HELD or self._size_bytes > MAX_HELD_BYTES or now >= held[0][0] + HOLD_S
        ):
            _, peer, frame, _ = held.popleft()
            self._size_bytes -= size_of(frame)
            yield peer


def size_of(frame: Frame) -> int:
    """In bytes."""
    return 0 if isinstance(frame, BadMessage) else len(frame)
