"""Durations, amounts and pairs as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_cli.units import (
    format_bytes,
    format_duration,
    parse_duration,
    parse_pairs,
    task_resources,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        (" 2s ", 2.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "2x", "-2s", "2 s 3", "1e3s", "nan", "infs", "ms", "2s3"])
def test_a_bad_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="not a duration; write 500ms, 2s, 5m or 1h"):
        parse_duration(text)


def test_a_number_without_a_unit_is_refused_as_a_duration() -> None:
    with pytest.raises(BadInput, match="write 2s or 2m"):
        parse_duration("2")


def test_a_duration_of_centuries_is_refused() -> None:
    with pytest.raises(BadInput, match="ten years"):
        parse_duration("999999d")


@given(st.text(max_size=30))
def test_no_text_raises_anything_except_a_refusal(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0123, "12ms"),
        (0.9999, "1s"),
        (2, "2s"),
        (3.26, "3.3s"),
        (59.97, "1m"),
        (60, "1m"),
        (250, "4m10s"),
        (7500, "2h05m"),
        (7200, "2h"),
        (266400, "3d02h"),
    ],
)
def test_a_duration_is_written_with_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0B"), (999, "999B"), (1024, "1K"), (1536, "1.5K"), (128 << 20, "128M"), (15 << 29, "7.5G")],
)
def test_bytes_are_written_with_a_unit(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


def test_pairs_are_read_one_a_word_or_several() -> None:
    assert parse_pairs(["A=1", "B=x=y,z", "C="], "--env") == {"A": "1", "B": "x=y,z", "C": ""}
    assert parse_pairs(["rack=1,disk=ssd"], "--attributes", commas=True) == {"rack": "1", "disk": "ssd"}


@pytest.mark.parametrize("word", ["A", "=1", " =1", ""])
def test_a_word_without_a_key_or_an_equals_sign_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="write KEY=VALUE"):
        parse_pairs([word], "--env")


def test_a_task_takes_the_given_resources() -> None:
    assert task_resources("0.5", "128M") == Resources({"cpus": 500, "mem": 128 << 20})
    assert task_resources("1", "0") == Resources({"cpus": 1000})


@pytest.mark.parametrize(
    ("cpus", "mem"), [("x", "1M"), ("1", "128"), ("-1", "1M"), ("0.0001", "1M"), ("0", "0")]
)
def test_a_task_of_nonsense_or_nothing_is_refused(cpus: str, mem: str) -> None:
    with pytest.raises(BadInput):
        task_resources(cpus, mem)
