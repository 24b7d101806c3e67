"""The account that this process runs as."""

from __future__ import annotations

import os
import pwd
from functools import cache


@cache
def account_name() -> str:
    """Its name; "" for a uid without one, as in containers. Cached, because the lookup may ask the network."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
