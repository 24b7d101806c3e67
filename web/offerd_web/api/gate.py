"""The gate in front of everything: whose request this is, and whether a browser was made to send it by another site.

Host            must be one of ours, against DNS rebinding
who             Authorization: Bearer TOKEN, or the cookie of a browser that has opened the printed address once
Origin          of a request that changes something, or that a cookie authorizes: must be our own
headers         a strict Content-Security-Policy; nothing may be kept in caches or shown in frames
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from litestar.exceptions import LitestarException

from offerd.errors import BadInput, MasterUnreachable, OfferdError
from offerd_web.api import problems
from offerd_web.services.callers import Caller, Callers
from offerd_web.services.refusal import Refusal
from offerd_web.services.web_tokens import WebToken, WebTokens

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("offerd.web")

COOKIE = "offerd_token"
"""The cookie's name begins so. The port follows, as browsers send the cookies of one host to all its ports."""
COOKIE_AGE_S = 30 * 86400
MAX_BODY_BYTES = 64 << 10
CHECK_S = 5.0
"""A long answer goes on for so long without another look at the token and its owner's rights."""
REFUSED = "refused"
"""The route, in counts, of requests that did not get in, or that are for no route."""
SAFE = ("GET", "HEAD", "OPTIONS")
FETCHED_BY_US = ("same-origin", "none")
"""What browsers say in Sec-Fetch-Site of requests from our own page, and of an address that was typed in."""
HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
OPEN_PAGE = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>offerd</title>"
    b"<h1>This browser has no token</h1><p>Open the address that <code>offerd local</code> or "
    b"<code>offerd web token new</code> has printed."
)


class Gate:
    """Lets requests in. The state of their scopes then has the `caller`, and `exits`, whose callbacks end what is streamed."""

    def __init__(
        self,
        inside: Application,
        tokens: WebTokens,
        callers: Callers,
        hosts: Iterable[str],
        counts: Counter[tuple[str, int]],
    ) -> None:
        """`hosts`: what clients may write in the Host header, in lower case, without a port. `counts`: of answers, by route and
        status, to be counted in.
        """
        self._inside = inside
        self._tokens = tokens
        self._callers = callers
        self._hosts = frozenset(hosts)
        self._counts = counts
        self._said = ""  # of the file of tokens; once, however many ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inside(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }

        checked_at = time.monotonic()
        caller: Caller | None = None

        async def send_ours(message: Message) -> None:
            nonlocal checked_at
            if caller is not None and message.get("more_body") and time.monotonic() - checked_at > CHECK_S:
                await self._check_again(scope, headers, caller)
                checked_at = time.monotonic()
            if message["type"] == "http.response.start":
                self._counts[scope.get("path_template") or REFUSED, message["status"]] += 1
                names = {name.lower() for name, _ in message.get("headers", ())}
                more = [pair for pair in HEADERS if pair[0] not in names]
                if b"cache-control" not in names:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            self._check_host(headers)
            if (token := self._token_in_address(scope)) is not None:
                await _answer(send_ours, HTTPStatus.SEE_OTHER, b"", self._entrance(token, headers))
                return
            caller, is_cookie = await self._caller(scope, headers)
            _check_origin(scope, headers, is_cookie)
        except Refusal as refusal:
            if refusal.status == HTTPStatus.UNAUTHORIZED and scope["path"] == "/":
                await _answer(
                    send_ours, refusal.status, OPEN_PAGE, [(b"content-type", b"text/html; charset=utf-8")]
                )
            else:
                await _refuse(send_ours, refusal.status, str(refusal), refusal.headers)
        except MasterUnreachable as error:
            await _refuse(send_ours, HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "2"})
        except OfferdError as error:
            await _refuse(send_ours, HTTPStatus.BAD_GATEWAY, str(error), {})
        else:
            state = scope.setdefault("state", {})
            state["caller"] = caller
            try:
                async with AsyncExitStack() as exits:
                    state["exits"] = exits
                    await self._inside(scope, _bounded(receive), send_ours)
            except LitestarException as error:
                if (why := _why_cut(error.__cause__)) is None:
                    raise
                # The server hangs up on whoever has not had the whole answer.
                log.info("an answer was cut off: %s", why)

    def _check_host(self, headers: dict[str, str]) -> None:
        host = headers.get("host", "").lower()
        name = (
            host[1 : host.find("]")]
            if host.startswith("[")
            else host.rpartition(":")[0]
            if ":" in host
            else host
        )
        if name not in self._hosts:
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this is not {name or 'a server without a name'}; `offerd web --host NAME` adds names of this server",
            )

    def _token_in_address(self, scope: Scope) -> str | None:
        """The token in the printed address, `/?token=...`."""
        if scope["path"] != "/" or scope["method"] != "GET" or not scope["query_string"]:
            return None
        values = parse_qs(scope["query_string"].decode("latin-1")).get("token", ())
        return values[0] if values else None

    def _entrance(self, token: str, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
        """To the page, without the token in the address, where it would be kept and shown. A wrong token only has no effect."""
        entrance = [(b"location", b"/")]
        if self._find(token) is not None:
            name = _cookie_name(headers)
            cookie = f"{name}={token}; Path=/; Max-Age={COOKIE_AGE_S}; HttpOnly; SameSite=Strict"
            entrance.append((b"set-cookie", cookie.encode()))
        return entrance

    async def _caller(self, scope: Scope, headers: dict[str, str]) -> tuple[Caller, bool]:
        """The caller, and whether a cookie says who it is."""
        scheme, _, text = headers.get("authorization", "").partition(" ")
        is_cookie = not scheme
        if is_cookie:
            text = _cookie(headers)
        token = self._find(text.strip()) if is_cookie or scheme.lower() == "bearer" else None
        if token is None:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "a web token is needed: `offerd web token new` makes one; send it as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )
        return await self._callers.caller(token.owner), is_cookie

    def _find(self, text: str) -> WebToken | None:
        try:
            found = self._tokens.find(text, time.time())
        except BadInput as error:
            if str(error) != self._said:
                log.error("%s", error)
            self._said = str(error)
            line = "the gateway cannot read its web tokens; its log says why"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, line) from None
        self._said = ""
        return found

    async def _check_again(self, scope: Scope, headers: dict[str, str], caller: Caller) -> None:
        """Raises `ConnectionAbortedError` if the token is not good any more, or its owner's rights are others."""
        try:
            now, _ = await self._caller(scope, headers)
        except OfferdError as error:
            raise ConnectionAbortedError(str(error)) from None
        if now != caller:
            raise ConnectionAbortedError(f"{caller.name or 'the caller'} has other rights now")


def _why_cut(error: BaseException | None) -> str | None:
    """Why an answer that had begun was cut off on purpose; None: it was not."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return str(error) if isinstance(error, ConnectionAbortedError) else None


def _cookie_name(headers: dict[str, str]) -> str:
    port = headers.get("host", "").rpartition("]")[2].rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def _cookie(headers: dict[str, str]) -> str:
    """Our cookie's value. Other servers of this host set cookies, too, of any form."""
    wanted = _cookie_name(headers)
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return ""


def _check_origin(scope: Scope, headers: dict[str, str], is_cookie: bool) -> None:
    """Refuse what another site made a browser send."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    own = headers.get("host", "").lower()
    is_foreign = origin is not None and origin.lower().partition("://")[2] != own
    is_foreign = is_foreign or (site is not None and site not in FETCHED_BY_US)
    is_unknown = is_cookie and scope["method"] not in SAFE and origin is None and site is None
    if is_foreign or is_unknown:
        raise Refusal(HTTPStatus.FORBIDDEN, "the request comes from another site, or does not say from where")


def _bounded(receive: Receive) -> Receive:
    """Reads no more of a body than `MAX_BODY_BYTES`."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise Refusal(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {MAX_BODY_BYTES >> 10} KiB at most"
                )
        return message

    return receive_some


async def _refuse(send: Send, status: int, line: str, headers: dict[str, str]) -> None:
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await _answer(
        send,
        status,
        problems.body_of(status, line),
        [(b"content-type", problems.MEDIA_TYPE.encode()), *pairs],
    )


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": int(status), "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
