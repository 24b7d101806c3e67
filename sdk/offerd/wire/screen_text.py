"""Text of peers for screens and logs: one line, in which nothing steers a terminal or passes for a line of ours."""

from __future__ import annotations

ECHO_LIMIT = 200
"""Characters of what a peer said that an error, a reason or a line of a log repeats."""
_ELLIPSIS = "…"


def printable(text: str, limit: int | None = ECHO_LIMIT) -> str:
    r"""`text` with all that a screen does not show as a sign escaped as in Python (`\x1b`, `\n`, `\u202e`), and cut.

    Escaped are control characters, line breaks and all blanks but the space, characters that turn or hide text, lone
    surrogates, and what Unicode has not given out. A backslash stays as it is: nobody is to read the escapes back.
    The result has at most `limit` characters, an ellipsis at its end where some are missing; None cuts nothing. The
    work is bounded by `limit`, whatever `text` holds, and text that needs nothing is returned as it is.
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
        if length < limit:  # an ellipsis still has room behind it
            whole = len(shown)
    return "".join(shown)


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
