"""How a call that fits into no message reaches its executor: the executor asks for it, a piece at a time.

The task's `data` is then a *header*, no call. The executor asks the framework's scheduler for one piece after another by
framework messages, and again where none comes, for those may be lost; few are on their way at one time, so that a large call
takes no more of the master than a steady stream of middling messages. A scheduler answers only the slave that was given the
call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from offerd.wire.bounds import Data, Id

MAX_BYTES = 1 << 30
"""Largest call with its arguments, and largest result."""
PIECE_BYTES = 256 << 10
"""About what a frame is cut at."""
_MARK = b"\xc1"
"""MessagePack never begins anything so, and a call is MessagePack."""

Size = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
Offset = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
PieceSize = Annotated[int, Meta(ge=1, le=PIECE_BYTES)]


class AskPiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Executor to scheduler: so many bytes from this one on. Without a task: of the initializer."""

    task_id: Id
    offset: Offset
    count: PieceSize


class Piece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Scheduler to executor."""

    task_id: Id
    offset: Offset
    data: Data


_encode = msgspec.msgpack.Encoder().encode
_decode_size: Callable[[bytes], int] = msgspec.msgpack.Decoder(Size).decode
_decode_question: Callable[[bytes], AskPiece] = msgspec.msgpack.Decoder(AskPiece).decode
_decode_piece: Callable[[bytes], Piece] = msgspec.msgpack.Decoder(Piece).decode


def header(size_bytes: int) -> bytes:
    """What travels in place of a call of this size."""
    return _MARK + _encode(size_bytes)


def size_in(data: bytes) -> int | None:
    """The size of the call that this is the header of; None if it is none, but perhaps a call."""
    if data[:1] != _MARK:
        return None
    try:
        return _decode_size(data[1:])
    except (msgspec.MsgspecError, ValueError):
        return None


def ask(task_id: str, offset: int, count: int) -> bytes:
    """The question, as bytes for a framework message."""
    return _encode(AskPiece(task_id, offset, count))


def question_in(data: bytes) -> AskPiece | None:
    """None if it is no question of an executor of ours."""
    try:
        return _decode_question(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def answer(question: AskPiece, data: bytes) -> bytes:
    """The piece that was asked for, as bytes for a framework message."""
    return _encode(Piece(question.task_id, question.offset, data))


def piece_in(data: bytes) -> Piece | None:
    """None if it is no piece."""
    try:
        return _decode_piece(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
