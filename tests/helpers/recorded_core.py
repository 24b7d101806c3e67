"""Cores whose steps are kept, as a daemon's are, so that a failure of a test can be replayed (`offerd debug replay`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offerd import __version__
from offerd.daemons.recording import Core, Header, Ring, pack, pack_state

MAX_STEPS = 200_000


class Steps:
    """The steps of one core since it was made. `make` makes another core like it."""

    def __init__(self, who: str, name: str, make: Callable[[], Core]) -> None:
        self.name = name
        self._who = who
        self._make = make
        self._ring = Ring(MAX_STEPS, 1 << 30)
        self.note = self._ring.note

    def write(self, directory: Path, why: str, now: float) -> Path:
        """Write them to a file with its name; returns the path."""
        is_whole = self._ring.first == 0
        header = Header(self._who, __version__, why, time.time(), now, self._ring.first, is_whole)
        path = directory / f"{self.name}.recording"
        state = pack_state(self._make()) if is_whole else ()
        path.write_bytes(b"".join(pack(header, state, self._ring.since(0))))
        return path


class RecordedCore:
    """Wraps a core and records its steps. `answers`: its actions for each step."""

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
