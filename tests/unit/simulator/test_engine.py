"""Virtual time: what is due when, and in which order."""

from __future__ import annotations

import pytest

from offerd_simulator.engine import Engine


def test_calls_are_made_in_the_order_of_their_times() -> None:
    engine = Engine()
    seen: list[object] = []
    for when in (3.0, 1.0, 2.0):
        engine.at(when, lambda at=when: seen.append((at, engine.now)))
    engine.run(10.0)
    assert seen == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert engine.now == 10.0


def test_calls_of_one_instant_are_made_in_the_order_of_their_requests() -> None:
    engine = Engine()
    seen: list[object] = []
    for i in range(20):
        engine.at(1.0, seen.append, i)
    engine.run(1.0)
    assert seen == list(range(20))


def test_what_is_due_later_waits() -> None:
    engine = Engine()
    seen: list[object] = []
    engine.after(5.0, seen.append, "late")
    engine.run(4.9)
    assert seen == []
    engine.run(5.0)
    assert seen == ["late"]


def test_a_cancelled_call_is_not_made_and_may_be_cancelled_again() -> None:
    engine = Engine()
    seen: list[object] = []
    timer = engine.after(1.0, seen.append, "no")
    engine.cancel(timer)
    engine.cancel(timer)
    engine.cancel(None)
    engine.run(2.0)
    assert seen == []


def test_a_call_for_the_past_is_made_now_and_time_does_not_go_back() -> None:
    engine = Engine()
    seen: list[object] = []
    engine.run(5.0)
    engine.at(1.0, lambda: seen.append(engine.now))
    engine.run(5.0)
    assert seen == [5.0]


def test_calls_asked_for_by_calls_are_made_in_the_same_run() -> None:
    engine = Engine()
    seen: list[object] = []

    def tick() -> None:
        seen.append(engine.now)
        engine.after(1.0, tick)

    engine.after(1.0, tick)
    engine.run(3.5)
    assert seen == [1.0, 2.0, 3.0]


def test_run_while_ends_when_the_condition_does_and_complains_if_it_never_does() -> None:
    engine = Engine()
    seen: list[object] = []
    engine.after(2.5, seen.append, 1)
    engine.run_while(lambda: not seen, limit=10.0)
    assert engine.now == 3.0
    with pytest.raises(RuntimeError, match="not ended after 20 s"):
        engine.run_while(lambda: True, limit=20.0)
