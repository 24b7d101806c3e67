"""How a task of a job fails."""

from __future__ import annotations


class CommandFailed(Exception):
    """A command of the job ended badly; one line for people."""


class TransferError(Exception):
    """A file cannot be had or placed, also after some tries. One line for people."""


class ServerBusy(TransferError):
    """The server is there and has its hands full, for longer than anybody waits. What it holds is not lost."""


class TokenRefused(TransferError):
    """The token has died, as it does after some hours: whoever is launched anew is given another."""


class Incomplete(TransferError):
    """A directory has more entries than its server lists."""


class Unfetchable(Exception):
    """These maps' outputs cannot be had any more: the maps are to be run again."""

    def __init__(self, maps: list[int], why: str) -> None:
        super().__init__(why)
        self.maps = maps
