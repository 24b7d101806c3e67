"""When killed containers and tasks are checked again, and when they are overdue."""

from __future__ import annotations

from offerd.ids import ContainerID, TaskID
from offerd_slave.retries import AGAIN_MAX_S, AGAIN_S, Look, Retries

KEY = ContainerID("c"), TaskID("a")
OTHER = ContainerID("c"), TaskID("")
NOTHING = Look(is_news=False, is_overdue=False)


def test_looks_become_rarer_until_a_new_request() -> None:
    retries, now, pauses_s = Retries(60.0), 100.0, []
    retries.begin(KEY, now)
    assert retries.next() is None, "the caller makes the first look"
    for _ in range(10):
        assert retries.still_there(KEY, now) == NOTHING
        assert retries.due(now) == []
        next_at = retries.next()
        assert next_at is not None
        pauses_s.append(round(next_at - now, 3))
        now = next_at
        assert retries.due(now) == [KEY]
        assert retries.next() is None, "a look is under way"
    assert pauses_s == [min(AGAIN_S * 2**doublings, AGAIN_MAX_S) for doublings in range(10)]
    retries.begin(KEY, now)
    retries.still_there(KEY, now)
    assert retries.next() == now + AGAIN_S


def test_a_wait_that_is_too_long_is_overdue_once() -> None:
    retries = Retries(60.0)
    retries.begin(KEY, 100.0)
    assert [retries.still_there(KEY, now).is_overdue for now in (159.9, 160.0, 161.0)] == [False, True, False]
    retries.drop(KEY)
    retries.begin(KEY, 161.0)
    assert not retries.still_there(KEY, 162.0).is_overdue, "another wait"


def test_a_complaint_is_news_only_when_it_changes() -> None:
    retries = Retries(60.0)
    retries.begin(KEY, 100.0)
    complaints = ["refused", "refused", "", "refused", "busy", "refused"]
    assert [retries.still_there(KEY, 101.0, each).is_news for each in complaints] == [
        True, False, False, False, True, True,
    ]  # fmt: skip


def test_dropping_a_container_drops_its_tasks() -> None:
    retries = Retries(60.0)
    for key in (KEY, OTHER, (ContainerID("d"), TaskID("a"))):
        retries.begin(key, 100.0)
        retries.still_there(key, 100.0)
    retries.drop_container(ContainerID("c"))
    assert retries.due(200.0) == [(ContainerID("d"), TaskID("a"))]
