"""Logs: no peer can fill them, and no other peer's lines are lost because of it."""

from __future__ import annotations

from logging import INFO, WARNING

import pytest

from offerd.daemons import log_limits
from offerd.daemons.log_limits import WINDOW_S, LogLimits


class Lines(list[tuple[int, str]]):
    def emit(self, level: int, line: str) -> None:
        self.append((level, line))


def test_a_peer_writes_so_many_lines_a_minute_and_the_rest_is_counted() -> None:
    lines = Lines()
    limits = LogLimits(lines.emit, per_minute=3)
    for number in range(50_000):
        limits.log("mallory", WARNING, f"refused {number}", 10.0 + number / 50_000)
    assert lines == [(WARNING, "refused 0"), (WARNING, "refused 1"), (WARNING, "refused 2")]
    limits.report_left_out(10.0 + WINDOW_S)
    assert lines[3:] == [(WARNING, "49997 more lines of mallory left out")]
    limits.log("mallory", INFO, "again", 11.0 + WINDOW_S)
    assert lines[4:] == [(INFO, "again")]
    assert limits.left_out == 49_997


def test_others_are_not_kept_from_the_log_by_one() -> None:
    lines = Lines()
    limits = LogLimits(lines.emit, per_minute=2)
    for _ in range(10):
        limits.log(b"\x01\x02", WARNING, "nonsense", 1.0)
    limits.log("alice", INFO, "hello", 1.0)
    assert (INFO, "hello") in lines
    limits.report_left_out(1.0 + WINDOW_S)
    assert lines[-1] == (WARNING, "8 more lines of 0102 left out")


def test_a_peer_that_reconnects_for_each_line_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_limits, "MAX_PEERS", 50)
    lines = Lines()
    limits = LogLimits(lines.emit, per_minute=2, in_all=100)
    for number in range(5_000):
        limits.log(number, WARNING, "nonsense", 1.0)
    assert len(lines) == 100
    limits.log("alice", INFO, "hello", 1.5 + WINDOW_S)
    assert lines[-1] == (INFO, "hello")


def test_a_peer_within_its_limit_is_never_mentioned() -> None:
    lines = Lines()
    limits = LogLimits(lines.emit, per_minute=2)
    for second in range(0, 600, 31):
        limits.log("alice", INFO, "hello", float(second))
    assert [line for _, line in lines] == ["hello"] * 20
