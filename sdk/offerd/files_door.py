"""What a client needs to use a slave's file server. Short tasks import this, so it imports almost nothing."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class FilesDoor(Protocol):
    """Where a slave's files are, and how to ask for them: what `FilesClient` needs, and `FilesAccess` and `FilesPass` have."""

    @property
    def address(self) -> str:
        """`HOST:PORT` of the file server; empty: no access."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's certificate, in hexadecimal; empty for a server on loopback, which has none."""

    def authorization(self, method: str, path: str) -> str:
        """The `Authorization` header of a request for this path (not quoted); empty for none."""


class FilesPass(NamedTuple):
    """One token and where to use it: it reads one sandbox or data set. `FilesAccess.narrowed` makes one, for a task."""

    address: str
    """`HOST:PORT` of the file server."""
    fingerprint: str
    """SHA-256 of the server's certificate, in hexadecimal; empty for a server on loopback."""
    token: str
    """The `Authorization` header."""

    def authorization(self, method: str, path: str) -> str:
        """The token, whatever the request is for."""
        return self.token
