"""Timers, compared with a list that is sorted anew for every question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offerd.core.timers import KeyedTimers, Timer, Timers

TIMES = st.integers(0, 8).map(float)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), TIMES),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
        st.tuples(st.just("take"), TIMES),
        st.tuples(st.just("due"), TIMES),
    ),
    max_size=60,
)


@given(ACTS)
def test_they_are_a_list_sorted_by_time_and_by_the_order_of_setting(acts: list[tuple[str, float]]) -> None:
    timers: Timers[int] = Timers()
    made: list[Timer] = []
    waiting: list[tuple[float, int]] = []
    for act, number in acts:
        due = sorted(each for each in waiting if each[0] <= number)
        match act:
            case "set":
                waiting.append((number, len(made)))
                made.append(timers.set(number, len(made)))
            case "cancel" if number < len(made):
                timers.cancel(made[int(number)])
                waiting = [each for each in waiting if each[1] != number]
            case "take":
                assert timers.take(number) == ((due[0][1],) if due else None)
                waiting = [each for each in waiting if each not in due[:1]]
            case "due":
                assert list(timers.due(number)) == [(serial,) for _, serial in due]
                waiting = [each for each in waiting if each not in due]
        assert len(timers) == len(waiting)
        assert timers.next_deadline() == min((when for when, _ in waiting), default=None)


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "due"]), st.integers(0, 5), TIMES), max_size=60))
def test_a_key_has_one_time(acts: list[tuple[str, int, float]]) -> None:
    timers: KeyedTimers[int] = KeyedTimers()
    waiting: dict[int, float] = {}  # in the order of setting
    for act, key, when in acts:
        match act:
            case "set":
                waiting.pop(key, None)
                waiting[key] = when
                timers.set(key, when)
            case "cancel":
                waiting.pop(key, None)
                timers.cancel(key)
            case "due":
                expected = sorted((key for key, at in waiting.items() if at <= when), key=waiting.__getitem__)
                assert list(timers.due(when)) == expected
                waiting = {key: at for key, at in waiting.items() if at > when}
        assert len(timers) == len(waiting)
        assert [timers.when(key) for key in range(6)] == [waiting.get(key) for key in range(6)]
        assert timers.next_deadline() == min(waiting.values(), default=None)


def test_what_is_set_and_cancelled_while_others_are_taken_counts() -> None:
    timers: Timers[str] = Timers()
    timers.set(1.0, "first")
    second = timers.set(1.0, "second")
    seen: list[str] = []
    for (name,) in timers.due(2.0):
        seen.append(name)
        if name == "first":
            timers.cancel(second)
            timers.set(0.5, "set meanwhile")
            timers.set(3.0, "later")
    assert seen == ["first", "set meanwhile"]
    assert timers.next_deadline() == 3.0


def test_what_is_cancelled_does_not_pile_up() -> None:
    timers: Timers[int] = Timers()
    keyed: KeyedTimers[str] = KeyedTimers()
    kept = [timers.set(1e9, number) for number in range(10)]
    for number in range(10_000):
        timers.cancel(timers.set(1e6 + number, number))
        keyed.set("key", 1e6 + number)
    assert (len(timers), len(keyed)) == (len(kept), 1)
    assert len(timers._heap) < 200
    assert len(keyed._timers._heap) < 200


def test_one_that_was_taken_may_be_cancelled() -> None:
    timers: Timers[str] = Timers()
    taken = timers.set(1.0, "taken")
    timers.set(2.0, "waits")
    assert timers.take(1.0) == ("taken",)
    timers.cancel(taken)
    assert len(timers) == 1
    assert timers.take(2.0) == ("waits",)
