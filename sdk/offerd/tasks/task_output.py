"""What becomes of the output of a task of the command executor, and how its reader says what it has read.

Output lies in files of the task's directory that are rotated at a size (`--log-size` of the slave): of much output only the end
is left. Where the output is the result, a label of the task says so:

    offerd.keep_output=whole        all of it is kept, up to the task's share of the disk
    offerd.keep_output=until-read   files are rotated away when they have been read, and the program waits in between

With `until-read` the scheduler sends the executor an `OutputRead` (as a framework message) each time that it has read one file
to its end and gone on to the next; it may say the same twice, and what is lost on the way is said again. The last status of a
task says in `output` how much the task has written: who has read less has lost something. Who sends `EVERYTHING` of
both streams after the end of a task has them removed.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from offerd.errors import BadMessage
from offerd.ids import TaskID
from offerd.wire.bounds import MANY, MAX_COUNT, Count

KEEP_LABEL = "offerd.keep_output"
WHOLE = "whole"
UNTIL_READ = "until-read"
EVERYTHING = MAX_COUNT
"""Of a stream that is not to be waited for any more."""


class OutputRead(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """So many bytes of each stream have been read, from its beginning."""

    task_id: TaskID
    stdout_bytes: Count = 0
    stderr_bytes: Count = 0


class ResultsTaken(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """The results of these tasks of the python executor have been fetched, or nobody wants them: their files may go."""

    task_ids: Annotated[list[TaskID], MANY]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(OutputRead).decode
_decode_taken = msgspec.msgpack.Decoder(ResultsTaken).decode


def pack_read(read: OutputRead) -> bytes:
    """For `send_framework_message`."""
    return _encode(read)


def pack_taken(task_ids: list[TaskID]) -> bytes:
    """The same for results."""
    return _encode(ResultsTaken(task_ids))


def unpack_taken(data: bytes) -> ResultsTaken:
    """Raises `BadMessage` if it is nothing that `pack_taken` made."""
    try:
        return _decode_taken(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadMessage(f"no word on results that were taken: {error}") from None


def unpack_read(data: bytes) -> OutputRead:
    """Raises `BadMessage` if it is nothing that `pack_read` made."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadMessage(f"no word on what was read: {error}") from None
