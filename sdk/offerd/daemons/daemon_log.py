"""Where a daemon's log goes: stderr, one line for each event, as service managers want it.

Peers have a part in many of these lines. None of them makes a line of its own: what is no sign is escaped, here, for all.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from offerd.wire.screen_text import printable

LINE_LIMIT = 2000
TRACEBACK_INDENT = "    "


class OneLine(logging.Formatter):
    """An event is one line; a traceback, which only a defect of ours has, stands indented below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message, LINE_LIMIT)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        lines = "".join(traceback.format_exception(*ei)).splitlines()
        return "\n".join(TRACEBACK_INDENT + printable(line, LINE_LIMIT) for line in lines)


def log_to_stderr(*names: str) -> None:
    """Time, level and text of everything logged below these names."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    for name in names:
        log = logging.getLogger(name)
        log.handlers[:] = [handler]
        log.setLevel(logging.INFO)
        log.propagate = False


def warn_on_stderr() -> None:
    """For commands: what the libraries warn of goes to stderr without any of this, but as lines of the same kind."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine("offerd: %(message)s"))
