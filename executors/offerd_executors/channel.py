"""The executor's end of a worker: it sends requests, reads answers, and takes back requests that the worker has not read.

Requests are sent as packets, so each is read whole or not at all. The executor keeps the reading end, too, so it can take back
what the worker has not read, and then knows exactly what the worker has. A worker answers each request before it reads the next
one. So after taking back, and then reading the answers that are there, at most one request is left: the call that the worker
runs now. This allows sending several short calls ahead to a worker: none of them has to wait behind a long one, is lost when
the worker dies, or is hit by the kill of another.
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
    """The worker has died, or has sent something that is not an answer: it cannot be used any more."""


class Channel:
    """Sockets to one worker. `fd` becomes readable when there are answers or the worker has died."""

    def __init__(self, sandbox: str) -> None:
        """Raises `OSError` if no descriptors are left."""
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
        """The descriptors that the forked worker reads from and writes to."""
        return self._unread.fileno(), self._answering.fileno()

    def forked(self) -> None:
        """The worker has its ends. The reading end of the requests stays open here; the answers show its death."""
        self._answering.close()

    def send(self, task_id: str, call: bytes | None) -> bool:
        """Send a request; `call` is None for one that is stored already. False if the kernel takes no more requests for this
        worker. Raises `OSError` if a large call cannot be stored."""
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

        The worker may go on reading meanwhile, so these need not be the last ones sent: only the packets show it.
        """
        taken: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while packet := self._unread.recv(REQUEST_BYTES, socket.MSG_DONTWAIT):
                taken.append(task_of(packet))
        return taken

    def read(self) -> list[bytes] | None:
        """The complete answers that have come; None if there is nothing to read. Raises `ChannelBroken` at the end of the
        stream."""
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
    """Remove the file of a request that was taken back or never read, if it has one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(sandbox, CALLS_DIRECTORY, task_id))
