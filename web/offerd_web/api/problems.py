"""Errors of the API as problem documents (RFC 9457), with the same one line that the commands print."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from offerd.errors import BadInput, MasterUnreachable, OfferdError
from offerd.values.screen_text import printable
from offerd_web.services.refusal import Refusal

log = logging.getLogger("offerd.web")

MEDIA_TYPE = "application/problem+json"
MAX_LINE = 1000


class Problem(msgspec.Struct, kw_only=True):
    """What is wrong, as RFC 9457 says it."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """What is wrong, and what to do, in one line."""


def body_of(status: int, line: str) -> bytes:
    """The problem document."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(Problem(title=title, status=status, detail=printable(line, MAX_LINE)))


def answer(status: int, line: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(body_of(status, line), status_code=status, media_type=MEDIA_TYPE, headers=headers or {})


def on_offerd_error(_request: Request[Any, Any, Any], error: OfferdError) -> Response[bytes]:
    """What the commands would print."""
    if isinstance(error, Refusal):
        return answer(error.status, str(error), error.headers)
    if isinstance(error, BadInput):
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    if isinstance(error, MasterUnreachable):
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "2"})
    return answer(HTTPStatus.CONFLICT, str(error))


def on_http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework has refused: no such path, a wrong parameter, a body that is no JSON."""
    line = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        line = "; ".join(map(_words, error.extra)) or line
    elif error.status_code == HTTPStatus.NOT_FOUND:
        line = "there is nothing at this path; /v1/openapi.json says what there is"
    return answer(error.status_code, line, dict(error.headers or {}))


def on_bad_body(
    _request: Request[Any, Any, Any], error: UnicodeDecodeError | RecursionError
) -> Response[bytes]:
    """A body that is no text, or goes too deep."""
    is_text = isinstance(error, RecursionError)
    return answer(HTTPStatus.BAD_REQUEST, "the body goes too deep" if is_text else "the body is not UTF-8")


def on_defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A defect of ours: its traceback is in the log."""
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_http_error(request, error)
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    line = "the gateway has failed to answer this; its log says more"
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, line)


def _words(fault: dict[str, Any]) -> str:
    """One wrong parameter in words."""
    name, message = fault.get("key", "the request"), fault.get("message", "")
    what = "the body" if name == "data" else name
    return f"{what} is missing" if message == repr(name) else f"{what}: {message}"
