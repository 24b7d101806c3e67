"""Where a daemon's log goes: stderr, one line for each event, as service managers want it."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(name: str) -> None:
    """Time, level and text of everything logged below `name`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger(name)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
