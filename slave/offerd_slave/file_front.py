"""The doorway of the file server: connections wait here, without a thread, until they have said what they want and may.

Whoever has no token costs a descriptor and at most 16 KiB for five seconds, and the oldest of them goes when there are too
many: nobody is kept out by those who only wait. A request with a good token gets a thread of its own, up to so many in all
and of one owner; more are told that we are busy. Each connection has a time by which the next thing has to have happened (a
head complete, the next mebibyte moved); this loop cuts those off that are late.
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
from offerd.wire.screen_text import printable
from offerd_slave.file_requests import HeadReader, Refused, Request, line_answer

if TYPE_CHECKING:
    import ssl  # two megabytes, which a slave on loopback does without

MAX_WAITING = 256
"""Connections that have not said yet what they want, or have had their answer and may ask again."""
MAX_WAITING_OF_ADDRESS = 64
"""Of them, from one address that is not loopback."""
MAX_SERVED = 64
MAX_SERVED_OF_OWNER = 56
HEAD_S = 5.0
"""For a handshake and a head."""
IDLE_S = 30.0
"""Between two requests."""
PIECE_S, PIECE_BYTES = 20.0, 1 << 20
"""So long we wait for a client with each mebibyte of a body: 52 KB/s. What our own disk takes is not its fault."""
NEVER = math.inf
LOOK_S = 1.0
"""How often it is looked whether those that are served are late."""
LINGER_S = 0.05
"""How long a thread waits for the next request of its connection."""
GOODBYE_S = 1.0
"""How long a refused client's further bytes are thrown away: closing at once would cost it the answer."""
ACCEPT_AGAIN_S = 0.1
"""When no descriptor was left for a connection, or the unforeseen has happened."""
READ_BYTES = 16 << 10
REFUSALS_PER_MINUTE = 6
"""Lines in the log."""

log = logging.getLogger("offerd.slave")


class Visitor(NamedTuple):
    """Who has proved what he may."""

    name: str
    is_operator: bool


class Connection:
    """One client's. While a thread serves it, it is that thread's; but for `deadline`, at which the loop cuts it off."""

    __slots__ = ("deadline", "ip", "is_leaving", "is_secret", "is_shaking", "reader", "sock", "visitor")

    def __init__(self, sock: socket.socket, ip: str, *, is_secret: bool) -> None:
        self.sock = sock
        self.ip = ip
        self.deadline = 0.0
        self.is_secret = is_secret  # it speaks TLS ...
        self.is_shaking = is_secret  # ... and the handshake is not over
        self.is_leaving = False  # it has had its last answer
        self.reader: HeadReader | None = None
        self.visitor: Visitor | None = None  # of the last request

    def send(self, data: bytes) -> None:
        """All of it, which is not much, within its time."""
        self.deadline = time.monotonic() + PIECE_S
        self.sock.sendall(data)
        self.deadline = NEVER

    def cut(self) -> None:
        """From any thread: whoever waits for this connection wakes."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not SSLSocket's, which changes the object


Judge = Callable[[Request], Visitor]
Serve = Callable[[Connection, Request, Visitor], bool]


class Front:
    """Accepts, and hands over. `judge` raises `Refused`; `serve` runs in a thread and says whether there may be more."""

    def __init__(
        self, listener: socket.socket, tls: ssl.SSLContext | None, judge: Judge, serve: Serve
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._judge = judge
        self._serve = serve
        self._would_wait = _would_wait(tls)
        self.refused = 0
        """Requests that a token was missing for, or of which it was not true."""
        self._lines = LogLimits(lambda level, line: log.log(level, "%s", line), REFUSALS_PER_MINUTE, 60)
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[Connection, None] = {}  # in the order in which they came or came back
        self._lock = threading.Lock()  # for the two below and the log
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
        """Take no connection any more; those that are served end with the process, or in time."""
        self._is_closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        with self._lock:  # a thread that is done just now may be about to write there
            os.close(self._wake)
            self._wake = -1
        while self._returned:
            self._returned.popleft().sock.close()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._is_closing:
            try:
                self._turn()
            except Exception as error:  # marked: one client's doing must not be the end for all
                self._tell("the server", f"stopped short by {type(error).__name__}: {error}")
                time.sleep(ACCEPT_AGAIN_S)  # what comes again and again is not to take all of a processor
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
            connection.deadline = NEVER  # its thread is about to see
            connection.cut()
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        for _ in range(MAX_WAITING // 4):  # those who are there already have their turn, too
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Who waits to be accepted would keep the socket readable.
                    self._selector.unregister(self._listener)
                    self._accept_again_at = time.monotonic() + ACCEPT_AGAIN_S
                    return
                if isinstance(error, BlockingIOError):
                    return
                continue  # it has gone already
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
            self._guarded(connection)  # what it wants has often come with it

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
        except Exception as error:  # marked: it costs this client only
            self._drop(connection)
            self._tell(connection.ip, f"dropped for {type(error).__name__}: {error}")

    def _advance(self, connection: Connection) -> None:
        """Take in what has come of a handshake or a head."""
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
            visitor = self._judge(request)
        except Refused as refusal:
            self._refuse(connection, refusal)
            return
        connection.reader = None
        self._hand_over(connection, request, visitor)

    def _hand_over(self, connection: Connection, request: Request, visitor: Visitor) -> None:
        with self._lock:
            of_owner = sum(other.visitor == visitor for other in self._served)
        if len(self._served) >= MAX_SERVED or of_owner >= MAX_SERVED_OF_OWNER:
            self._send_away(connection, BUSY)
            return
        self._forget(connection)
        connection.visitor = visitor
        connection.deadline = NEVER
        connection.sock.setblocking(True)
        with self._lock:
            self._served[connection] = None
        thread = threading.Thread(
            target=self._work, args=(connection, request, visitor), name="files-request", daemon=True
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
        """An answer that fits into the socket's buffer, and then nothing is heard any more."""
        with suppress(OSError):
            connection.sock.send(line_answer(refusal))
            socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        connection.is_leaving = True
        connection.deadline = time.monotonic() + GOODBYE_S

    def _note_refusal(self, ip: str, refusal: Refused) -> None:
        with self._lock:
            self.refused += 1
        self._tell(ip, f"refused: {refusal}")

    def _tell(self, ip: str, text: str) -> None:
        with self._lock:
            self._lines.log(
                f"{ip} at the files",
                logging.WARNING,
                f"files: {ip} was {printable(text, limit=200)}",
                time.monotonic(),
            )

    # -- a connection that is served, in a thread of its own --------------------------------------------------------------

    def _work(self, connection: Connection, request: Request, visitor: Visitor) -> None:
        is_kept = False
        try:
            following: tuple[Request, Visitor] | None = (request, visitor)
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
        except OSError:  # it has gone in the middle, or was cut off
            is_kept = False
        except Exception as error:  # marked: it costs this client only
            is_kept = False
            self._tell(connection.ip, f"dropped for {type(error).__name__}: {error}")
        finally:
            with self._lock:
                del self._served[connection]
                is_kept = is_kept and self._wake >= 0
                if is_kept:
                    self._returned.append(connection)
                    os.eventfd_write(self._wake, 1)
            if not is_kept:
                connection.sock.close()

    def _next(self, connection: Connection) -> tuple[Request, Visitor] | None:
        """The request that follows at once; None if none does. Raises `Refused`, and `OSError` if the client has gone."""
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
        visitor = self._judge(request)
        if visitor != connection.visitor:
            # Of another's: it is counted with his.
            connection.visitor = visitor
        connection.deadline = NEVER
        return request, visitor


BUSY = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy")


def _would_wait(tls: ssl.SSLContext | None) -> tuple[type[OSError], ...]:
    """What a socket that does not block raises where it would."""
    if tls is None:
        return (BlockingIOError,)
    from ssl import SSLWantReadError, SSLWantWriteError

    return BlockingIOError, SSLWantReadError, SSLWantWriteError


def _is_readable(sock: socket.socket, timeout_s: float) -> bool:
    with selectors.PollSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))
