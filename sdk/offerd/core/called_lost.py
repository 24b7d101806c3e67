"""Tasks that a master has reported lost while no slave has reported their end. The next master must not count them as running.

They are the keys of a dict, oldest first.
"""

from __future__ import annotations

import msgspec

from offerd.ids import TaskID
from offerd.messages import Reason, RegisterFramework, TaskState, TaskStatus
from offerd.wire.codec import MAX_MESSAGE_BYTES, encode_message

REMEMBER_LOST = 10_000
"""At most so many are named to the next master; their slaves may still have them."""
NEVER_LAUNCHED = frozenset(reason for reason in Reason if reason.never_ran) - {Reason.SLAVE_UNKNOWN}
"""Reasons for which a master reports a task lost that was never sent to a slave. Not `SLAVE_UNKNOWN`: to name too many does no
harm, and a master that does not know the slave may be wrong about its tasks.
"""

_ID_HEAD_BYTES = 5  # MessagePack's, at most


def note_end(called_lost: dict[TaskID, None], end: TaskStatus) -> None:
    """A task has ended; if only a master says so, remember it."""
    if end.sequence or end.state is not TaskState.LOST or end.reason in NEVER_LAUNCHED:
        return
    called_lost[end.task_id] = None
    if len(called_lost) > REMEMBER_LOST:
        del called_lost[next(iter(called_lost))]


def named_in(registration: RegisterFramework, called_lost: dict[TaskID, None]) -> RegisterFramework:
    """The registration with the newest of these tasks, as many as fit."""
    room_bytes = MAX_MESSAGE_BYTES - len(encode_message(registration)) - _ID_HEAD_BYTES
    named: list[TaskID] = []
    for task_id in reversed(called_lost):
        room_bytes -= len(task_id.encode()) + _ID_HEAD_BYTES
        if room_bytes < 0:
            break
        named.append(task_id)
    named.reverse()
    return msgspec.structs.replace(registration, called_lost=named)
