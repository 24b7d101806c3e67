"""The executor's end of a worker: requests out, answers in, and requests back that the worker has not read.

Requests travel as packets, so that each is read whole or not at all. The executor keeps the reading end, too: what the
worker has not read it can take back, and then knows exactly what the worker has. For a worker answers each request before
it reads the next. So after taking back, and then reading the answers that are there, at most one request is left, and
that is the call the worker is in. Several short calls can thus be on their way to a worker, and none of them waits
behind a long one, is lost with a worker that dies, or is hit by the kill of another.
"""

from __future__ import annotations

import contextlib
import os
import socket

from offerd_executors.worker import (
    CALLS_DIRECTORY,
    INLINE_CALL_BYTES,
    LENGTH,
    REQUEST_BYTES,
    pack_request,
    task_of,
)

READ_BYTES = 64 << 10


class ChannelBroken(Exception):
    """The worker has died, or its stream holds what is no answer: it is of no use any more."""


class Channel:
    """Sockets to one worker. `fd` becomes readable when there are answers, or the worker has died."""

    def __init__(self, sandbox: str) -> None:
        """Raises `OSError` if there are no more descriptors."""
        self._sandbox = sandbox
        self._requests, self._unread = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._answers, self._answering = socket.socketpair()
        except OSError:
            self._requests.close()
            self._unread.close()
            raise
        self._answers.setblocking(False)
        self._buffer = b""
        self.fd = self._answers.fileno()

    def worker_fds(self) -> tuple[int, int]:
        """What the forked worker reads from and writes to."""
        return self._unread.fileno(), self._answering.fileno()

    def forked(self) -> None:
        """The worker has its ends. The reading end of the requests stays open here; its death shows in the answers."""
        self._answering.close()

    def send(self, task_id: str, call: bytes | None) -> bool:
        """Send a request, None for one that is stored already; False if as many are on their way as the kernel takes. Raises
        `OSError` if a large one cannot be stored."""
        if call is not None and len(call) > INLINE_CALL_BYTES:
            self._store(task_id, call)
            call = None
        try:
            self._requests.send(pack_request(task_id, call), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def take_back(self) -> list[str]:
        """Take back every request that the worker has not read: their task ids, in order.

        The worker may go on reading meanwhile, so these need not be the last ones sent: only the packets themselves tell.
        """
        taken: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while packet := self._unread.recv(REQUEST_BYTES, socket.MSG_DONTWAIT):
                taken.append(task_of(packet))
        return taken

    def read(self) -> list[bytes] | None:
        """The answers that have come, none if only a part has; None if there is nothing to read. Raises `ChannelBroken` at
        the stream's end."""
        try:
            data = self._answers.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise ChannelBroken from None
        if not data:
            raise ChannelBroken
        if self._buffer:
            data = self._buffer + data
        answers, start = [], 0
        while len(data) - start >= LENGTH.size:
            end = start + LENGTH.size + LENGTH.unpack_from(data, start)[0]
            if end > len(data):
                break
            answers.append(data[start + LENGTH.size : end])
            start = end
        self._buffer = data[start:]
        return answers

    def close(self) -> None:
        for end in (self._requests, self._unread, self._answers, self._answering):
            end.close()

    def _store(self, task_id: str, call: bytes) -> None:
        directory = os.path.join(self._sandbox, CALLS_DIRECTORY)
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(
            os.path.join(directory, task_id),
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        with os.fdopen(fd, "wb") as file:
            file.write(call)


def forget_call(sandbox: str, task_id: str) -> None:
    """A request taken back, or never read: its file, if it had one, is not needed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(sandbox, CALLS_DIRECTORY, task_id))
