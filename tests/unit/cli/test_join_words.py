"""The word to join with: what it is made of, and what is none."""

from __future__ import annotations

import string

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from offerd.credentials.keys import Keys, public_of
from offerd.errors import BadInput
from offerd_cli.join_words import WORD_LENGTH, make_word, read_word

PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())


def test_a_word_holds_the_masters_public_key_and_a_secret_one() -> None:
    assert read_word(make_word(PUBLIC, SECRET)) == Keys(SECRET, PUBLIC)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_any_word_is_one_argument_to_any_shell_and_no_option(master: bytes, secret: bytes) -> None:
    word = make_word(z85.encode(master).decode(), z85.encode(secret).decode())
    assert len(word) == WORD_LENGTH
    assert set(word) <= set(string.ascii_letters + string.digits + "-_")
    assert word[0] == "A"
    assert read_word(word) == Keys(z85.encode(secret).decode(), z85.encode(master).decode())


@pytest.mark.parametrize(
    "text", ["", "nonsense", "A" * 86, "A" * 88, "B" + "A" * 86, "A" * 85 + "é!", "A" * 86 + "\n", "-" * 87]
)
def test_what_is_no_word_is_said_so_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="not a word from `offerd token new`") as caught:
        read_word(text)
    assert "\n" not in str(caught.value)


def test_a_word_of_which_one_letter_is_altered_is_another_key() -> None:
    word = make_word(PUBLIC, SECRET)
    for place in (5, 60):
        altered = word[:place] + ("A" if word[place] != "A" else "B") + word[place + 1 :]
        keys = read_word(altered)
        assert (keys.master != PUBLIC) or (public_of(keys.secret) != public_of(SECRET))
