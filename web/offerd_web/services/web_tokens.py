"""Web tokens: the secrets with which browsers and scripts reach the gateway, each for one owner of a key.

They are kept in one file of the gateway's state directory, as digests: whoever reads the file cannot use them. The commands
change the file, and a running gateway reads it again when it has changed. What a token's owner may do is decided at each
request, by the master's keys: a token outlives nobody's rights.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from offerd.credentials.trusted_files import read_trusted, replace_file
from offerd.errors import BadInput, OfferdError

FILE = "web-tokens.json"
ADDRESS_FILE = "address"
"""In the same directory: where the gateway listens, as HOST:PORT."""
THIS_HOST = "(this host)"
"""The owner of tokens that commands make for themselves, where they may write this file. They have the gateway's own rights, as
whoever may write here may use its key; no master needs to answer for them.
"""
PREFIX = "ow_"
"""So that a token is known for one when it is found where it does not belong."""
MAX_TOKENS = 1000
MAX_TEXT = 100
"""Characters of a token that is looked up at all."""


class WebToken(msgspec.Struct, frozen=True):
    """One token, without its secret."""

    token_id: str
    """Its name for people: eight letters, which open nothing."""
    digest: str
    """SHA-256 of the whole token, in hexadecimal."""
    owner: str
    """The owner of a key, whose rights it has. Empty where peers have no keys."""
    made_at: float
    """Unix time in seconds."""
    expires_at: float | None = None
    """None: never."""

    def is_good(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


class _File(msgspec.Struct):
    tokens: list[WebToken] = []


class WebTokens:
    """The tokens in a state directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._seen: tuple[int, int, int] | None = None
        self._by_digest: dict[str, WebToken] = {}

    def find(self, text: str, now: float) -> WebToken | None:
        """The token with this secret, if it is good now. Raises `BadInput` if the file is not to be believed."""
        if not text.startswith(PREFIX) or len(text) > MAX_TEXT:
            return None
        self._look()
        digest = _digest(text)
        found = self._by_digest.get(digest)
        # The lookup is by digest, so how long it takes says nothing about the secret.
        if found is None or not hmac.compare_digest(found.digest, digest) or not found.is_good(now):
            return None
        return found

    def known(self) -> list[WebToken]:
        """All tokens, the oldest first, also those that have expired."""
        self._look()
        return sorted(self._by_digest.values(), key=lambda token: token.made_at)

    def make(self, owner: str, now: float, ttl_s: float | None) -> str:
        """A new token; returns its text, which is kept nowhere. Raises `BadInput` if there are too many."""
        token_id = secrets.token_hex(4)
        text = f"{PREFIX}{token_id}_{secrets.token_urlsafe(32)}"
        made = WebToken(token_id, _digest(text), owner, now, None if ttl_s is None else now + ttl_s)

        def add(tokens: list[WebToken]) -> list[WebToken]:
            good = [token for token in tokens if token.is_good(now)]
            if len(good) >= MAX_TOKENS:
                raise BadInput(
                    f"there are {len(good)} web tokens; revoke some with `offerd web token revoke`"
                )
            return [*good, made]

        self._change(add)
        return text

    def revoke(self, token_id: str) -> None:
        """Take a token back, or (by its owner's name) all of one owner. Raises `BadInput` if there is none."""

        def remove(tokens: list[WebToken]) -> list[WebToken]:
            left = [token for token in tokens if token_id not in (token.token_id, token.owner)]
            if len(left) == len(tokens):
                raise BadInput(f"there is no web token {token_id}; `offerd web token list` lists them")
            return left

        self._change(remove)

    # -- the file -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the file if it is another than the last time."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._by_digest, self._seen = {}, None
            return
        except OSError as error:
            raise BadInput(f"cannot read {self._path}: {error.strerror}") from None
        seen = status.st_ino, status.st_mtime_ns, status.st_size
        if seen != self._seen:
            self._by_digest = {token.digest: token for token in self._read().tokens}
            self._seen = seen

    def _read(self) -> _File:
        try:
            text = read_trusted(self._path, "the file of web tokens", secret=True)
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise BadInput(f"cannot read {self._path}: {error.strerror}") from None
        try:
            return msgspec.json.decode(text, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(f"{self._path} is damaged: {error}; remove it, and make new tokens") from None

    def _change(self, change: Callable[[list[WebToken]], list[WebToken]]) -> None:
        with self._turn():
            after = change(self._read().tokens)
            try:
                replace_file(self._path, msgspec.json.encode(_File(after)).decode(), 0o600)
            except OSError as error:
                raise OfferdError(f"cannot write {self._path}: {error.strerror}") from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Changes of several processes come one after the other."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OfferdError(f"cannot write {self._path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
