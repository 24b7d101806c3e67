"""Connections that end a moment after their peers were told why: it takes that long until what was said has arrived.

No clock and no socket inside. What a peer sends meanwhile is thrown away; one that sends much, and the oldest of many, end at
once, so that being told costs the master little whoever asks for it.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from offerd.ids import PeerID

CUT_AFTER_S = 1.0
"""So long a peer has to go by itself."""
MAX_DROPPED = 256
"""Peers that were dropped and whose connections have not ended yet."""
MAX_SENT_BYTES = 4 << 20
"""What one of these may send until then."""


class Cuts:
    """Which connections are to end, and when: those of keys that are nobody's any more, and of peers that were dropped."""

    def __init__(self) -> None:
        self._keys: deque[tuple[float, frozenset[str]]] = deque()
        self._peers: OrderedDict[PeerID, float] = OrderedDict()
        self._sent_bytes: dict[PeerID, int] = {}

    def next_deadline(self) -> float:
        """When `due_keys` or `due_peers` has something; infinite where none is to end."""
        keys_at = self._keys[0][0] if self._keys else math.inf
        return min(keys_at, next(iter(self._peers.values()), math.inf))

    def put_keys(self, keys: frozenset[str], now: float) -> None:
        """Whoever speaks with one of these public keys has just been told that it is nobody's."""
        if keys:
            self._keys.append((now + CUT_AFTER_S, keys))

    def put_peer(self, peer: PeerID, now: float) -> list[PeerID]:
        """This one has just been told why it is dropped. Returns whose connections have to end now to make room for it."""
        self._peers[peer] = now + CUT_AFTER_S
        return [self._oldest() for _ in range(len(self._peers) - MAX_DROPPED)]

    def is_too_much(self, peer: PeerID, size_bytes: int) -> bool:
        """A peer that was dropped has sent so much more. Whether its connection is to end now."""
        if peer not in self._peers:
            return False
        sent_bytes = self._sent_bytes[peer] = self._sent_bytes.get(peer, 0) + size_bytes
        if sent_bytes <= MAX_SENT_BYTES:
            return False
        self._forget(peer)
        return True

    def due_keys(self, now: float) -> frozenset[str]:
        """Keys whose time is over; those that have been let in again meanwhile are among them."""
        due: frozenset[str] = frozenset()
        while self._keys and now >= self._keys[0][0]:
            due |= self._keys.popleft()[1]
        return due

    def due_peers(self, now: float) -> list[PeerID]:
        """The same of peers."""
        due = []
        while self._peers and now >= next(iter(self._peers.values())):
            due.append(self._oldest())
        return due

    def _oldest(self) -> PeerID:
        peer = next(iter(self._peers))
        self._forget(peer)
        return peer

    def _forget(self, peer: PeerID) -> None:
        del self._peers[peer]
        self._sent_bytes.pop(peer, None)
