"""The exceptions of offerd.

OfferdError
+-- BadInput           a person wrote something that cannot be: resource string, flag, file (CLI exit status 2)
|   +-- BadResources   ... in a resource string or a quantity
|   +-- WrongType      ... a value that has another type than its field; also a `TypeError`
+-- BadMessage         a peer sent something that is no message of ours: the peer is dropped, we go on
+-- MessageTooLarge    a message of ours would not fit into one frame
+-- MasterUnreachable  no master has answered in time
+-- KeyRefused         the master does not know our key
|   +-- NoKey          ... or wants one, and we have none for it
+-- FrameworkError     the master ended this framework, with a machine-readable reason
+-- ForgedResult       the result of a call of ClusterExecutor is not from the executor that was given the call
+-- OutputLost         a reader of a task's output has got less than the task wrote
+-- TaskError          a task of ClusterExecutor did not finish: state, reason and message of its last status
    +-- TaskTimeoutError   ... for its time limit was over; also a `TimeoutError`

The last two are in `offerd.task_errors`: they hold a message, and messages raise these.
"""

from __future__ import annotations


class OfferdError(Exception):
    """Root of everything that offerd raises on purpose. Its text is one line for a person."""


class BadInput(OfferdError):
    """A person's input cannot be used; the text says what is wrong and what to write instead."""


class BadResources(BadInput, ValueError):
    """A resource string, quantity or subtraction makes no sense."""


class WrongType(BadInput, TypeError):
    """A value of another type than its field's, or a class that has no callback where one is meant."""


class BadMessage(OfferdError):
    """Bytes from a peer that are no batch of our messages."""


class MessageTooLarge(OfferdError, ValueError):
    """One message of ours is larger than a frame may be."""


class MasterUnreachable(OfferdError):
    """No master has answered in time."""


class KeyRefused(OfferdError):
    """The master does not know the key that we speak with, or does not want it."""


class NoKey(KeyRefused):
    """The master wants a key, and this account has none for it."""


class FrameworkError(OfferdError):
    """The master refuses or has ended this framework.

    `reason` is one of `offerd.messages.Reason`, for programs; the text is for people.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ForgedResult(OfferdError):
    """What came as a call's result does not bear the seal of the executor that was given the call. Nothing of it was used."""


class OutputLost(OfferdError):
    """Less of a task's output could be read than the task has written. `missing_bytes`: how much less; None: nobody knows."""

    def __init__(self, text: str, missing_bytes: int | None = None) -> None:
        super().__init__(text)
        self.missing_bytes = missing_bytes
