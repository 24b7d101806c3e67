"""How the reports of a guest become reports of this run, and what happens to tests whose guest breaks down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import pytest

from helpers.guest import Guest, GuestFailed
from helpers.guest_reports import MOST_GUESTS, OnHost

LOCKED_UP = (
    "watchdog: BUG: soft lockup - CPU#1 stuck for 67s!\nKernel panic - not syncing: softlockup: hung tasks"
)


class ScriptedGuest:
    """Prints these lines, then ends or breaks down."""

    def __init__(self, lines: list[str], failure: str = "") -> None:
        self._lines = iter(lines)
        self._failure = failure
        self.is_closed = False

    def read(self, limit_s: float) -> str | None:
        line = next(self._lines, None)
        if line is None and self._failure:
            raise GuestFailed(self._failure)
        return line

    def console(self) -> str:
        return "the guest's console ends:"

    def close(self) -> None:
        self.is_closed = True


class ScriptedHost(OnHost):
    """A host with these guests, one after another."""

    def __init__(self, config: pytest.Config, *guests: ScriptedGuest) -> None:
        super().__init__(config)
        self._guests: Iterator[ScriptedGuest] = iter(guests)
        self.asked_for: list[list[pytest.Item]] = []

    def _start(self, selected: list[pytest.Item]) -> Guest:
        self.asked_for.append(selected)
        return cast(Guest, next(self._guests))


def _lines(config: pytest.Config, item: pytest.Item) -> list[str]:
    """The lines of a guest about a test that passes."""
    reports = [
        pytest.TestReport(item.nodeid, item.location, {}, "passed", None, when)
        for when in ("setup", "call", "teardown")
    ]
    return [
        json.dumps(config.hook.pytest_report_to_serializable(config=config, report=report))
        for report in reports
    ]


def test_what_the_guest_reports_is_reported_here(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = request.node
    host = ScriptedHost(request.config, ScriptedGuest(_lines(request.config, item)))
    assert [report.when for report in host.run(item, [item])] == ["setup", "call", "teardown"]
    assert not host.lockups


def test_a_guest_that_locks_up_is_replaced_and_named(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = request.node
    lines = _lines(request.config, item)
    first = ScriptedGuest(lines[:1], LOCKED_UP)
    host = ScriptedHost(request.config, first, ScriptedGuest(lines))
    assert [report.outcome for report in host.run(item, [item])] == ["passed"] * 3
    assert host.asked_for == [[item], [item]]
    assert first.is_closed
    (named,) = host.lockups
    assert named.startswith(item.nodeid)
    assert "CPU#1 stuck" in named


def test_guests_that_lock_up_again_and_again_fail_the_test(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = request.node
    host = ScriptedHost(request.config, *(ScriptedGuest([], LOCKED_UP) for _ in range(MOST_GUESTS)))
    (report,) = host.run(item, [item])
    assert report.failed
    assert "soft lockup" in report.longreprtext
    assert len(host.asked_for) == MOST_GUESTS


@pytest.mark.parametrize("failure", ["", "the guest said nothing for 360 s"])
def test_any_other_end_of_a_guest_fails_its_test_and_skips_the_rest(
    request: pytest.FixtureRequest, failure: str
) -> None:
    item: pytest.Item = request.node
    host = ScriptedHost(request.config, ScriptedGuest([], failure))
    (report,) = host.run(item, [item])
    assert report.failed
    (report,) = host.run(item, [item])
    assert report.skipped
    assert "broke down" in str(report.longrepr)
    assert len(host.asked_for) == 1
