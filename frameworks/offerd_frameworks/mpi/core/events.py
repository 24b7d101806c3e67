"""The core's events: things that have happened."""

from __future__ import annotations

from typing import NamedTuple

import offerd
from offerd import OfferID, SlaveID, Waiting
from offerd_frameworks.mpi.core.job import Job


class Submitted(NamedTuple):
    job: Job


class Cancelled(NamedTuple):
    """A person has cancelled the job; `exit_status` is to be its result."""

    job_id: str
    exit_status: int


class OffersCame(NamedTuple):
    offers: list[offerd.Offer]


class OfferRescinded(NamedTuple):
    offer_id: OfferID


class GuaranteeKnown(NamedTuple):
    """`Resources()`: no guarantee is configured."""

    guarantee: offerd.Resources


class WhyCame(NamedTuple):
    """The master's answer to `AskWhy`."""

    job_id: str
    waiting: Waiting


class StatusCame(NamedTuple):
    status: offerd.TaskStatus


class SlaveLost(NamedTuple):
    slave_id: SlaveID


class HydraReady(NamedTuple):
    """The process manager of this attempt waits for its proxies."""

    attempt_id: str


class ProxiesConnected(NamedTuple):
    """So many proxies are connected now."""

    attempt_id: str
    number: int


class RankDied(NamedTuple):
    """A rank's program ended with a status other than 0 (a shell's: 128 + signal). `was_asked`: it had been sent SIGTERM."""

    attempt_id: str
    rank: int
    exit_status: int
    was_asked: bool = False


class RankSilent(NamedTuple):
    """All that a dead rank has written has been read."""

    attempt_id: str
    rank: int


class OutputCame(NamedTuple):
    """The process manager has passed on output of ranks."""

    attempt_id: str


class HydraEnded(NamedTuple):
    """The process manager has ended, and all its output has been read. `words`: the last line that it wrote about itself.
    `unheard`: ranks whose output has not come to its end.
    """

    attempt_id: str
    exit_status: int
    words: str
    unheard: tuple[int, ...] = ()


Event = (
    Submitted
    | Cancelled
    | OffersCame
    | OfferRescinded
    | GuaranteeKnown
    | WhyCame
    | StatusCame
    | SlaveLost
    | HydraReady
    | ProxiesConnected
    | RankDied
    | RankSilent
    | OutputCame
    | HydraEnded
)
