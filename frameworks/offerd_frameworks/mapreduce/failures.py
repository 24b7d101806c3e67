"""The ways in which a task of a job fails."""

from __future__ import annotations


class CommandFailed(Exception):
    """A command of the job failed; one line for people."""


class TransferError(Exception):
    """A file could not be fetched or stored, even after retries. One line for people."""


class ServerBusy(TransferError):
    """The server answers, but is too busy for longer than we wait. What it holds is not lost."""


class TokenRefused(TransferError):
    """The token has expired, as it does after some hours: a new launch gets a new one."""


class Incomplete(TransferError):
    """A directory has more entries than its server lists."""


class Unfetchable(Exception):
    """The outputs of these maps cannot be fetched any more: the maps must run again."""

    def __init__(self, maps: list[int], why: str) -> None:
        super().__init__(why)
        self.maps = maps
