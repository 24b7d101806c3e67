"""Requests that are refused."""

from __future__ import annotations

from http import HTTPStatus

from offerd.errors import OfferdError


class Refusal(OfferdError):
    """A request that is answered with this status and line."""

    def __init__(self, status: HTTPStatus, line: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = headers or {}


def not_found(what: str, name: str, where: str) -> Refusal:
    """There is no such thing, or the caller may not see it: the answer is the same."""
    return Refusal(HTTPStatus.NOT_FOUND, f"there is no {what} {name}; {where} lists them")
