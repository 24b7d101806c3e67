"""What routes share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from litestar.response import Stream

from offerd_web.api import problems

MAX_NAME = 300
IDENTIFIER = Parameter(min_length=1, max_length=MAX_NAME)


def streamed(
    pieces: AsyncGenerator[bytes, None],
    exits: AsyncExitStack,
    kind: str,
    headers: dict[str, str] | None = None,
) -> Stream:
    """An answer of these pieces, which end with it, wherever that is: Litestar leaves them to the garbage collector."""
    exits.push_async_callback(pieces.aclose)
    # Proxies must not collect pieces before they pass them on.
    return Stream(pieces, media_type=kind, headers={"X-Accel-Buffering": "no", **(headers or {})})


_ALWAYS = (400, 401, 403, 421, 502, 503)


def errors(*more: int) -> dict[int, ResponseSpec]:
    """The problem documents that a route answers with: those of every request, and its own."""
    return {
        status: ResponseSpec(
            problems.Problem,
            description=HTTPStatus(status).phrase,
            media_type=problems.MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted({*_ALWAYS, *more})
    }
