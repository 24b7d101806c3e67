"""A daemon's log: on stderr, one line for each event, as service managers expect.

Many lines contain a peer's text. It cannot start a line of its own: control characters are escaped here, for all lines.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from offerd.values.screen_text import printable

LINE_LIMIT = 2000
TRACEBACK_INDENT = "    "


class OneLine(logging.Formatter):
    """One line for each event. A traceback, which only a defect of ours causes, is indented below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message, LINE_LIMIT)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        lines = "".join(traceback.format_exception(*ei)).splitlines()
        return "\n".join(TRACEBACK_INDENT + printable(line, LINE_LIMIT) for line in lines)


def log_to_stderr(*names: str) -> None:
    """Write time, level and text of everything that these loggers, and those below them, log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    for name in names:
        log = logging.getLogger(name)
        log.handlers[:] = [handler]
        log.setLevel(logging.INFO)
        log.propagate = False


def warn_on_stderr() -> None:
    """For commands: print warnings of libraries on stderr, each as one line `offerd: ...`."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine("offerd: %(message)s"))
