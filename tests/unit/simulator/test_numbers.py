"""Curves, estimates and distributions compared with what can be computed by hand."""

from __future__ import annotations

import math
import random

import pytest

from offerd_simulator.curves import Curve
from offerd_simulator.durations import KINDS, Durations
from offerd_simulator.experiments.table2 import elastic_exponential, time_of_integral
from offerd_simulator.statistics import Estimate, harmonic, quantile, stream, student_quantile


def steps() -> Curve:
    """2 from 1 s on, 5 from 3 s on, 0 from 4 s on."""
    curve = Curve()
    curve.add(1.0, 2)
    curve.add(3.0, 3)
    curve.add(4.0, -5)
    return curve


def test_a_curve_has_its_value_at_every_instant() -> None:
    curve = steps()
    assert [curve.at(t) for t in (-1.0, 0.0, 1.0, 2.9, 3.0, 4.0, 99.0)] == [0, 0, 2, 2, 5, 0, 0]


@pytest.mark.parametrize(
    ("start", "end", "area"), [(0, 10, 9.0), (1, 3, 4.0), (2, 3.5, 4.5), (3.2, 3.4, 1.0), (5, 9, 0.0)]
)
def test_the_area_below_a_curve(start: float, end: float, area: float) -> None:
    assert steps().integral(start, end) == pytest.approx(area)


def test_changes_of_one_instant_are_one_step() -> None:
    curve = Curve()
    curve.add(1.0, 4)
    curve.add(1.0, -1)
    assert (curve.times, curve.values) == ([0.0, 1.0], [0, 3])


def test_the_means_of_spans_add_up_to_the_area() -> None:
    assert sum(steps().sampled(0.0, 6.0, 12)) * 0.5 == pytest.approx(9.0)


def test_the_time_at_which_an_area_is_reached() -> None:
    assert time_of_integral(steps(), 4.0) == pytest.approx(3.0)
    assert time_of_integral(steps(), 6.5) == pytest.approx(3.5)
    with pytest.raises(ValueError, match="does not reach"):
        time_of_integral(steps(), 9.1)


@pytest.mark.parametrize(("freedom", "value"), [(4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)])
def test_student_quantiles_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(value, rel=0.01)


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    source = random.Random(3)
    hits = sum(Estimate.of(source.gauss(5, 2) for _ in range(10)).contains(5) for _ in range(2000))
    assert 0.93 < hits / 2000 < 0.97


def test_one_value_has_no_spread() -> None:
    estimate = Estimate.of([3.0])
    assert estimate.mean == 3.0
    assert math.isnan(estimate.half_width)
    with pytest.raises(ValueError, match="needs values"):
        Estimate.of([])


def test_an_interval_of_a_quotient() -> None:
    assert Estimate(4.0, 0.1).reciprocal(2.0) == Estimate(0.5, 0.0125)


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert math.isnan(quantile([], 0.5))


def test_streams_of_one_seed_and_purpose_are_the_same_and_others_are_not() -> None:
    first = [stream(1, "a").random(), stream(1, "a").random()]
    assert first[0] == first[1]
    assert len({stream(1, "a").random(), stream(1, "b").random(), stream(2, "a").random()}) == 3


def test_the_exact_ramp_up_of_a_hundred_exponential_slots_is_that_of_the_reference() -> None:
    assert harmonic(100) == pytest.approx(5.187, abs=0.001)


def test_the_elastic_exponential_completion_is_below_the_papers_bound_and_comes_up_to_it() -> None:
    assert elastic_exponential(1.0) == pytest.approx(1.841, abs=0.001)
    assert elastic_exponential(10.0) == pytest.approx(11.0, abs=0.001)


@pytest.mark.parametrize("kind", KINDS)
def test_distributions_have_the_mean_and_the_tail_they_say(kind: type[Durations]) -> None:
    durations, source = kind(60.0), random.Random(5)
    drawn = [durations.draw(source) for _ in range(60_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(60.0, rel=0.05)
    for limit_s in (15.0, 60.0, 240.0):
        beyond = sum(value > limit_s for value in drawn) / len(drawn)
        assert beyond == pytest.approx(durations.survival(limit_s), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_one_retry_never_loses_more_than_half(kind: type[Durations]) -> None:
    durations = kind(60.0)
    assert all(durations.wasted(limit_s) <= 0.5 for limit_s in range(1, 1000))
