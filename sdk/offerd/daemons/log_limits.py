"""How much one peer may write into a daemon's log: so many lines a minute, and then how many more there were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from logging import WARNING

LINES_PER_MINUTE = 60
"""Of one peer."""
LINES_PER_MINUTE_IN_ALL = 6_000
"""Of all peers: who connects anew for every line is another peer each time. A cluster that comes back writes thousands."""
WINDOW_S = 60.0
MAX_PEERS = 10_000


class _Window:
    """What one peer has written since."""

    __slots__ = ("left_out", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines = 0
        self.left_out = 0


class LogLimits:
    """Passes lines on to `emit(level, line)`, with levels of `logging`, as long as their peer has not written too many."""

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
        self._peers: OrderedDict[Hashable, _Window] = OrderedDict()  # by the beginning of their windows
        self.left_out = 0
        """Lines in all."""

    def log(self, peer: Hashable, level: int, line: str, now: float) -> None:
        """A line that this peer has caused: a name for people, or its routing id. None is nobody: then only the limit of all
        holds, and the lines of peers do not count.
        """
        self.tell(now)
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

    def tell(self, now: float) -> None:
        """Say what was left out of the minutes that are over. To be called now and then."""
        if now >= self._all.since + WINDOW_S:
            self._all, self._own = _Window(now), _Window(now)
        while self._peers:
            peer, window = next(iter(self._peers.items()))
            if now < window.since + WINDOW_S:
                return
            del self._peers[peer]
            self._close(peer, window)

    def _close(self, peer: Hashable, window: _Window) -> None:
        """Within the limit of all: thousands of peers, each with a line too many, write no thousands of lines."""
        if window.left_out and self._all.lines < self._in_all:
            self._all.lines += 1
            name = peer.hex() if isinstance(peer, bytes) else peer
            self._emit(WARNING, f"{window.left_out} more lines of {name} left out")
