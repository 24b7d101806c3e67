"""The application: all routes under /v1, the page, and what errors look like."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, cast

import msgspec
from litestar import Litestar, Request, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler

from offerd import __version__
from offerd.errors import OfferdError
from offerd_web.api import files, looking, monitoring, orders, page_files, past, problems, streaming, tasks
from offerd_web.api.gate import MAX_BODY_BYTES, Application, Gate
from offerd_web.services.callers import Caller, Callers
from offerd_web.services.context import Context
from offerd_web.services.sandboxes import Sandboxes
from offerd_web.services.streams import Streams
from offerd_web.services.web_tokens import WebTokens

ROUTES: list[ControllerRouterHandler] = [
    *looking.ROUTES,
    *tasks.ROUTES,
    *orders.ROUTES,
    *streaming.ROUTES,
    *files.ROUTES,
    *past.ROUTES,
]
"""Those below /v1."""


def _provided(it: Any) -> Provide:
    def give() -> Any:
        return it

    return Provide(give, sync_to_thread=False)


def application(
    context: Context,
    streams: Streams,
    sandboxes: Sandboxes,
    tokens: WebTokens,
    callers: Callers,
    hosts: Iterable[str],
) -> Gate:
    """Everything behind the gate. `hosts`: the names that clients may use for this server."""

    def the_caller(request: Request[Any, Any, Any]) -> Caller:
        caller: Caller = request.scope["state"]["caller"]
        return caller

    def the_exits(request: Request[Any, Any, Any]) -> AsyncExitStack:
        exits: AsyncExitStack = request.scope["state"]["exits"]
        return exits

    given = {"context": context, "past": context.past, "streams": streams, "sandboxes": sandboxes}
    provided = {name: _provided(it) for name, it in given.items()}
    provided["caller"] = Provide(the_caller, sync_to_thread=False)
    provided["exits"] = Provide(the_exits, sync_to_thread=False)
    inside = Litestar(
        [Router("/v1", route_handlers=ROUTES), *monitoring.ROUTES, *page_files.ROUTES],
        dependencies=provided,
        exception_handlers={
            OfferdError: problems.on_offerd_error,
            HTTPException: problems.on_http_error,
            UnicodeDecodeError: problems.on_bad_body,
            RecursionError: problems.on_bad_body,
            HTTPStatus.INTERNAL_SERVER_ERROR: problems.on_defect,
        },
        openapi_config=OpenAPIConfig(
            title="offerd",
            version=__version__,
            description="What a cluster is doing, and orders to it.",
            path="/v1/openapi.json",
            render_plugins=[JsonRenderPlugin(path="/")],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
            use_handler_docstrings=True,
        ),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )
    _forbid_more(inside, orders.ModeOrder)
    return Gate(cast(Application, inside), tokens, callers, hosts, context.requests)


def _forbid_more(inside: Litestar, kind: type[msgspec.Struct]) -> None:
    """Say in the OpenAPI document, too, that this kind of object has no other fields. Litestar does not."""
    schema = inside.openapi_schema.components.schemas[kind.__name__]
    schema.additional_properties = False
