"""The token with which a host or a person joins a cluster: `offerd token new` prints it, `offerd slave join` takes it.

It holds the masters' public key, by which the joiner verifies them, and a secret CURVE key that can only enrol a key of the
joiner's own. It is 87 characters of base64url: none is special to a shell, and the first is never a dash.
"""

from __future__ import annotations

import base64
import binascii

from zmq.utils import z85

from offerd.credentials.keys import Keys
from offerd.errors import BadInput

FORMAT = b"\0"
KEY_BYTES = 32
TOKEN_LENGTH = 87


def make_token(master_key: str, secret: str) -> str:
    """The text of a token: the masters' public key and the token's own secret key."""
    whole = FORMAT + z85.decode(master_key.encode()) + z85.decode(secret.encode())
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def read_token(text: str) -> Keys:
    """The keys to join with. Raises `BadInput` with one line if this is not a token."""
    try:
        whole = base64.b64decode(text.encode("ascii") + b"=", b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        whole = b""
    if len(whole) != 1 + 2 * KEY_BYTES or whole[:1] != FORMAT:
        raise BadInput(
            f"this is not a token from `offerd token new` ({len(text)} characters, not {TOKEN_LENGTH}): was it copied whole?"
        )
    master, secret = whole[1 : 1 + KEY_BYTES], whole[1 + KEY_BYTES :]
    return Keys(z85.encode(secret).decode(), z85.encode(master).decode())
