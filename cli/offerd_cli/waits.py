"""Why something waits, for people: the master's reason, and the option that would end the wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from offerd.operator_messages import Waiting

EXPLAIN_AFTER_S = 1.0
EXPLAIN_EVERY_S = 1.0
_ENDED_BY = {
    "no_slave_large_enough": "ask for less with --cpus and --mem",
    "too_few_slaves": "ask for less with -n, --cpus and --mem",
    "too_few_to_spread": "ask for less with -n, or for more on one slave with --per-slave",
    "disk_full": "make room in their work directories",
    "filtered": "--attributes asks for these, --image for images=yes; `offerd slaves` lists what slaves have",
    "others_share": "`offerd tasks` lists what runs",
    "limit_reached": "--limit of the master sets it",
    "minimum_offer_not_free": "--minimum-offer of the slave or the master sets it",
    "guaranteed_share": "--guarantee of the master sets it",
}


def sentence(waiting: Waiting) -> str:
    """One line: the reason, and the option that ends the wait, if there is one."""
    if waiting.short_limit_s:
        return f"{waiting.message}; --timeout {waiting.short_limit_s:g}s, or less, would end this wait"
    ends = _ENDED_BY.get(waiting.why)
    return f"{waiting.message}; {ends}" if ends else waiting.message


class Reasons:
    """Asks for the reason after a second of waiting, and then again and again."""

    def __init__(self) -> None:
        self._question: Future[Waiting] | None = None
        self._ask_at = time.monotonic() + EXPLAIN_AFTER_S

    def turn(self, ask: Callable[[], Future[Waiting]]) -> Waiting | None:
        """To be called while it waits; returns the reason when it has come."""
        now, answer = time.monotonic(), None
        if self._question is not None and self._question.done():
            if self._question.exception() is None:
                answer = self._question.result()
            self._question, self._ask_at = None, now + EXPLAIN_EVERY_S
        if self._question is None and now >= self._ask_at:
            self._question = ask()
        return answer

    def rest(self) -> None:
        """It does not wait now. When it waits again, the reason is asked for a second later."""
        self._ask_at = time.monotonic() + EXPLAIN_AFTER_S
