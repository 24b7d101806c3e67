"""How enrolled keys and tokens are written in a file or in ZooKeeper: as tables like those of the `--authorized` file.

They are checked as strictly as a peer's message when read. A bad entry is skipped, with a line that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from offerd.errors import BadInput
from offerd.values.key_names import is_public_key
from offerd_master.core.events import ChangeKept, EnrolmentRead
from offerd_master.core.registry import MAX_TTL_S, Change, Contents, Enrolled, Token
from offerd_master.principals import Principal, parse_principals, table_of

Table = dict[str, Any]
MAX_TEXT = 64
MAX_NUMBER = 1e15
"""Largest number of seconds, also for times since 1970."""
MAX_USES = 1_000_000
"""As many as `offerd token new` can ask for."""


class KeyStore(Protocol):
    """Keeps what is enrolled where the next master finds it."""

    contents: Contents
    """The contents at the first reading."""
    complaints: list[str]
    """A line for each entry that was skipped in it."""
    is_read: bool
    """Whether anything has been read yet. Until then no peer may be refused as unknown."""

    def read_before_leading(self) -> bool:
        """Whether everything that earlier masters have confirmed is known; to be called again until it is."""

    def keep(self, change: Change, epoch: int) -> None:
        """Write the change, as the leader of this epoch; `news` reports the result."""

    def news(self) -> Iterator[ChangeKept | EnrolmentRead]:
        """Results of `keep`, and contents that others have written."""

    def close(self) -> None:
        """Release what it holds."""


class Records:
    """Converts what is enrolled to tables and back. Tokens count on a monotonic clock here and on the wall clock in a table. So
    that clocks may be set meanwhile, a token never has more time left than it began with.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._now, self._wall = now, wall

    def of_key(self, enrolled: Enrolled) -> Table:
        return {"key": enrolled.key, **table_of(enrolled.principal), "by": enrolled.by}

    def of_token(self, token: Token) -> Table:
        return {
            "key": token.key,
            **table_of(token.rights),
            "by": token.by,
            "uses_left": token.uses_left,
            "ttl_s": token.ttl_s,
            "expires_at": self._wall() + token.until - self._now(),
        }

    def key(self, name: str, table: object) -> Enrolled:
        """Raises `BadInput`."""
        if not isinstance(table, dict):
            raise BadInput(f"{name[:MAX_TEXT]} is not a table")
        rest = dict(table)
        by = _text(rest.pop("by", ""))
        ((key, principal),) = parse_principals({name: rest}).items()
        return Enrolled(key, principal, by)

    def token(self, token_id: str, table: object) -> Token:
        """Raises `BadInput`."""
        if not isinstance(table, dict) or not token_id.isalnum():
            raise BadInput(f"{token_id[:MAX_TEXT]} is not a token")
        rest = dict(table)
        uses_left = rest.pop("uses_left", 0)
        ttl_s, expires_at = _number(rest.pop("ttl_s", 0.0)), _number(rest.pop("expires_at", 0.0))
        if type(uses_left) is not int or not 1 <= uses_left <= MAX_USES:
            raise BadInput(f"{token_id[:MAX_TEXT]}: uses_left must be 1 to {MAX_USES}")
        enrolled = self.key(token_id, rest)
        until = self._now() + max(0.0, min(ttl_s, MAX_TTL_S, expires_at - self._wall()))
        rights: Principal = replace(enrolled.principal, name="")
        return Token(token_id, enrolled.key, rights, uses_left, until, ttl_s, enrolled.by)

    def contents(self, keys: Table, tokens: Table) -> tuple[Contents, list[str]]:
        """The good entries of these tables, and a line for each bad one."""
        good_keys: dict[str, Enrolled] = {}
        good_tokens: dict[str, Token] = {}
        complaints: list[str] = []
        for name, table in keys.items():
            try:
                good_keys[name] = self.key(name, table)
            except BadInput as error:
                complaints.append(f"skipped a key that has joined: {error}")
        for token_id, table in tokens.items():
            try:
                good_tokens[token_id] = self.token(token_id, table)
            except BadInput as error:
                complaints.append(f"skipped a token: {error}")
        return Contents(good_keys, good_tokens), complaints


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_NUMBER < value < MAX_NUMBER:
        return 0.0  # also for NaN, for which every comparison is false
    return float(value)


def identity(public_key: str) -> str:
    """A short name for a cluster's key that fits into a file name. Raises `BadInput` if it is not a key."""
    import hashlib

    if not is_public_key(public_key):
        raise BadInput(f"{public_key!r} is not a public key")
    return hashlib.sha256(public_key.encode()).hexdigest()[:12]
