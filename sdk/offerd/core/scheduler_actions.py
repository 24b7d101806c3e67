"""What the core of a scheduler's driver asks the driver to do, in this order."""

from __future__ import annotations

from typing import Any, NamedTuple

from offerd.messages import GuaranteedShare, Message, TaskStatus
from offerd.operator_messages import Waiting


class Send(NamedTuple):
    """Send this message to the master."""

    message: Message


class Deliver(NamedTuple):
    """Call `status_update`, and when it has returned, call the core's `delivered`."""

    status: TaskStatus


class Call(NamedTuple):
    """Call this callback of the scheduler with the driver and these arguments."""

    callback: str
    arguments: tuple[Any, ...] = ()


class Answer(NamedTuple):
    """The master has answered the oldest open question of this kind."""

    message: GuaranteedShare | Waiting


class End(NamedTuple):
    """The master has ended this scheduler: call `error` and stop."""

    reason: str
    message: str


Action = Send | Deliver | Call | Answer | End
