"""The word that somebody joins a cluster with: what `offerd token new` prints, and `offerd slave join` and others take.

It holds the masters' public key, so that the joiner knows whom he speaks to, and a secret CURVE key that is good for enrolling
his own, and for nothing else. 87 characters of base64url: no shell takes any of them for its own, and the first is no dash.
"""

from __future__ import annotations

import base64
import binascii

from zmq.utils import z85

from offerd.credentials.keys import Keys
from offerd.errors import BadInput

FORMAT = b"\0"
KEY_BYTES = 32
WORD_LENGTH = 87


def make_word(master_key: str, secret: str) -> str:
    """Of the masters' public key and a token's secret one."""
    whole = FORMAT + z85.decode(master_key.encode()) + z85.decode(secret.encode())
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def read_word(text: str) -> Keys:
    """The keys to join with. Raises `BadInput` with one line on what is no such word."""
    try:
        whole = base64.b64decode(text.encode("ascii") + b"=", b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        whole = b""
    if len(whole) != 1 + 2 * KEY_BYTES or whole[:1] != FORMAT:
        raise BadInput(
            f"this is no word of `offerd token new` ({len(text)} characters; one has {WORD_LENGTH}): was it copied whole?"
        )
    master, secret = whole[1 : 1 + KEY_BYTES], whole[1 + KEY_BYTES :]
    return Keys(z85.encode(secret).decode(), z85.encode(master).decode())
