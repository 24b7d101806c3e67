"""Histograms of durations, and what counts as lag of a loop."""

from __future__ import annotations

import pytest

from offerd.daemons.timings import Histogram, LoopLag
from offerd.protocol.change_messages import TIMING_BOUNDS_S


def lag_s(lag: LoopLag) -> float:
    """The lag of the last turn: the histogram begins anew."""
    found, lag.histogram = lag.histogram, Histogram()
    assert sum(found.counts) == 1
    return found.sum_s


def test_a_duration_counts_in_the_bucket_that_it_fits_into() -> None:
    histogram = Histogram()
    for took_s in (0.0, TIMING_BOUNDS_S[0], 0.0002, 3.0, 3.1, 500.0):
        histogram.add(took_s)
    assert histogram.timing().counts == [2, 1, *[0] * 7, 1, 2]
    assert histogram.timing().sum_s == pytest.approx(506.1003)


def test_bounds_rise() -> None:
    assert list(TIMING_BOUNDS_S) == sorted(set(TIMING_BOUNDS_S))


def test_a_loop_that_sleeps_until_something_comes_lags_only_from_then() -> None:
    lag = LoopLag(100.0)
    lag.waits(100.0, due_at=160.0)
    lag.woke(130.0)
    lag.reads(130.004)
    assert lag_s(lag) == pytest.approx(0.004), "as long as it paced itself"


def test_what_came_during_a_turn_has_waited_for_its_end() -> None:
    lag = LoopLag(100.0)
    lag.waits(100.0, due_at=200.0)
    lag.woke(101.0)
    lag.reads(101.0)
    lag_s(lag)
    lag.waits(103.0, due_at=200.0)  # the turn took two seconds
    lag.woke(103.00001)
    lag.reads(103.00001)
    assert lag_s(lag) == pytest.approx(2.0, abs=1e-4)


def test_what_was_due_counts_from_its_deadline() -> None:
    lag = LoopLag(100.0)
    lag.waits(100.0, due_at=101.0)
    lag.woke(101.5)  # the process was stopped
    lag.reads(101.5)
    assert lag_s(lag) == pytest.approx(0.5)


def test_a_deadline_of_long_ago_counts_from_the_last_turn() -> None:
    lag = LoopLag(100.0)
    for deadline in (float("-inf"), 5.0):
        lag.waits(100.0, deadline)
        lag.woke(100.25)
        lag.reads(100.25)
        assert lag_s(lag) == pytest.approx(0.25)
        lag = LoopLag(100.0)
