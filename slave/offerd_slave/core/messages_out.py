"""How many bytes executors may send to their schedulers. ZeroMQ queues what goes to the master without a bound.

A stopped or unreachable master counts as gone after 15 seconds; until then an executor that sends without end could make a
gigabyte wait for it. These messages are best effort, so those beyond the limit are dropped, and the log says so.
"""

from __future__ import annotations

from collections import OrderedDict

from offerd.ids import FrameworkID

AT_ONCE_BYTES = 8 << 20
"""What one framework's executors on this slave may send at once; after that `BYTES_A_SECOND`."""
BYTES_A_SECOND = 1 << 20
MESSAGE_BYTES = 512
"""Size of a message without its data: empty messages take memory, too."""
MAX_FRAMEWORKS = 1000
"""How many frameworks are remembered; those that have been silent for longest are forgotten."""


class Allowances:
    """How much more each framework's executors may send now."""

    def __init__(self) -> None:
        self._left: OrderedDict[FrameworkID, tuple[float, float]] = (
            OrderedDict()
        )  # bytes left, and as of when; the latest last
        self._over: set[FrameworkID] = set()

    def takes(self, framework_id: FrameworkID, size: int, now: float) -> bool:
        """Whether this many bytes may be sent; if so, they are counted."""
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
        """Whether the log does not say yet that messages of this framework are dropped."""
        if framework_id in self._over:
            return False
        self._over.add(framework_id)
        return True
