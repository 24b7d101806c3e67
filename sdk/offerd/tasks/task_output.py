"""What happens to the output of a task of the command executor, and how its reader acknowledges it.

Output is written to files in the task's directory that are rotated at a size (`--log-size` of the slave): only the end of a
long output is kept. If the output is the task's result, a label of the task changes that:

    offerd.keep_output=whole        all of it is kept, up to the task's share of the disk
    offerd.keep_output=until-read   a file is removed only when it has been read, and meanwhile the program waits

With `until-read`, the scheduler sends the executor an `OutputRead` (as a framework message) each time that it has read one file
to its end and gone on to the next. It repeats these, as messages may be lost and repetition does no harm. The task's last
status says in `output` how much the task wrote: a reader that has read less has missed something. `EVERYTHING` for both
streams, sent after the task's end, removes its files.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from offerd.errors import BadMessage
from offerd.ids import TaskID
from offerd.values.bounds import MANY, MAX_COUNT, Count

DEFAULT_LOG_BYTES = 10 << 20
"""Limit of a file of output and its rotated part together, unless the slave has another `--log-size`."""
KEEP_LABEL = "offerd.keep_output"
WHOLE = "whole"
UNTIL_READ = "until-read"
EVERYTHING = MAX_COUNT
"""Instead of a number of bytes: do not wait for any reader of this stream."""


class OutputRead(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """This many bytes of each stream have been read, counted from its beginning."""

    task_id: TaskID
    stdout_bytes: Count = 0
    stderr_bytes: Count = 0


class ResultsTaken(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """The results of these tasks of the python executor have been fetched or are not wanted: their files may be removed."""

    task_ids: Annotated[list[TaskID], MANY]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(OutputRead).decode
_decode_taken = msgspec.msgpack.Decoder(ResultsTaken).decode


def pack_read(read: OutputRead) -> bytes:
    """The message as bytes for `send_framework_message`."""
    return _encode(read)


def pack_taken(task_ids: list[TaskID]) -> bytes:
    """The same for results."""
    return _encode(ResultsTaken(task_ids))


def unpack_taken(data: bytes) -> ResultsTaken:
    """Read what `pack_taken` has made. Raises `BadMessage`."""
    try:
        return _decode_taken(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadMessage(f"not a message about results that were taken: {error}") from None


def unpack_read(data: bytes) -> OutputRead:
    """Read what `pack_read` has made. Raises `BadMessage`."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadMessage(f"not a message about output that was read: {error}") from None
