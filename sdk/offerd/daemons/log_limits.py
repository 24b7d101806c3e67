"""Limits how much one peer may write into a daemon's log: so many lines a minute, then the number of lines left out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from logging import WARNING

LINES_PER_MINUTE = 60
"""From one peer."""
LINES_PER_MINUTE_IN_ALL = 6_000
"""From all peers: a peer may reconnect for every line, each time as a new peer. A cluster that restarts writes thousands."""
WINDOW_S = 60.0
MAX_PEERS = 10_000


class _Window:
    """How many lines a peer has written since a time."""

    __slots__ = ("left_out", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines = 0
        self.left_out = 0


class LogLimits:
    """Passes lines on to `emit(level, line)`, with the levels of `logging`, until their peer has written too many."""

    def __init__(
        self,
        emit: Callable[[int, str], object],
        per_minute: int = LINES_PER_MINUTE,
        in_all: int = LINES_PER_MINUTE_IN_ALL,
    ) -> None:
        self._emit = emit
        self._per_minute = per_minute
        self._in_all = in_all
        self._all = _Window(0.0)
        self._own = _Window(0.0)
        self._peers: OrderedDict[Hashable, _Window] = OrderedDict()  # oldest window first
        self.left_out = 0
        """Lines left out so far, from all peers."""

    def log(self, peer: Hashable, level: int, line: str, now: float) -> None:
        """Log a line that `peer` has caused; `peer` is a name for people, or a routing id. None is the daemon itself: only the
        limit on all holds for it, and peers' lines do not count towards that.
        """
        self.report_left_out(now)
        window = self._own if peer is None else self._peers.get(peer)
        if window is None:
            window = self._peers[peer] = _Window(now)
            if len(self._peers) > MAX_PEERS:
                self._close(*self._peers.popitem(last=False))
        if self._is_full(window):
            window.left_out += 1
            self.left_out += 1
            return
        window.lines += 1
        if window is not self._own:
            self._all.lines += 1
        self._emit(level, line)

    def _is_full(self, window: _Window) -> bool:
        if window is self._own:
            return window.lines >= self._in_all
        return window.lines >= self._per_minute or self._all.lines >= self._in_all

    def report_left_out(self, now: float) -> None:
        """Log how many lines were left out in windows that are over. To be called now and then."""
        if now >= self._all.since + WINDOW_S:
            self._all, self._own = _Window(now), _Window(now)
        while self._peers:
            peer, window = next(iter(self._peers.items()))
            if now < window.since + WINDOW_S:
                return
            del self._peers[peer]
            self._close(peer, window)

    def _close(self, peer: Hashable, window: _Window) -> None:
        """These lines count, too: otherwise thousands of peers with one line too many would write thousands of lines."""
        if window.left_out and self._all.lines < self._in_all:
            self._all.lines += 1
            name = peer.hex() if isinstance(peer, bytes) else peer
            self._emit(WARNING, f"{window.left_out} more lines of {name} left out")
