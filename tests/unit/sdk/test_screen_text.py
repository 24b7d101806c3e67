"""Peers' text, as screens and logs show it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.values.screen_text import ECHO_LIMIT, printable

anything = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("grüße, 日本, 🙂", "grüße, 日本, 🙂"),
        (r"C:\temp [x]", r"C:\temp [x]"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nINFO all is well\r", r"a\nINFO all is well\r"),
        ("a\tb\x00\x7f", r"a\tb\x00\x7f"),
        ("a\x85b\u2028c\u2029", r"a\x85b\u2028c\u2029"),
        ("\u202egpj.exe\u2069", r"\u202egpj.exe\u2069"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("no\xa0break", r"no\xa0break"),
        ("half \udc9b", r"half \udc9b"),
        ("", ""),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("ab\x1bcd", 6, r"ab\x1b"[:2] + "…"),
        ("a\x1bbcd", 6, r"a\x1b…"),
        ("ab\x1b", 6, r"ab\x1b"),
        ("\x1b\x1b", 3, "…"),
        ("x", 0, ""),
        ("", 0, ""),
        ("x" * 10_000, ECHO_LIMIT, "x" * (ECHO_LIMIT - 1) + "…"),
    ],
)
def test_a_long_text_is_cut_at_the_limit_and_never_within_an_escape(
    text: str, limit: int, shown: str
) -> None:
    assert printable(text, limit) == shown


def test_without_a_limit_nothing_is_cut() -> None:
    assert printable("x\n" * 1000, limit=None) == r"x\n" * 1000


def test_plain_text_is_not_copied() -> None:
    text = "a plain text of some words"
    assert printable(text, limit=None) is text


@given(anything, st.none() | st.integers(0, 40))
def test_any_text_becomes_one_line_of_visible_characters(text: str, limit: int | None) -> None:
    shown = printable(text, limit)
    assert limit is None or len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert not [letter for letter in shown if unicodedata.category(letter)[0] in "CZ" and letter != " "]
    shown.encode("utf-8")
    assert printable(shown, limit) == shown
