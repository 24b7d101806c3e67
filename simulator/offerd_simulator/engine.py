"""Virtual time: a list of calls that are due, and a clock that jumps from one to the next.

Calls due at the same instant happen in the order in which they were requested, so a run depends only on its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offerd.core.timers import Timer, Timers


class Engine:
    """A clock (`now`, in seconds), and the calls that are due on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: Timers[Callable[..., None], tuple[Any, ...]] = Timers()

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> Timer:
        """Call at this instant, or now if it has passed."""
        return self._timers.set(max(when, self.now), call, arguments)

    def after(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> Timer:
        return self.at(self.now + delay_s, call, *arguments)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a call. One that was made or cancelled already is ignored, and so is None."""
        if timer is not None:
            self._timers.cancel(timer)

    def run(self, until: float) -> None:
        """Make every call due up to this instant, and set the clock to it."""
        timers = self._timers
        while (when := timers.next_deadline()) is not None and when <= until:
            self.now = when
            for call, arguments in timers.due(when):
                call(*arguments)
        self.now = max(self.now, until)

    def run_while(self, condition: Callable[[], bool], *, limit: float, step_s: float = 1.0) -> None:
        """Run while the condition holds; it is checked every `step_s`. Raises `RuntimeError` if it still holds at `limit`."""
        while condition():
            if self.now >= limit:
                raise RuntimeError(f"the simulation has not ended after {limit:g} s of virtual time")
            self.run(self.now + step_s)


class Alarm:
    """One call, due at the earliest time that was requested since it was last made."""

    def __init__(self, engine: Engine, call: Callable[[], None]) -> None:
        self._engine = engine
        self._call = call
        self._timer: Timer | None = None
        self._due_at = 0.0

    def set(self, when: float) -> None:
        """Make the call at this instant or earlier."""
        if self._timer is not None:
            if self._due_at <= when:
                return
            self._engine.cancel(self._timer)
        self._due_at = when
        self._timer = self._engine.at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._call()
