"""A core whose steps go into a ring, as a daemon's do, beside what it answered."""

from __future__ import annotations

from typing import Any

from offerd.recording import Core, Ring


class RecordedCore:
    """In the place of a core: what it is asked for beside its steps is the core's."""

    def __init__(self, core: Core, ring: Ring) -> None:
        self.core = core
        self.ring = ring
        self.answers: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def handle(self, event: Any, now: float) -> list[Any]:
        self.ring.note(now, event)
        return self._answered(self.core.handle(event, now))

    def tick(self, now: float) -> list[Any]:
        self.ring.note(now, None)
        return self._answered(self.core.tick(now))

    def _answered(self, actions: list[Any]) -> list[Any]:
        self.answers.append(repr(actions))
        return actions
