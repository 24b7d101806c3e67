"""What hosts and people need to join: the token, a key of their own, made once, and enrolment, which may be repeated."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

import zmq

from offerd.credentials.keys import Keys, public_of, read_secret, write_secret
from offerd.errors import BadInput, OfferdError
from offerd.operator_messages import Rights
from offerd.values.key_names import ANOTHER_NAME
from offerd_cli.enrolment_client import enrol, is_known
from offerd_cli.join_tokens import read_token

TRY_OWN_KEY_S = 2.0
MOST_TYPED = 4096
"""Longest line, in characters, that is read as a token."""


def given_token(text: str) -> Keys:
    """The token given to a command; `-` means a line of standard input, read without echo at a terminal. A token on the command
    line can be read by every account of the host in the list of processes. Raises `BadInput` with one line.
    """
    if text != "-":
        return read_token(text)
    try:
        typed = getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline(MOST_TYPED)
    except (EOFError, UnicodeDecodeError):
        typed = ""
    if not typed.strip():
        raise BadInput(
            "there is no token on standard input; give it the line that `offerd token new` has printed"
        )
    return read_token(typed.strip())


def enrol_own_key(
    path: Path, where: str, token: Keys, name: str, *, name_option: str
) -> tuple[Keys, Rights | None]:
    """Enrol our key, and keep the secret part in `path`. Returns the keys, and the rights of `name`; None if an earlier try has
    enrolled the key and only the answer was lost: then the token may be used up, but the master knows the key.

    A stored key that the master does not know is never enrolled: it may have been revoked because somebody else has it. It
    stays until the new key is valid. Raises `OfferdError` with one line; for a name that is taken it names `name_option`.
    """
    pending = path.with_suffix(".joining")
    for earlier in (pending, path):
        if earlier.exists() and is_known(where, keys := Keys(read_secret(earlier), token.master)):
            os.replace(earlier, path)
            return keys, None
    keys = Keys(zmq.curve_keypair()[1].decode(), token.master)
    try:
        os.makedirs(path.parent.parent, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        os.makedirs(path.parent, exist_ok=True, mode=0o700)
        write_secret(pending, name, keys.secret)
    except OSError as error:
        raise BadInput(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        rights: Rights | None = enrol(where, token, name, public_of(keys.secret)).rights
    except OfferdError as error:
        if not _is_known_after_all(where, keys, pending):
            if ANOTHER_NAME in str(error):
                raise OfferdError(
                    str(error).replace(ANOTHER_NAME, f"{ANOTHER_NAME} with {name_option}")
                ) from None
            raise
        rights = None
    os.replace(pending, path)
    return keys, rights


def _is_known_after_all(where: str, keys: Keys, pending: Path) -> bool:
    """No good answer came: ask the master whether it knows the key. An unknown key is deleted; if nobody answers it is kept."""
    try:
        if is_known(where, keys, TRY_OWN_KEY_S):
            return True
    except OfferdError:
        return False
    pending.unlink()
    return False


def written(address: str) -> str:
    """An address as people write it, and as the store holds it."""
    return address.removeprefix("tcp://")
