"""Tasks that a master has called lost, and no slave has said to have ended: the next master must not take them for running.

Kept as the keys of a dict, in the order in which they were called so.
"""

from __future__ import annotations

import msgspec

from offerd.ids import TaskID
from offerd.messages import Reason, RegisterFramework, TaskState, TaskStatus
from offerd.wire.codec import MAX_MESSAGE_BYTES, encode_message

REMEMBER_LOST = 10_000
"""So many of them are named to the next master; their slaves may still have them."""
NEVER_LAUNCHED = (Reason.OFFER_INVALID, Reason.LONG_TASK_CAP)
"""What a master calls lost for one of these, no slave has."""

_ID_HEAD_BYTES = 5  # MessagePack's, at most


def note_end(called_lost: dict[TaskID, None], end: TaskStatus) -> None:
    """A task has ended: by the word of a master alone, perhaps."""
    if end.sequence or end.state is not TaskState.LOST or end.reason in NEVER_LAUNCHED:
        return
    called_lost[end.task_id] = None
    if len(called_lost) > REMEMBER_LOST:
        del called_lost[next(iter(called_lost))]


def named_in(hello: RegisterFramework, called_lost: dict[TaskID, None]) -> RegisterFramework:
    """The hello with the newest of them, as many as fit."""
    room_bytes = MAX_MESSAGE_BYTES - len(encode_message(hello)) - _ID_HEAD_BYTES
    named: list[TaskID] = []
    for task_id in reversed(called_lost):
        room_bytes -= len(task_id.encode()) + _ID_HEAD_BYTES
        if room_bytes < 0:
            break
        named.append(task_id)
    named.reverse()
    return msgspec.structs.replace(hello, called_lost=named)
