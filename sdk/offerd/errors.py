"""The exceptions of offerd. Each is an `OfferdError`, whose text is one line for people: it says what is wrong and what to do.

    OfferdError
    +-- BadInput               a flag, file, address or description that cannot be used
    |   +-- BadResources       a resource text or amount; also a ValueError
    |   +-- WrongType          a value of another type than its field; also a TypeError
    +-- BadMessage             a peer sent bytes that are not a message
    +-- MessageTooLarge        a message that no frame holds; also a ValueError
    +-- MasterUnreachable      no master answered in time
    +-- KeyRefused             the master does not know the key
    |   +-- NoKey              the master wants a key, and there is none
    +-- FrameworkError         the master refused or ended the framework
    +-- NoThread               the system starts no further thread
    +-- FileNotServed          a slave does not have the file
    +-- OutputLost             less output could be read than the task has written
    +-- ForgedResult           a result is not from the executor that was given the call
    +-- BrokenClusterExecutor  an initializer raised; also a BrokenExecutor
    +-- TaskError              the task of a call did not finish
        +-- TaskTimeoutError   it was killed at its time limit; also a TimeoutError

`TaskError`, `TaskTimeoutError` and `BrokenClusterExecutor` are in `offerd.task_errors`; `NoThread` and `FileNotServed`
are in the modules that raise them.
"""

from __future__ import annotations


class OfferdError(Exception):
    """The base of every error that offerd raises on purpose. Its text is one line for people."""


class BadInput(OfferdError):
    """A person's input is invalid; the text says what is wrong and what to write instead."""


class BadResources(BadInput, ValueError):
    """A resource string or quantity is invalid, or more is subtracted than there is."""


class WrongType(BadInput, TypeError):
    """A value has another type than its field, or a method of a scheduler or executor only looks like a callback."""


class BadMessage(OfferdError):
    """A peer sent bytes that are not messages of offerd, or a value beyond its bound."""


class MessageTooLarge(OfferdError, ValueError):
    """A message would be larger than a frame may be (1 MiB), or a call's arguments larger than 1 GiB. Nothing was sent."""


class MasterUnreachable(OfferdError):
    """No master has answered in time. Trying again may help."""


class KeyRefused(OfferdError):
    """The master does not know this account's key, or has revoked it."""


class NoKey(KeyRefused):
    """The master wants a key, and this account has none for it. `offerd cluster join` gets one."""


class FrameworkError(OfferdError):
    """The master refuses this framework, or has ended it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """One of `offerd.Reason`, for programs."""


class ForgedResult(OfferdError):
    """A call's result is not sealed with the key of the executor that was given the call. Nothing of it was used."""


class OutputLost(OfferdError):
    """Less of a task's output could be read than the task has written."""

    def __init__(self, text: str, missing_bytes: int | None = None) -> None:
        super().__init__(text)
        self.missing_bytes = missing_bytes
        """How much less; None: unknown."""
