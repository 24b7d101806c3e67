"""The executor's side of `offerd.python_calls.large_calls`: gets what no message holds.

It keeps it in a file meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from offerd.drivers.executor_loop import Timer
from offerd.python_calls import large_calls

AHEAD_BYTES = 4 * large_calls.PIECE_BYTES
"""Asked for and not come yet: a piece takes some milliseconds through slave and master."""
ASK_AGAIN_S = 3.0
"""Where nothing has come for so long."""


@dataclass(slots=True)
class _Incoming:
    path: str
    size_bytes: int
    done: Callable[[str], None]
    """Called with what went wrong; with nothing when the file is whole."""
    fd: int = -1
    received_bytes: int = 0
    asked_bytes: int = 0


class LargeCalls:
    """What is still to come, one after another. `send` is best effort; `call_later` as the loop has it."""

    def __init__(
        self, send: Callable[[bytes], None], call_later: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._send = send
        self._call_later = call_later
        self._incoming: dict[str, _Incoming] = {}
        """In the order of their coming: the first is the one that is asked for."""
        self._timer: Timer | None = None

    def fetch(self, task_id: str, size_bytes: int, path: str, done: Callable[[str], None]) -> None:
        """Have the call of this task in the file `path`, or what has no task; then call `done`."""
        self._incoming[task_id] = _Incoming(path, size_bytes, done)
        if len(self._incoming) == 1:
            self._ask()

    def forget(self, task_id: str) -> bool:
        """It is not wanted any more; returns whether it was on its way."""
        incoming = self._incoming.get(task_id)
        if incoming is None:
            return False
        self._drop(task_id, incoming)
        return True

    def all_ids(self) -> list[str]:
        """Tasks whose calls are on their way."""
        return list(self._incoming)

    def take(self, message: bytes) -> bool:
        """A framework message: perhaps the piece that was asked for. False if it is no piece at all."""
        piece = large_calls.piece_in(message)
        if piece is None:
            return False
        first = next(iter(self._incoming), None)
        if piece.task_id == first:
            self._add(first, piece)
        return True

    def _add(self, first: str, piece: large_calls.Piece) -> None:
        incoming = self._incoming[first]
        is_next = piece.offset == incoming.received_bytes
        if not is_next or not 0 < len(piece.data) <= incoming.size_bytes - incoming.received_bytes:
            return  # one that was asked for twice
        try:
            self._write(incoming, piece.data)
        except OSError as error:
            self._drop(first, incoming)
            incoming.done(f"its call cannot be stored in the sandbox: {error.strerror}")
            return
        if incoming.received_bytes < incoming.size_bytes:
            self._ask_on(first, incoming)
            return
        os.close(incoming.fd)
        del self._incoming[first]
        self._ask()
        incoming.done("")

    def _write(self, incoming: _Incoming, data: bytes) -> None:
        if incoming.fd < 0:
            os.makedirs(os.path.dirname(incoming.path), 0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            incoming.fd = os.open(incoming.path, flags, 0o600)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(incoming.fd, rest) :]
        incoming.received_bytes += len(data)

    def _drop(self, task_id: str, incoming: _Incoming) -> None:
        is_first = next(iter(self._incoming)) == task_id
        del self._incoming[task_id]
        if incoming.fd >= 0:
            os.close(incoming.fd)
            with contextlib.suppress(OSError):
                os.unlink(incoming.path)
        if is_first:
            self._ask()

    def _ask(self) -> None:
        """For what is missing of the first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task_id, incoming in self._incoming.items():
            incoming.asked_bytes = incoming.received_bytes
            self._ask_on(task_id, incoming)
            return

    def _ask_on(self, task_id: str, incoming: _Incoming) -> None:
        """For the next pieces, and for the same again should nothing come."""
        until = min(incoming.size_bytes, incoming.received_bytes + AHEAD_BYTES)
        while incoming.asked_bytes < until:
            count = min(large_calls.PIECE_BYTES, incoming.size_bytes - incoming.asked_bytes)
            self._send(large_calls.ask(task_id, incoming.asked_bytes, count))
            incoming.asked_bytes += count
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_later(ASK_AGAIN_S, self._ask)
