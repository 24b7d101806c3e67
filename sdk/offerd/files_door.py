"""What a client of a slave's file server goes by. Imports next to nothing: short tasks use it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class FilesDoor(Protocol):
    """Where a slave's files are, and how to ask for them."""

    @property
    def address(self) -> str:
        """`HOST:PORT`; empty where there is no way in."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's certificate, in hexadecimal; empty for one on loopback, which speaks plainly."""

    def authorization(self, method: str, path: str) -> str:
        """The `Authorization` of a request for this path (not quoted); empty for none."""


class FilesPass(NamedTuple):
    """One token and where to go with it: reads one sandbox or data set, and is all that a task needs."""

    address: str
    fingerprint: str
    token: str

    def authorization(self, method: str, path: str) -> str:
        """As `FilesDoor`: whatever the request is for."""
        return self.token
