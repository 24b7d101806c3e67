"""How a call that is too large for a message reaches its executor: the executor asks for it piece by piece.

The task's `data` is then a *header* instead of a call. The executor asks the framework's scheduler for one piece after another
with framework messages, and repeats a question that is not answered, because framework messages may be lost. Only a few pieces
are under way at a time, so a large call loads the master no more than a steady stream of medium-sized messages. A scheduler
answers only the slave that was given the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from offerd.values.bounds import Data, Id

MAX_BYTES = 1 << 30
"""Largest call with its arguments, and largest result."""
PIECE_BYTES = 256 << 10
"""About the size at which frames are cut."""
_MARK = b"\xc1"
"""A byte that MessagePack never uses; a call is MessagePack."""

Size = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
Offset = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
PieceSize = Annotated[int, Meta(ge=1, le=PIECE_BYTES)]


class AskPiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Executor to scheduler: send `count` bytes from this offset on. Without a task, of the initializer."""

    task_id: Id
    offset: Offset
    count: PieceSize


class Piece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Scheduler to executor: the answer."""

    task_id: Id
    offset: Offset
    data: Data


_encode = msgspec.msgpack.Encoder().encode
_decode_size: Callable[[bytes], int] = msgspec.msgpack.Decoder(Size).decode
_decode_question: Callable[[bytes], AskPiece] = msgspec.msgpack.Decoder(AskPiece).decode
_decode_piece: Callable[[bytes], Piece] = msgspec.msgpack.Decoder(Piece).decode


def header(size_bytes: int) -> bytes:
    """What is sent in place of a call of this size."""
    return _MARK + _encode(size_bytes)


def size_in(data: bytes) -> int | None:
    """The size of the call, if this is a header; None if it is something else, such as a call."""
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
    """The question in a framework message; None if it is not one."""
    try:
        return _decode_question(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def answer(question: AskPiece, data: bytes) -> bytes:
    """The piece that was asked for, as bytes for a framework message."""
    return _encode(Piece(question.task_id, question.offset, data))


def piece_in(data: bytes) -> Piece | None:
    """The piece in a framework message; None if it is not one."""
    try:
        return _decode_piece(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
