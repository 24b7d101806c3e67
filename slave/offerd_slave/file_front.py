"""The front of the file server: connections wait here, without a thread, until they have sent a request with a good token.

A client without a token takes a descriptor and at most 16 KiB for five seconds. If there are too many of them, the oldest is
dropped, so that waiting clients keep nobody out. A request with a good token gets a thread of its own, up to a limit in all
and one for each owner; beyond it the answer is "busy". Each connection has a deadline for its next step (a complete head, the
next mebibyte); this loop drops those that are late.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

from offerd.daemons.log_limits import LogLimits
from offerd.values.screen_text import printable
from offerd_slave.file_requests import HeadReader, Refused, Request, line_answer

if TYPE_CHECKING:
    import ssl  # two megabytes, which a slave on loopback does without

MAX_WAITING = 256
"""Connections that have not sent a request yet, or have had their answer and may send the next one."""
MAX_WAITING_OF_ADDRESS = 64
"""The most of them from one address other than loopback."""
MAX_SERVED = 64
MAX_SERVED_OF_OWNER = 56
HEAD_S = 5.0
"""Time for a handshake and a request's head."""
IDLE_S = 30.0
"""Time between two requests."""
PIECE_S, PIECE_BYTES = 20.0, 1 << 20
"""How long a client may take for each mebibyte of a body (52 KB/s), not counting the time of the slave's disk."""
NEVER = math.inf
LOOK_S = 1.0
"""How often the deadlines of served connections are checked."""
LINGER_S = 0.05
"""How long a thread waits for the next request of its connection."""
GOODBYE_S = 1.0
"""How long more data of a refused client is discarded: it would lose the answer if the connection were closed at once."""
ACCEPT_AGAIN_S = 0.1
"""Pause after the descriptors ran out, or after an unforeseen error."""
READ_BYTES = 16 << 10
REFUSALS_PER_MINUTE = 6
"""How many refusals are logged."""

log = logging.getLogger("offerd.slave")


class Principal(NamedTuple):
    """The sender of a request with a good token: an owner of frameworks, or an operator."""

    name: str
    is_operator: bool


class Connection:
    """The connection of one client. While a thread serves it, only that thread uses it, but the loop drops it at its
    `deadline`."""

    __slots__ = ("deadline", "ip", "is_leaving", "is_secret", "is_shaking", "principal", "reader", "sock")

    def __init__(self, sock: socket.socket, ip: str, *, is_secret: bool) -> None:
        self.sock = sock
        self.ip = ip
        self.deadline = 0.0
        self.is_secret = is_secret  # it uses TLS ...
        self.is_shaking = is_secret  # ... and the handshake is not complete
        self.is_leaving = False  # its last answer was sent
        self.reader: HeadReader | None = None
        self.principal: Principal | None = None  # sender of the last request

    def send(self, data: bytes) -> None:
        """Send a short answer, within `PIECE_S`. Raises `OSError`."""
        self.deadline = time.monotonic() + PIECE_S
        self.sock.sendall(data)
        self.deadline = NEVER

    def cut(self) -> None:
        """Shut the connection down, from any thread; a thread that waits for it wakes up."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not SSLSocket's, which changes the object


Judge = Callable[[Request], Principal]
Serve = Callable[[Connection, Request, Principal], bool]


class Front:
    """Accepts connections and passes requests on. `judge` checks a request, and raises `Refused`; `serve` answers it in a
    thread, and returns whether the connection stays open."""

    def __init__(
        self, listener: socket.socket, tls: ssl.SSLContext | None, judge: Judge, serve: Serve
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._judge = judge
        self._serve = serve
        self._would_wait = _would_wait(tls)
        self.refused = 0
        """How many requests had no token, or not a good one."""
        self._lines = LogLimits(lambda level, line: log.log(level, "%s", line), REFUSALS_PER_MINUTE, 60)
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[Connection, None] = {}  # in the order in which they began to wait
        self._lock = threading.Lock()  # guards the two below and the log
        self._served: dict[Connection, None] = {}
        self._returned: deque[Connection] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._accept_again_at: float | None = None
        self._is_closing = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._loop, name="files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting connections; those that are being served end with the process, or by their deadline."""
        self._is_closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        with self._lock:  # a thread that has just finished may be about to write there
            os.close(self._wake)
            self._wake = -1
        while self._returned:
            self._returned.popleft().sock.close()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._is_closing:
            try:
                self._turn()
            except Exception as error:  # marked: one client must not end the server for all
                self._log("the server", f"stopped short by {type(error).__name__}: {error}")
                time.sleep(ACCEPT_AGAIN_S)  # an error that repeats should not take a whole processor
        for connection in list(self._waiting):
            self._drop(connection)
        self._selector.close()
        self._listener.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout_s()):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj == self._wake:
                os.eventfd_read(self._wake)
            elif key.data in self._waiting:
                self._guarded(key.data)
        while self._returned:
            self._wait_for(self._returned.popleft(), IDLE_S)
        self._cut_late(time.monotonic())

    def _timeout_s(self) -> float | None:
        deadlines = [connection.deadline for connection in self._waiting]
        if self._served:
            deadlines.append(time.monotonic() + LOOK_S)
        if self._accept_again_at is not None:
            deadlines.append(self._accept_again_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _cut_late(self, now: float) -> None:
        for connection in [waiting for waiting in self._waiting if waiting.deadline <= now]:
            self._drop(connection)
        with self._lock:
            late = [connection for connection in self._served if connection.deadline <= now]
        for connection in late:
            connection.deadline = NEVER  # its thread is about to notice
            connection.cut()
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        for _ in range(MAX_WAITING // 4):  # so that connections that exist already have their turn, too
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Unregistered, as pending connections would keep the socket readable.
                    self._selector.unregister(self._listener)
                    self._accept_again_at = time.monotonic() + ACCEPT_AGAIN_S
                    return
                if isinstance(error, BlockingIOError):
                    return
                continue  # the client is gone already
            try:
                self._welcome(sock, str(address[0]))
            except (OSError, ValueError):
                sock.close()

    def _welcome(self, sock: socket.socket, ip: str) -> None:
        # Head and body may be two writes: with Nagle's algorithm the second waits for the peer's delayed acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        of_address = [] if ip.startswith("127.") else [other for other in self._waiting if other.ip == ip]
        if len(of_address) >= MAX_WAITING_OF_ADDRESS:
            self._drop(of_address[0])
        connection = Connection(sock, ip, is_secret=self._tls is not None)
        self._wait_for(connection, HEAD_S)
        if connection in self._waiting:
            self._guarded(connection)  # its request has often arrived with it

    def _wait_for(self, connection: Connection, time_s: float) -> None:
        connection.deadline = time.monotonic() + time_s
        try:
            connection.sock.setblocking(False)
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        except (OSError, ValueError):
            connection.sock.close()
            return
        self._waiting[connection] = None
        if len(self._waiting) > MAX_WAITING:
            self._drop(next(iter(self._waiting)))

    def _drop(self, connection: Connection) -> None:
        self._forget(connection)
        connection.sock.close()

    def _forget(self, connection: Connection) -> None:
        if connection in self._waiting:
            del self._waiting[connection]
            self._selector.unregister(connection.sock)

    # -- a connection that waits --------------------------------------------------------------------------------------

    def _guarded(self, connection: Connection) -> None:
        try:
            self._advance(connection)
        except self._would_wait:
            pass
        except OSError:
            self._drop(connection)
        except Exception as error:  # marked: only this client is dropped
            self._drop(connection)
            self._log(connection.ip, f"dropped for {type(error).__name__}: {error}")

    def _advance(self, connection: Connection) -> None:
        """Go on with a handshake or a head, with the data that has arrived."""
        if connection.is_shaking:
            cast("ssl.SSLSocket", connection.sock).do_handshake()
            connection.is_shaking = False
        request = None
        while request is None:
            data = connection.sock.recv(READ_BYTES)
            if not data:
                self._drop(connection)
                return
            if connection.is_leaving:
                return
            if connection.reader is None:
                connection.reader = HeadReader()
                connection.deadline = time.monotonic() + HEAD_S
            try:
                request = connection.reader.take(data)
            except Refused as refusal:
                self._refuse(connection, refusal)
                return
        try:
            principal = self._judge(request)
        except Refused as refusal:
            self._refuse(connection, refusal)
            return
        connection.reader = None
        self._hand_over(connection, request, principal)

    def _hand_over(self, connection: Connection, request: Request, principal: Principal) -> None:
        with self._lock:
            of_owner = sum(other.principal == principal for other in self._served)
        if len(self._served) >= MAX_SERVED or of_owner >= MAX_SERVED_OF_OWNER:
            self._send_away(connection, BUSY)
            return
        self._forget(connection)
        connection.principal = principal
        connection.deadline = NEVER
        connection.sock.setblocking(True)
        with self._lock:
            self._served[connection] = None
        thread = threading.Thread(
            target=self._work, args=(connection, request, principal), name="files-request", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads
            with self._lock:
                del self._served[connection]
            connection.sock.close()

    def _refuse(self, connection: Connection, refusal: Refused) -> None:
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            self._note_refusal(connection.ip, refusal)
        self._send_away(connection, refusal)

    def _send_away(self, connection: Connection, refusal: Refused) -> None:
        """Send an answer that fits into the socket's buffer; after that, data of the client is ignored."""
        with suppress(OSError):
            connection.sock.send(line_answer(refusal))
            socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        connection.is_leaving = True
        connection.deadline = time.monotonic() + GOODBYE_S

    def _note_refusal(self, ip: str, refusal: Refused) -> None:
        with self._lock:
            self.refused += 1
        self._log(ip, f"refused: {refusal}")

    def _log(self, ip: str, text: str) -> None:
        with self._lock:
            self._lines.log(
                f"{ip} at the files",
                logging.WARNING,
                f"files: {ip} was {printable(text, limit=200)}",
                time.monotonic(),
            )

    # -- a connection that is served, in a thread of its own --------------------------------------------------------------

    def _work(self, connection: Connection, request: Request, principal: Principal) -> None:
        is_kept = False
        try:
            following: tuple[Request, Principal] | None = (request, principal)
            while following is not None:
                is_kept = self._serve(connection, *following)
                if not is_kept:
                    break
                following = self._next(connection)
        except Refused as refusal:
            is_kept = False
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                self._note_refusal(connection.ip, refusal)
            with suppress(OSError):
                connection.send(line_answer(refusal))
                socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        except OSError:  # the client is gone, or was dropped for being late
            is_kept = False
        except Exception as error:  # marked: only this client is dropped
            is_kept = False
            self._log(connection.ip, f"dropped for {type(error).__name__}: {error}")
        finally:
            with self._lock:
                del self._served[connection]
                is_kept = is_kept and self._wake >= 0
                if is_kept:
                    self._returned.append(connection)
                    os.eventfd_write(self._wake, 1)
            if not is_kept:
                connection.sock.close()

    def _next(self, connection: Connection) -> tuple[Request, Principal] | None:
        """The next request, if it follows at once; else None. Raises `Refused`, and `OSError` if the client is gone."""
        sock = connection.sock
        if not (connection.is_secret and cast("ssl.SSLSocket", sock).pending()):
            linger_s = LINGER_S if len(self._served) < MAX_SERVED // 2 else 0.0
            if not _is_readable(sock, linger_s):
                return None
        connection.deadline = time.monotonic() + HEAD_S
        reader = HeadReader()
        request = None
        while request is None:
            data = sock.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError
            request = reader.take(data)
        principal = self._judge(request)
        if principal != connection.principal:
            # Another principal, with whose requests this one is counted.
            connection.principal = principal
        connection.deadline = NEVER
        return request, principal


BUSY = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy")


def _would_wait(tls: ssl.SSLContext | None) -> tuple[type[OSError], ...]:
    """The exceptions of a non-blocking socket that would have to wait."""
    if tls is None:
        return (BlockingIOError,)
    from ssl import SSLWantReadError, SSLWantWriteError

    return BlockingIOError, SSLWantReadError, SSLWantWriteError


def _is_readable(sock: socket.socket, timeout_s: float) -> bool:
    with selectors.PollSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))
