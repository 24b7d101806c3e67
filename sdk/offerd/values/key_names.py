"""What the name of a key's owner, and a public key, may look like. `offerd.credentials.keys` makes and reads keys."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_Z85_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")
ANOTHER_NAME = "choose another name"
"""Stands in the master's refusal of a name that is taken; a command adds the option that gives the name."""


def name_fault(name: str) -> str:
    """Why this cannot be the name of a key's owner; empty if it can."""
    if _NAME.fullmatch(name):
        return ""
    return (
        f"{name[:64]!r} is not a valid name; write 1 to 40 letters, digits and `_.-`, a letter or digit first"
    )


def is_public_key(text: str) -> bool:
    """Whether this text is a key: 40 characters of Z85."""
    return _Z85_KEY.fullmatch(text) is not None
