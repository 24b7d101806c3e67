"""Virtual time: a heap of calls that are due, and a clock that jumps from one to the next.

Calls due at the same instant happen in the order in which they were asked for, so a run depends on nothing but its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Timer = list[Any]
"""`[when, serial, call, arguments]`; `call` is None once it was cancelled or made. Serials differ: no call is compared."""

_CALL, _ARGUMENTS = 2, 3


class Engine:
    """A clock (`now`, in seconds) and what is to happen on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls_made = 0
        self._heap: list[Timer] = []
        self._serial = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> Timer:
        """Call at this instant, or now if it has passed."""
        self._serial += 1
        timer: Timer = [max(when, self.now), self._serial, call, arguments]
        heapq.heappush(self._heap, timer)
        return timer

    def after(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> Timer:
        return self.at(self.now + delay_s, call, *arguments)

    def cancel(self, timer: Timer | None) -> None:
        """The call is not made; one made or cancelled already is passed over, and so is None."""
        if timer is not None:
            timer[_CALL] = None

    def run(self, until: float) -> None:
        """Make every call due up to this instant, and set the clock to it."""
        while self._heap and self._heap[0][0] <= until:
            self._next()
        self.now = max(self.now, until)

    def run_while(self, condition: Callable[[], bool], *, limit: float, step_s: float = 1.0) -> None:
        """Go on as long as the condition holds, looking at it every `step_s`. Raises `RuntimeError` if it holds at `limit`."""
        while condition():
            if self.now >= limit:
                raise RuntimeError(f"the simulation did not come to its end by {limit:g} s of virtual time")
            self.run(self.now + step_s)

    def _next(self) -> None:
        timer = heapq.heappop(self._heap)
        call = timer[_CALL]
        if call is None:
            return
        self.now = timer[0]
        timer[_CALL] = None
        self.calls_made += 1
        call(*timer[_ARGUMENTS])
