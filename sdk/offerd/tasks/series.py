"""Several short programs in one task, and the outcome of each.

A task costs every daemon on its way something; a program that ends in a millisecond costs little more. So a framework with many
short programs puts several into one task: `CommandInfo.argv` and then each of `CommandInfo.series`, run one after another, each
a process tree of its own. No further program is started `series_s` seconds after the first start, when one has left files in
the task's directory or written more than a status can carry, or when the task is killed. The scheduler has to launch those
again. The task's last status carries a `Part` for each program that had its turn, in order.
"""

from __future__ import annotations

import msgspec

from offerd.errors import BadMessage
from offerd.messages import TaskOutput

INLINE_LABEL = "offerd.inline_output"
"""A task with this label, set to `1`, gets its output in a `Part` of its last status, if the output is small."""


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One program of a task. `exit_status`: its code, or minus the signal. `elapsed_s`: from its turn until none of its
    processes was left. `stdout` and `stderr` are all it wrote, unless `is_in_files`: then they are empty and the task's files
    hold it.
    """

    exit_status: int
    elapsed_s: float
    stdout: bytes = b""
    stderr: bytes = b""
    is_in_files: bool = False
    is_killed: bool = False
    is_started: bool = True
    """False if there never was a process, for example because there is no such program."""
    message: str = ""
    """How it failed, in words."""
    output: TaskOutput | None = None
    """How many bytes it wrote; None if its executor does not count them."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Part]).decode


def pack(parts: list[Part]) -> bytes:
    """The parts as bytes for `TaskStatus.data`."""
    return _encode(parts)


def unpack(data: bytes) -> list[Part]:
    """Read what `pack` has made. Raises `BadMessage`."""
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise BadMessage(f"the outcome of a series of programs cannot be read: {error}") from None
