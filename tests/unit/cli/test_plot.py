"""Bars and plots in block characters."""

from __future__ import annotations

from offerd_cli.bars import bar
from offerd_cli.plot import plot, resample


def test_a_bar_is_as_wide_as_asked_and_filled_to_an_eighth() -> None:
    assert bar(0, 4) == "····"
    assert bar(0.5, 4) == "██··"
    assert bar(1, 4) == "████"
    assert bar(0.28125, 4) == "█▏··"
    assert bar(7, 4) == "████"


def test_a_bar_shows_what_is_more_than_nothing() -> None:
    assert bar(0.0001, 4) == "▏···"


def test_a_plot_fills_its_columns_from_below() -> None:
    assert plot([0, 0.25, 0.5, 1], 2) == ["   █", " ▄██"]


def test_a_plot_shows_what_is_more_than_nothing() -> None:
    assert plot([0.001], 2) == [" ", "▁"]


def test_resampling_takes_the_mean_of_each_span_and_bridges_gaps() -> None:
    assert resample([(0, 1.0), (0.5, 0.0), (4, 0.5)], 4) == [0.5, 0.5, 0.5, 0.5]
    assert resample([(0, 1.0), (1, 0.0), (2, 0.0), (3.9, 0.25)], 4) == [1.0, 0.0, 0.0, 0.25]


def test_resampling_one_sample_or_none_is_no_error() -> None:
    assert resample([], 3) == []
    assert resample([(5, 0.5)], 2) == [0.5, 0.5]
