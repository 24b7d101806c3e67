"""Unexpected errors in handling a peer's message: they cost that message and the peer's connection, and no more.

Each loop that handles peers' messages has one `except Exception` around one message. It logs this line, counts it, drops the
peer, and goes on. What the message has already changed stays, and is reported to those concerned.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from offerd.values.screen_text import printable


def describe(message: object, error: Exception) -> str:
    """One line: which message (or a text that says what), which error, and where it was raised."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    what = message if isinstance(message, str) else f"a {type(message).__name__}"
    return f"{what} raised {type(error).__name__}{where}: {printable(str(error))}"


def text_of(error: BaseException) -> str:
    """The text of an exception of somebody else's class, or else its `repr`. Both run that class's code, which may raise."""
    for say in (str, repr):
        try:
            if text := say(error):
                return text
        except BaseException:  # marked: not the error that is to be described
            continue
    return f"{type(error).__qualname__}, whose text cannot be made"
