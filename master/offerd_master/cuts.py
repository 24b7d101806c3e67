"""Connections that end a moment after the last message to their peers, so that the message can arrive.

No clock and no socket inside. What a peer sends in that time is thrown away. A peer that sends much is cut off at once, and so
is the oldest when there are many: a last message must cost the master little.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from offerd.ids import PeerID

CUT_AFTER_S = 1.0
"""How long a peer has to close its connection by itself."""
MAX_DROPPED = 256
"""How many dropped peers may still be connected."""
MAX_SENT_BYTES = 4 << 20
"""How many bytes one of these may send in that time."""


class Cuts:
    """Which connections end when: those of revoked keys, and those of dropped peers."""

    def __init__(self) -> None:
        self._keys: deque[tuple[float, frozenset[str]]] = deque()
        self._peers: OrderedDict[PeerID, float] = OrderedDict()
        self._sent_bytes: dict[PeerID, int] = {}

    def next_deadline(self) -> float:
        """When `due_keys` or `due_peers` will return something; infinite if nothing is due."""
        keys_at = self._keys[0][0] if self._keys else math.inf
        return min(keys_at, next(iter(self._peers.values()), math.inf))

    def put_keys(self, keys: frozenset[str], now: float) -> None:
        """These public keys are authorized no longer, and the peers that use them have just been sent that."""
        if keys:
            self._keys.append((now + CUT_AFTER_S, keys))

    def put_peer(self, peer: PeerID, now: float) -> list[PeerID]:
        """A dropped peer has just been sent the reason. Returns the peers that must be cut off at once to make room for it."""
        self._peers[peer] = now + CUT_AFTER_S
        return [self._oldest() for _ in range(len(self._peers) - MAX_DROPPED)]

    def is_too_much(self, peer: PeerID, size_bytes: int) -> bool:
        """A dropped peer has sent `size_bytes` more. Returns whether to cut it off at once."""
        if peer not in self._peers:
            return False
        sent_bytes = self._sent_bytes[peer] = self._sent_bytes.get(peer, 0) + size_bytes
        if sent_bytes <= MAX_SENT_BYTES:
            return False
        self._forget(peer)
        return True

    def due_keys(self, now: float) -> frozenset[str]:
        """The keys whose time is over; some may have been authorized again meanwhile."""
        due: frozenset[str] = frozenset()
        while self._keys and now >= self._keys[0][0]:
            due |= self._keys.popleft()[1]
        return due

    def due_peers(self, now: float) -> list[PeerID]:
        """The peers whose time is over."""
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
