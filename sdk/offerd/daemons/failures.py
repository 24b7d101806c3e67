"""What becomes of an error that a peer's message has brought about, and that nobody foresaw: that peer's message, and no more.

Each loop that handles peers' messages has one `except Exception` around one message. It logs this line, counts, drops the peer,
and goes on; what the message had brought about so far stays, and is said to whom it concerns.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from offerd.wire.screen_text import printable


def describe(message: object, error: Exception) -> str:
    """One line: which message (or a text that says what else), which error, and where it arose."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    what = message if isinstance(message, str) else f"a {type(message).__name__}"
    return f"{what} raised {type(error).__name__}{where}: {printable(str(error))}"


def text_of(error: BaseException) -> str:
    """What somebody else's exception says of itself, or else its `repr`: both are its own code, and may raise anything."""
    for say in (str, repr):
        try:
            if text := say(error):
                return text
        except BaseException:  # marked: not the error that this is about
            continue
    return f"{type(error).__qualname__}, whose text cannot be made"
