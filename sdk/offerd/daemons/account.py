"""Whose account this process runs in."""

from __future__ import annotations

import os
import pwd
from functools import cache


@cache
def account_name() -> str:
    """By name; "" for a uid that has none, as there are in containers. Looking it up may ask the network: once is enough."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
