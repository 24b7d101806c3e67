"""The executor's side of `offerd.python_calls.large_calls`: it fetches calls that are too large for a message, into files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from offerd.drivers.executor_loop import Timer
from offerd.python_calls import large_calls

AHEAD_BYTES = 4 * large_calls.PIECE_BYTES
"""Most bytes that have been asked for and have not come: a piece takes some milliseconds through master and slave."""
ASK_AGAIN_S = 3.0
"""If no piece has come for so long, ask again."""


@dataclass(slots=True)
class _Incoming:
    path: str
    size_bytes: int
    done: Callable[[str], None]
    """Called with an error text, or with "" when the file is complete."""
    fd: int = -1
    received_bytes: int = 0
    asked_bytes: int = 0


class LargeCalls:
    """Fetches large calls one after another. `send` is best effort; `call_later` is the loop's."""

    def __init__(
        self, send: Callable[[bytes], None], call_later: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._send = send
        self._call_later = call_later
        self._incoming: dict[str, _Incoming] = {}
        """In the order of arrival: the first one is being fetched."""
        self._timer: Timer | None = None

    def fetch(self, task_id: str, size_bytes: int, path: str, done: Callable[[str], None]) -> None:
        """Fetch the call of this task (empty: the initializer) into the file `path`; then call `done`."""
        self._incoming[task_id] = _Incoming(path, size_bytes, done)
        if len(self._incoming) == 1:
            self._ask()

    def forget(self, task_id: str) -> bool:
        """Stop fetching a call; returns whether it was being fetched or waiting for that."""
        incoming = self._incoming.get(task_id)
        if incoming is None:
            return False
        self._drop(task_id, incoming)
        return True

    def all_ids(self) -> list[str]:
        """The tasks whose calls are still being fetched."""
        return list(self._incoming)

    def take(self, message: bytes) -> bool:
        """Handle a framework message that may hold a piece. False if it does not."""
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
            return  # a piece that was asked for twice
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
        """Ask for what is missing of the first call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task_id, incoming in self._incoming.items():
            incoming.asked_bytes = incoming.received_bytes
            self._ask_on(task_id, incoming)
            return

    def _ask_on(self, task_id: str, incoming: _Incoming) -> None:
        """Ask for the next pieces, and for the same ones again if nothing comes."""
        until = min(incoming.size_bytes, incoming.received_bytes + AHEAD_BYTES)
        while incoming.asked_bytes < until:
            count = min(large_calls.PIECE_BYTES, incoming.size_bytes - incoming.asked_bytes)
            self._send(large_calls.ask(task_id, incoming.asked_bytes, count))
            incoming.asked_bytes += count
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_later(ASK_AGAIN_S, self._ask)
