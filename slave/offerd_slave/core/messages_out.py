"""How much executors may say to their schedulers: bytes on the way to the master, which ZeroMQ queues without a bound of ours.

A master that is stopped, or out of reach, counts as gone after a quarter of a minute; until then an executor that talks without
end would have a gigabyte wait for it. These messages are best effort, so what is too much is left out, and said.
"""

from __future__ import annotations

from collections import OrderedDict

from offerd.ids import FrameworkID

AT_ONCE_BYTES = 8 << 20
"""Of one framework's executors on this slave; then ..."""
BYTES_A_SECOND = 1 << 20
MESSAGE_BYTES = 512
"""Of a message beside its data: an empty one waits, too."""
MAX_FRAMEWORKS = 1000
"""Known by what they have said; those that have been silent for longest are forgotten."""


class Allowances:
    """Who may say how much more."""

    def __init__(self) -> None:
        self._left: OrderedDict[FrameworkID, tuple[float, float]] = (
            OrderedDict()
        )  # as of when; the latest last
        self._over: set[FrameworkID] = set()

    def takes(self, framework_id: FrameworkID, size: int, now: float) -> bool:
        """Whether so many bytes may go; then they are counted."""
        left, since = self._left.pop(framework_id, (float(AT_ONCE_BYTES), now))
        left = min(left + (now - since) * BYTES_A_SECOND, AT_ONCE_BYTES)
        may = left >= size
        self._left[framework_id] = (left - size if may else left, now)
        if len(self._left) > MAX_FRAMEWORKS:
            forgotten, _ = self._left.popitem(last=False)
            self._over.discard(forgotten)
        if may:
            self._over.discard(framework_id)
        return may

    def is_news(self, framework_id: FrameworkID) -> bool:
        """Whether nobody has heard yet that something of it was left out, since the last that went."""
        if framework_id in self._over:
            return False
        self._over.add(framework_id)
        return True
