"""Requests to the file server and the heads of its answers: HTTP/1.1 as far as files need it. Pure: bytes in, bytes out.

Heads are parsed by h11, which is strict, has a limit for what it holds, and has no sockets of its own. Python's
http.server holds 100 headers of 64 KiB for each connection, and imports seven megabytes of modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import h11

from offerd.files_access import access_of, scope_of

MAX_HEAD_BYTES = 16 << 10
MAX_TARGET_BYTES = 4 << 10
MAX_HEADERS = 64
METHODS = ("GET", "HEAD", "PUT", "DELETE")

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)


class Refused(Exception):
    """The request is refused: the answer is this status and one line."""

    def __init__(self, status: HTTPStatus, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """A head, and the part `rest` of the body that came with it. `parts` are those of the path, unquoted."""

    method: str
    parts: list[bytes] = field(default_factory=list)
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    keeps_open: bool = False
    rest: bytes = b""
    waits_for_continue: bool = False

    @property
    def access(self) -> str:
        """Whether it reads or writes (`offerd.files_access`)."""
        return access_of(self.method)

    @property
    def scope(self) -> str:
        """The scope that its token must have."""
        return scope_of([part.decode(errors="surrogateescape") for part in self.parts])

    @property
    def length(self) -> int:
        """The length of the body in bytes. Raises `Refused`."""
        text = self.headers.get("content-length", "")
        if not text or "transfer-encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
        if not _NUMBER.match(text):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length must be a whole number")
        return int(text)


class HeadReader:
    """Takes the bytes of one connection, and returns the request once its head is complete."""

    def __init__(self, rest: bytes = b"") -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._rest = rest

    def take(self, data: bytes) -> Request | None:
        """The request; None if more data is needed. Raises `Refused` for what is not a request, or not a supported one."""
        try:
            self._parser.receive_data(self._rest + data)
            self._rest = b""
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            raise Refused(
                status, "this is not a request" if status == 400 else status.phrase.lower()
            ) from None
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is not a request")
        return self._request(event)

    def _request(self, event: h11.Request) -> Request:
        if len(event.target) > MAX_TARGET_BYTES:
            raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "the path is too long")
        if len(event.headers) > MAX_HEADERS:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers")
        method = event.method.decode("latin-1")
        if method not in METHODS:
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, "this server knows GET, HEAD, PUT and DELETE")
        try:
            url = urlsplit(event.target.decode("latin-1"))
        except ValueError:  # brackets without an address
            raise Refused(HTTPStatus.BAD_REQUEST, "this is not a path") from None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        closes = event.http_version == b"1.0" or "close" in headers.get("connection", "").lower()
        rest = bytes(self._parser.trailing_data[0])
        length = headers.get("content-length", "0")
        # If there is a body that is not read, or the next request was sent early, the connection cannot be kept: it would
        # not be clear where the next request begins.
        is_clear = len(rest) <= int(length) if method == "PUT" and _NUMBER.match(length) else not rest
        is_clear = is_clear and (method == "PUT" or length == "0") and "transfer-encoding" not in headers
        return Request(
            method=method,
            parts=parts_of(url.path),
            query=url.query,
            headers=headers,
            keeps_open=is_clear and not closes,
            rest=rest,
            waits_for_continue=self._parser.they_are_waiting_for_100_continue,
        )


def parts_of(path: str) -> list[bytes]:
    """The parts of a URL's path, unquoted; a slash at the end is ignored."""
    first, *parts = [unquote_to_bytes(part) for part in path.split("/")]
    if parts and not parts[-1]:
        parts.pop()
    return [first, *parts] if first else parts


def head(status: HTTPStatus, headers: Mapping[str, object], *, keeps_open: bool) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    # A task's file must not act as a page of this server: browsers must not guess that it is HTML, run or cache it.
    lines += [
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; sandbox",
        "Cache-Control: no-store",
    ]
    if not keeps_open:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def line_answer(refusal: Refused, *, keeps_open: bool = False, with_body: bool = True) -> bytes:
    """A complete answer with one line for people."""
    body = f"{refusal}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": len(body), **refusal.headers}
    return head(refusal.status, headers, keeps_open=keeps_open) + (body if with_body else b"")


def wanted_part(size: int, header: str | None, query: str) -> tuple[int, int, bool]:
    """The first byte, the one after the last, and whether that is a partial answer. Raises `Refused`.

    `?offset=&length=` may begin at or past the end, and is then empty: it is for following a file that grows. An unsupported
    `Range` (several parts, another unit) is ignored, as HTTP requires.
    """
    if query:
        try:
            given = parse_qs(query, max_num_fields=8)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "only offset and length are supported") from None
        start = min(_number(given, "offset", 0), size)
        return start, min(size, start + _number(given, "length", size)), False
    match = _RANGE.match(header or "")
    if match is None or match[0] == "bytes=-":
        return 0, size, False
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return 0, size, False
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        raise Refused(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the file has {size} bytes",
            {"Content-Range": f"bytes */{size}"},
        )
    return start, end, True


def _number(given: dict[str, list[str]], name: str, default: int) -> int:
    text = given.get(name, [str(default)])[-1]
    if not _NUMBER.match(text):
        raise Refused(HTTPStatus.BAD_REQUEST, "offset and length must be whole numbers")
    return int(text)
