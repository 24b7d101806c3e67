"""Join words that are not on the command line."""

from __future__ import annotations

import io

import pytest
import zmq

from offerd.credentials.keys import Keys
from offerd.errors import BadInput
from offerd_cli.enrolling import given_word
from offerd_cli.join_words import make_word

PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())
WORD = make_word(PUBLIC, SECRET)


@pytest.mark.parametrize("typed", [WORD, f"{WORD}\n", f"  {WORD}\r\nmore\n"])
def test_a_word_comes_on_standard_input_for_a_dash(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert given_word("-") == Keys(SECRET, PUBLIC)
    assert given_word(WORD) == Keys(SECRET, PUBLIC)


@pytest.mark.parametrize(
    ("typed", "said"), [("", "no word on standard input"), ("x" * 10_000, "not a word from")]
)
def test_standard_input_without_a_word_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(BadInput, match=said):
        given_word("-")
