"""Streams of events: who was away learns that it has missed some."""

from __future__ import annotations

from helpers.gateway import a_task, bare_context, changes, the_end, two_owners
from offerd_web.services.streams import IDLE_S, Events


def test_whoever_returns_after_events_were_not_kept_hears_that_some_were_missed() -> None:
    context = bare_context()
    events = Events(context)
    context.view.apply(two_owners(), 1000.0)
    assert events.begin("") is None
    task = a_task("bob", "t", 70.0)
    for answer in (changes(tasks=[task]), changes(ended=[the_end(task)])):
        events.take(context.view.apply(answer, 1000.0, events.reader))
    last = f"{events.name}-{events.end}"
    assert events.begin(last) == events.end, "nothing has happened since"
    events.left_at = 100.0
    events.flush(100.0 + IDLE_S / 2)
    assert events.begin(last) == events.end, "it returns soon"
    events.flush(101.0 + IDLE_S)
    assert events.reader is None, "nobody listens"
    context.view.apply(changes(tasks=[a_task("bob", "unseen", 80.0)]), 1000.0, events.reader)
    assert events.begin(last) is None
    assert events.reader is not None
