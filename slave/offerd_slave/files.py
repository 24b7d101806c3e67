"""The slave's file server: sandboxes, read-only, over HTTP; and the data directory, which is written this way.

    GET /containers/CONTAINER_ID/PATH      a file (`Range`, or `?offset=&length=`), or a directory as JSON
    GET, PUT, DELETE /data/SET/FILE        see `offerd_slave.data_files`
    GET /statistics                        see `offerd_slave.statistics`

The `ETag` of a file names its inode, not its content: whoever follows a log knows by it that the log was rotated.

Sandboxes are written by tasks, and the slave may be root: a path is walked one component at a time from a directory that
is held open, no link is followed, and what is found is looked at before it is opened, so that nothing but regular files
and directories ever is.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from offerd.errors import BadInput
from offerd.ids import is_valid_id

if TYPE_CHECKING:
    from offerd_slave.data_files import DataDirectory

MAX_CONNECTIONS = 64
TIMEOUT_S = 30.0
"""Without a byte going either way, a connection is closed."""
MAX_LISTED = 10_000
"""Entries of one directory that are shown."""
ACCEPT_AGAIN_S = 0.1
"""When no descriptor was left for a connection."""

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n"

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
_NUMBER = re.compile(r"\d{1,18}\Z")


class Refused(Exception):
    """The request is answered with this status and one line."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


class FileServer:
    """Serves in threads of its own until `close`."""

    def __init__(self, host: str, port: int, work_dir: Path, data: DataDirectory | None = None) -> None:
        """Bind and begin; port 0 takes a free one. Raises `BadInput` if the address cannot be had."""
        try:
            self._server = _Server(host, port, work_dir / "containers", data)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"cannot serve files at {host}:{port}: {error}; choose another --ip or --http-port"
            ) from None
        self.statistics: Callable[[], bytes] | None = None
        self._server.statistics = lambda: self.statistics() if self.statistics is not None else None
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="files", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # Not `serve_forever`, which looks many times a second whether it is to end.
        while not self._is_closing:
            self._server.handle_request()

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def close(self) -> None:
        """Take no connection any more; those that are served end with the process or their timeout."""
        self._is_closing = True
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits there for a connection
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    statistics: Callable[[], bytes | None]

    def __init__(self, host: str, port: int, containers: Path, data: DataDirectory | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.containers = os.open(containers, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.data = data
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)  # closes all, by server_close, if it fails
        self.is_loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the DNS for our name.
        # Or a slave that is started again would not get its port back while old connections are in TIME_WAIT.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.free.acquire(blocking=False):
            request.setblocking(False)
            with suppress(OSError):  # it may have gone already
                request.send(BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self.free.release()
            raise

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(ACCEPT_AGAIN_S)  # who waits to be accepted keeps the socket readable
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news; anything else is ours and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        os.close(self.containers)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "offerd"
    sys_version = ""
    timeout = TIMEOUT_S
    # Head and body are two writes: with Nagle's algorithm the second waits 40 ms for the peer's delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        try:
            self._check_host()
            url = urlsplit(self.path)
            if url.path == "/statistics":
                self._send_statistics(with_body)
                return
            if self.server.data is not None and url.path.split("/")[:2] == ["", "data"]:
                found, is_directory = self.server.data.open(url.path)
            else:
                found, is_directory = open_beneath(self.server.containers, url.path)
        except Refused as refusal:
            self._send_line(refusal.status, str(refusal), with_body)
            return
        except ValueError:  # urlsplit: brackets that hold no address
            self._send_line(HTTPStatus.BAD_REQUEST, "this is no path", with_body)
            return
        if is_directory:
            try:
                self._send(HTTPStatus.OK, listing(found), "application/json", with_body)
            finally:
                os.close(found)
            return
        with open(found, "rb", buffering=0) as file:
            self._send_file(file, url.query, with_body)

    def _send_statistics(self, with_body: bool) -> None:
        found = self.server.statistics()
        if found is None:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the slave is still starting")
        self._send(HTTPStatus.OK, found, "application/json", with_body)

    def do_PUT(self) -> None:
        """Store a file in the data directory."""
        try:
            data, path = self._writable()
            if (length := self.headers.get("Content-Length", "")) and not _NUMBER.match(length):
                raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is a whole number")
            if not length or self.headers.get("Transfer-Encoding"):
                raise Refused(HTTPStatus.LENGTH_REQUIRED, "say the Content-Length")
            answer = data.put(path, cast(BinaryIO, self.rfile), int(length))
        except Refused as refusal:
            self.close_connection = True  # the body was not read, or not all of it
            self._send_line(refusal.status, str(refusal))
            return
        self._send(HTTPStatus.CREATED, answer, "application/json", with_body=True)

    def do_DELETE(self) -> None:
        """Remove a file or a set from the data directory."""
        try:
            data, path = self._writable()
            data.delete(path)
        except Refused as refusal:
            self.close_connection = True
            self._send_line(refusal.status, str(refusal))
            return
        self._send_line(HTTPStatus.OK, "removed")

    def _writable(self) -> tuple[DataDirectory, str]:
        """The data directory, if that is what the request is for. Raises `Refused`."""
        self._check_host()
        path = urlsplit(self.path).path
        if self.server.data is None or path.split("/")[:2] != ["", "data"]:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only files below /data can be written")
        return self.server.data, path

    def _check_host(self) -> None:
        """A name of somebody else's that was made to lead to our loopback (DNS rebinding) is no name of ours."""
        if not self.server.is_loopback:
            return
        name = urlsplit("//" + self.headers.get("Host", "")).hostname or ""
        try:
            allowed = name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            allowed = False
        if not allowed:
            raise Refused(HTTPStatus.FORBIDDEN, "this server is called localhost")

    def _send_file(self, file: BinaryIO, query: str, with_body: bool) -> None:
        status = os.fstat(file.fileno())
        size, tag = status.st_size, f'"{status.st_dev:x}-{status.st_ino:x}"'
        try:
            start, end, is_partial = wanted_part(size, self.headers.get("Range"), query)
        except Refused as refusal:
            self._send_line(refusal.status, str(refusal), with_body, size, tag)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if is_partial else HTTPStatus.OK)
        if is_partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self._send_headers("text/plain; charset=utf-8", end - start)
        if with_body and end > start:
            sent = self.connection.sendfile(file, start, end - start)
            if sent < end - start:  # cut off meanwhile: the promised length is not to be had
                self.close_connection = True

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        kind: str,
        with_body: bool,
        size: int | None = None,
        tag: str = "",
    ) -> None:
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.send_header("Content-Range", f"bytes */{size}")
        self._send_headers(kind, len(body))
        if with_body:
            self.wfile.write(body)

    def _send_line(
        self,
        status: HTTPStatus,
        line: str,
        with_body: bool = True,
        size: int | None = None,
        tag: str = "",
    ) -> None:
        self._send(status, f"{line}\n".encode(), "text/plain; charset=utf-8", with_body, size, tag)

    def _send_headers(self, kind: str, length: int) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        # A task's file is never a page of ours: not guessed to be HTML, not run, not kept.
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (bad request lines, other methods), in our form."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send_line(status, message or status.phrase, self.command != "HEAD")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who reads what is no news."""


def open_beneath(containers: int, path: str) -> tuple[int, bool]:
    """The descriptor of what a URL's path names in a sandbox, and whether it is a directory. Raises `Refused`."""
    parts = [unquote_to_bytes(part) for part in path.split("/")]
    if parts and parts[-1] == b"":
        parts.pop()
    if len(parts) < 3 or parts[:2] != [b"", b"containers"]:
        raise Refused(HTTPStatus.NOT_FOUND, "files are at /containers/CONTAINER_ID/PATH")
    container_id, *inner = parts[2:]
    if not is_valid_id(container_id.decode(errors="replace")):
        raise Refused(HTTPStatus.NOT_FOUND, "no such container")
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in inner):
        raise Refused(HTTPStatus.FORBIDDEN, "a path has no empty parts, no dots and no slashes in a part")
    walk = [step(containers, container_id)]
    try:
        walk.append(step(walk[-1], b"sandbox"))
        owner = os.fstat(walk[-1]).st_uid
        for part in inner:
            walk.append(step(walk[-1], part))
        return open_found(walk[-1], owner)
    finally:
        for fd in walk:
            os.close(fd)


def step(directory: int, name: bytes) -> int:
    """A handle of one entry (O_PATH: whatever it is, it is not opened, and cannot be exchanged any more)."""
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(HTTPStatus.NOT_FOUND, "no such file") from None
    except OSError as error:
        raise Refused(HTTPStatus.FORBIDDEN, f"not served: {error.strerror}") from None


def open_found(handle: int, owner: int) -> tuple[int, bool]:
    status = os.fstat(handle)
    is_directory = stat.S_ISDIR(status.st_mode)
    if not is_directory and not stat.S_ISREG(status.st_mode):
        raise Refused(HTTPStatus.FORBIDDEN, "not a regular file")
    if not is_directory and status.st_nlink > 1 and status.st_uid != owner:
        raise Refused(HTTPStatus.FORBIDDEN, "a link to another user's file")
    try:
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), is_directory
    except PermissionError:
        raise Refused(HTTPStatus.FORBIDDEN, "not readable by the slave") from None


def wanted_part(size: int, header: str | None, query: str) -> tuple[int, int, bool]:
    """First byte, the one after the last, and whether that is a partial answer. Raises `Refused`.

    `?offset=&length=` may begin at or past the end, and is then empty: made for following a file that grows. A `Range`
    that we do not understand (several parts, another unit) is passed over, as HTTP wants it.
    """
    if query:
        try:
            given = parse_qs(query, max_num_fields=8)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "only offset and length are known") from None
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
        raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {size} bytes")
    return start, end, True


def _number(given: dict[str, list[str]], name: str, default: int) -> int:
    text = given.get(name, [str(default)])[-1]
    if not _NUMBER.match(text):
        raise Refused(HTTPStatus.BAD_REQUEST, "offset and length are whole numbers")
    return int(text)


def listing(directory: int) -> bytes:
    """JSON: `{"entries": [{"name", "kind", "size_bytes", "modified_s"}], "truncated": bool}`, by name."""
    names = sorted(os.listdir(directory))
    entries = []
    for name in names[:MAX_LISTED]:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed meanwhile
        kind = (
            "file"
            if stat.S_ISREG(status.st_mode)
            else "directory"
            if stat.S_ISDIR(status.st_mode)
            else "other"
        )
        entries.append(
            {
                "name": name.encode(errors="surrogateescape").decode(errors="replace"),
                "kind": kind,
                "size_bytes": status.st_size,
                "modified_s": round(status.st_mtime, 3),
            }
        )
    return json.dumps({"entries": entries, "truncated": len(names) > MAX_LISTED}).encode()
