"""The token to join with: what it is made of, and what is none."""

from __future__ import annotations

import string

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from offerd.credentials.keys import Keys, public_of
from offerd.errors import BadInput
from offerd_cli.join_tokens import TOKEN_LENGTH, make_token, read_token

PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())


def test_a_token_holds_the_masters_public_key_and_a_secret_one() -> None:
    assert read_token(make_token(PUBLIC, SECRET)) == Keys(SECRET, PUBLIC)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_any_token_is_one_argument_to_any_shell_and_no_option(master: bytes, secret: bytes) -> None:
    token = make_token(z85.encode(master).decode(), z85.encode(secret).decode())
    assert len(token) == TOKEN_LENGTH
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert token[0] == "A"
    assert read_token(token) == Keys(z85.encode(secret).decode(), z85.encode(master).decode())


@pytest.mark.parametrize(
    "text", ["", "nonsense", "A" * 86, "A" * 88, "B" + "A" * 86, "A" * 85 + "é!", "A" * 86 + "\n", "-" * 87]
)
def test_what_is_no_token_is_said_so_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="not a token from `offerd token new`") as caught:
        read_token(text)
    assert "\n" not in str(caught.value)


def test_a_token_of_which_one_letter_is_altered_is_another_key() -> None:
    token = make_token(PUBLIC, SECRET)
    for place in (5, 60):
        altered = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        keys = read_token(altered)
        assert (keys.master != PUBLIC) or (public_of(keys.secret) != public_of(SECRET))
