"""Several short programs in one task, and what became of each.

A task costs every daemon on its way something, a program that is over in a millisecond little more. So whoever has many
such programs gives some of them to one task: `CommandInfo.argv` and then each of `CommandInfo.series`, run one after another,
each a process tree of its own. None is started any more when the first was started `series_s` ago, when one has left files in
the task's directory or written more than a status carries, or when the task is killed: those that never ran are for the
scheduler to launch again. The task's last status carries a `Part` for each that was started, in order.
"""

from __future__ import annotations

import msgspec

from offerd.errors import BadMessage
from offerd.messages import TaskOutput

INLINE_LABEL = "offerd.inline_output"
"""A task that has this label, `1`, gets its output with its last status, in a `Part`, as far as it is small."""


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One program of a task. `exit_status`: its code, or minus the signal; `elapsed_s`: from its turn until nothing of it
    was left. `stdout` and `stderr` are all it wrote, unless `is_in_files`: then they are empty and the task's files hold it.
    """

    exit_status: int
    elapsed_s: float
    stdout: bytes = b""
    stderr: bytes = b""
    is_in_files: bool = False
    is_killed: bool = False
    is_started: bool = True
    """False where there never was a process: no such program, say."""
    message: str = ""
    """How it ended badly, in words."""
    output: TaskOutput | None = None
    """What it wrote, in bytes; None of one whose executor does not count."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Part]).decode


def pack(parts: list[Part]) -> bytes:
    """For `TaskStatus.data`."""
    return _encode(parts)


def unpack(data: bytes) -> list[Part]:
    """Raises `BadMessage` if it is nothing that `pack` made."""
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise BadMessage(f"the outcome of a series of programs cannot be read: {error}") from None
