"""The slave's file server: sandboxes, read-only, over HTTP; and the data directory, to which clients also write.

    GET /containers/CONTAINER_ID/PATH      a file (`Range`, or `?offset=&length=`), or a directory as JSON
    GET, PUT, DELETE /data/@OWNER/SET/FILE see `offerd_slave.data_files`
    GET /statistics                        see `offerd_slave.statistics`
    GET /metrics                           see `offerd_slave.metrics`; for operators alone

Every request needs a token (`offerd.files_access`) for its scope. Owners can read what belongs to their own frameworks;
operators can read everything, and remove data sets. On other addresses than loopback the server uses only TLS, with its own
certificate, whose fingerprint clients get from the master.

The `ETag` of a file identifies its inode, not its content, so that a client that follows a log notices its rotation.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from offerd.addresses import HostPort, is_loopback
from offerd.errors import BadInput
from offerd.files_access import READ, parse_claim
from offerd.wire.routes import bound
from offerd_slave.data_files import DataDirectory
from offerd_slave.file_front import GOODBYE_S, NEVER, PIECE_BYTES, PIECE_S, Connection, Front, Principal
from offerd_slave.file_requests import Refused, Request, head, line_answer, wanted_part
from offerd_slave.files_secrets import FilesSecrets
from offerd_slave.served_paths import listing, open_beneath

if TYPE_CHECKING:
    import ssl

BACKLOG = 128
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""The text format of Prometheus."""
_UNAUTHORIZED = {"WWW-Authenticate": "Offerd"}


class FileServer:
    """Serves files in threads of its own until `close`."""

    def __init__(
        self,
        place: HostPort,
        work_dir: Path,
        data: DataDirectory,
        secrets: FilesSecrets,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Bind and start to serve; port 0 takes a free one. Raises `BadInput` if the address cannot be bound."""
        self._data = data
        self._secrets = secrets
        listener = _listen(place)
        self._place = HostPort(*listener.getsockname()[:2])
        self._is_loopback = is_loopback(self._place.host)
        self._containers = os.open(work_dir / "containers", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.statistics: Callable[[str | None], bytes] | None = None
        """Makes the document of `/statistics`, for one owner or (None) for all."""
        self.metrics: Callable[[], bytes] | None = None
        """Makes the text of `/metrics`."""
        self._front = Front(listener, tls, self._judge, self._answer)

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients."""
        return str(self._place)

    @property
    def refused(self) -> int:
        """How many requests had no token, or not a good one."""
        return self._front.refused

    def close(self) -> None:
        """Stop accepting connections."""
        self._front.close()
        os.close(self._containers)

    # -- checks -------------------------------------------------------------------------------------------------------

    def _judge(self, request: Request) -> Principal:
        """The sender of the request, if its token is good for this request. Raises `Refused`."""
        claim = parse_claim(request.headers.get("authorization", ""))
        if claim is None:
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "files need a token, which the master hands out", _UNAUTHORIZED
            )
        if claim.access != request.access or not self._secrets.is_good(claim, request.scope):
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "this token is not good for this, or not any more", _UNAUTHORIZED
            )
        self._check_host(request)
        return Principal(claim.name, claim.is_operator)

    def _check_host(self, request: Request) -> None:
        """Refuse requests to another host name than localhost, if the server is on loopback: an attacker can make any name
        resolve to 127.0.0.1 (DNS rebinding). Raises `Refused`."""
        if not self._is_loopback:
            return
        try:
            allowed = is_loopback(urlsplit("//" + request.headers.get("host", "")).hostname or "")
        except ValueError:
            allowed = False
        if not allowed:
            raise Refused(HTTPStatus.FORBIDDEN, "the only name of this server is localhost")

    # -- answers, each in a thread ----------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, request: Request, principal: Principal) -> bool:
        """Answer a request. Returns whether the connection may be kept."""
        try:
            match request.method, request.parts[:1]:
                case "GET" | "HEAD", [b"statistics"]:
                    body = self._statistics(principal)
                    self._send(connection, request, HTTPStatus.OK, JSON, body)
                case "GET" | "HEAD", [b"metrics"]:
                    self._send(connection, request, HTTPStatus.OK, METRICS, self._metrics(principal))
                case "GET" | "HEAD", [b"data"]:
                    self._send_found(connection, request, *self._data.open(request.parts[1:], principal))
                case "GET" | "HEAD", _:
                    found = open_beneath(
                        self._containers, request.parts, lambda owner: _may_read(principal, owner)
                    )
                    self._send_found(connection, request, *found)
                case "PUT", [b"data"]:
                    answer = self._data.put(
                        request.parts[1:], principal, _Body(connection, request), request.length
                    )
                    self._send(connection, request, HTTPStatus.CREATED, JSON, answer)
                case "DELETE", [b"data"]:
                    self._data.delete(request.parts[1:], principal)
                    self._send(connection, request, HTTPStatus.OK, TEXT, b"removed\n")
                case _:
                    raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only files below /data can be written")
        except Refused as refusal:
            # After a refused PUT a part of the body may be unread, so the connection cannot be kept.
            keeps_open = request.keeps_open and request.access == READ
            with_body = request.method != "HEAD"
            connection.send(line_answer(refusal, keeps_open=keeps_open, with_body=with_body))
            if not keeps_open:
                _say_goodbye(connection)
            return keeps_open
        return request.keeps_open

    def _statistics(self, principal: Principal) -> bytes:
        if self.statistics is None:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the slave is still starting")
        return self.statistics(None if principal.is_operator else principal.name)

    def _metrics(self, principal: Principal) -> bytes:
        if not principal.is_operator:
            raise Refused(
                HTTPStatus.FORBIDDEN, "metrics are for operators; /statistics has those of your own tasks"
            )
        if self.metrics is None:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the slave is still starting")
        return self.metrics()

    def _send_found(self, connection: Connection, request: Request, found: int, is_directory: bool) -> None:
        try:
            if is_directory:
                self._send(connection, request, HTTPStatus.OK, JSON, listing(found))
            else:
                self._send_file(connection, request, found)
        finally:
            os.close(found)

    def _send_file(self, connection: Connection, request: Request, file: int) -> None:
        status = os.fstat(file)
        size, tag = status.st_size, f'"{status.st_dev:x}-{status.st_ino:x}"'
        try:
            start, end, is_partial = wanted_part(size, request.headers.get("range"), request.query)
        except Refused as refusal:
            refusal.headers["ETag"] = tag
            raise
        headers: dict[str, object] = {"Content-Type": TEXT, "Content-Length": end - start}
        if is_partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers |= {"Accept-Ranges": "bytes", "ETag": tag}
        answer = HTTPStatus.PARTIAL_CONTENT if is_partial else HTTPStatus.OK
        connection.send(head(answer, headers, keeps_open=request.keeps_open))
        if request.method != "HEAD":
            _send_part(connection, file, start, end)

    def _send(
        self, connection: Connection, request: Request, status: HTTPStatus, kind: str, body: bytes
    ) -> None:
        headers = {"Content-Type": kind, "Content-Length": len(body)}
        sent = head(status, headers, keeps_open=request.keeps_open)
        connection.send(sent if request.method == "HEAD" else sent + body)


class _Body:
    """The body of a request, as a stream."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._rest = request.rest
        self._is_waited_for = request.waits_for_continue
        self._left_s = PIECE_S  # time to wait for the client during the current piece
        self._left_bytes = PIECE_BYTES

    def read(self, count: int) -> bytes:
        if self._rest:
            piece, self._rest = self._rest[:count], self._rest[count:]
            return piece
        if self._is_waited_for:
            self._is_waited_for = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        began = time.monotonic()
        self._connection.deadline = began + self._left_s
        piece = self._connection.sock.recv(count)
        self._connection.deadline = NEVER
        self._left_s -= time.monotonic() - began
        self._left_bytes -= len(piece)
        if self._left_bytes <= 0:
            self._left_s, self._left_bytes = PIECE_S, PIECE_BYTES
        return piece


def _send_part(connection: Connection, file: int, start: int, end: int) -> None:
    """Send a part of a file, each piece within `PIECE_S`. Raises `OSError` if the file has become shorter than the announced
    length.
    """
    sock = connection.sock
    while start < end:
        connection.deadline = time.monotonic() + PIECE_S
        piece_end = min(end, start + PIECE_BYTES)
        while start < piece_end:
            if not connection.is_secret:
                count = os.sendfile(sock.fileno(), file, start, piece_end - start)
            else:
                piece = os.pread(file, piece_end - start, start)
                sock.sendall(piece)
                count = len(piece)
            if not count:
                raise ConnectionAbortedError
            start += count
    connection.deadline = NEVER


def _say_goodbye(connection: Connection) -> None:
    """Discard unread data for a moment: if the connection were closed with unread data, the client could lose the answer."""
    connection.deadline = time.monotonic() + GOODBYE_S
    socket.socket.shutdown(connection.sock, socket.SHUT_WR)
    while connection.sock.recv(PIECE_BYTES):
        pass


def _may_read(principal: Principal, owner: str | None) -> bool:
    return principal.is_operator or principal.name == owner


def _listen(place: HostPort) -> socket.socket:
    try:
        listener = bound(*place)
    except (OSError, OverflowError) as error:
        raise _cannot_serve(place, error) from None
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_serve(place, error) from None
    return listener


def _cannot_serve(place: HostPort, error: Exception) -> BadInput:
    return BadInput(f"cannot serve files at {place}: {error}; choose another --ip or --http-port")
