"""What a person sees while a command waits."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from offerd.operator_messages import Waiting
from offerd_cli import waits


@pytest.mark.parametrize(
    ("waiting", "flag"),
    [
        (Waiting("long_task_cap", "long", 60.0), "--timeout 60s, or less"),
        (Waiting("no_slave_large_enough", "large"), "--cpus"),
        (Waiting("too_few_slaves", "few"), "-n"),
        (Waiting("too_few_to_spread", "few"), "--per-slave"),
        (Waiting("filtered", "filters"), "--attributes"),
        (Waiting("limit_reached", "limit"), "--limit"),
        (Waiting("minimum_offer_not_free", "minimum"), "--minimum-offer"),
        (Waiting("guaranteed_share", "guarantee"), "--guarantee"),
    ],
)
def test_the_reason_is_shown_with_the_option_that_ends_the_wait(waiting: Waiting, flag: str) -> None:
    said = waits.sentence(waiting)
    assert said.startswith(waiting.message)
    assert flag in said


def test_the_reason_is_asked_for_a_second_after_the_wait_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("offerd_cli.waits.time.monotonic", lambda: now)
    asked: list[Future[Waiting]] = []

    def ask() -> Future[Waiting]:
        asked.append(Future())
        return asked[-1]

    reasons = waits.Reasons()
    now = 100.9
    assert reasons.turn(ask) is None
    assert not asked
    reasons.rest()
    now = 101.5
    reasons.turn(ask)
    assert not asked, "it did not wait for a moment"
    now = 102.0
    reasons.turn(ask)
    answer = Waiting("no_slaves", "none")
    asked[0].set_result(answer)
    assert reasons.turn(ask) == answer
    now = 103.0
    assert reasons.turn(ask) is None
    asked[1].set_exception(OSError())
    assert reasons.turn(ask) is None, "an answer that does not come is asked for again"
