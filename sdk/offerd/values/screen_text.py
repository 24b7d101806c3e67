"""Makes peers' text safe for screens and logs: one line that cannot control a terminal or pass for one of our lines."""

from __future__ import annotations

ECHO_LIMIT = 200
"""Most characters of a peer's text that an error, a reason or a log line repeats."""
_ELLIPSIS = "…"


def printable(text: str, limit: int | None = ECHO_LIMIT) -> str:
    r"""`text` with everything that is not a visible character escaped as in Python (`\x1b`, `\n`, `\u202e`), and shortened.

    Escaped are control characters, line breaks and all blanks but the space, characters that reverse or hide text, lone
    surrogates, and code points without a character. Backslashes stay: the escapes are not meant to be read back. The result
    has at most `limit` characters (None: no limit), with an ellipsis at its end if some are missing. The work is bounded by
    `limit`, whatever `text` holds; text that needs no change is returned as it is.
    """
    if limit is None:
        return text if text.isprintable() else "".join(map(_shown, text))
    head = text[: limit + 1]
    if len(head) <= limit and head.isprintable():
        return head
    shown: list[str] = []
    length = whole = 0
    for letter in head:
        sign = _shown(letter)
        length += len(sign)
        if length > limit:
            return ("".join(shown[:whole]) + _ELLIPSIS)[:limit]
        shown.append(sign)
        if length < limit:  # there is still room for an ellipsis after it
            whole = len(shown)
    return "".join(shown)


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
