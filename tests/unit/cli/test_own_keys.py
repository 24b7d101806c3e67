"""Join tokens that are not on the command line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import zmq

from offerd.credentials.keys import Keys
from offerd.errors import BadInput, OfferdError
from offerd.values.key_names import ANOTHER_NAME
from offerd_cli.join_tokens import make_token
from offerd_cli.own_keys import enrol_own_key, given_token

PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())
TOKEN = make_token(PUBLIC, SECRET)


@pytest.mark.parametrize("typed", [TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\nmore\n"])
def test_a_token_comes_on_standard_input_for_a_dash(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert given_token("-") == Keys(SECRET, PUBLIC)
    assert given_token(TOKEN) == Keys(SECRET, PUBLIC)


@pytest.mark.parametrize(
    ("typed", "said"), [("", "no token on standard input"), ("x" * 10_000, "not a token from")]
)
def test_standard_input_without_a_token_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(BadInput, match=said):
        given_token("-")


@pytest.mark.parametrize("option", ["--as", "--name"])
def test_a_name_that_is_taken_is_refused_with_the_commands_own_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    def taken(*_: object) -> None:
        raise OfferdError(f"the name root is taken; {ANOTHER_NAME}, or have it revoked first")

    monkeypatch.setattr("offerd_cli.own_keys.enrol", taken)
    monkeypatch.setattr("offerd_cli.own_keys.is_known", lambda *_: False)
    with pytest.raises(OfferdError, match=f"choose another name with {option}, or have it revoked"):
        enrol_own_key(
            tmp_path / "keys" / "mine.key", "nowhere:1", Keys(SECRET, PUBLIC), "root", name_option=option
        )
