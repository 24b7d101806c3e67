"""Random events in random orders: the invariants hold after each, and every task ends once for its scheduler."""

from __future__ import annotations

from hypothesis import settings

from helpers.random_events import RandomEvents

RandomEvents.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestRandomEvents = RandomEvents.TestCase
