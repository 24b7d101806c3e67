"""What the core is told. Past facts, all of them."""

from __future__ import annotations

from typing import NamedTuple

import offerd
from offerd import OfferID, SlaveID, Waiting
from offerd_frameworks.mpi.core.job import Job


class Submitted(NamedTuple):
    job: Job


class Cancelled(NamedTuple):
    """By a person; `exit_status` is what the job shall have ended with."""

    job_id: str
    exit_status: int


class OffersCame(NamedTuple):
    offers: list[offerd.Offer]


class OfferRescinded(NamedTuple):
    offer_id: OfferID


class GuaranteeKnown(NamedTuple):
    """Nothing (`Resources()`): none is configured."""

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
    """So many are, now."""

    attempt_id: str
    number: int


class RankDied(NamedTuple):
    """A rank's program ended with a status other than 0 (a shell's: 128 + signal). `was_told`: something had told it to end."""

    attempt_id: str
    rank: int
    exit_status: int
    was_told: bool = False


class RankSilent(NamedTuple):
    """All that a rank which died has written has been read."""

    attempt_id: str
    rank: int


class OutputCame(NamedTuple):
    """The process manager passes on what ranks wrote."""

    attempt_id: str


class HydraEnded(NamedTuple):
    """All that it had to say has been read. `words`: the last it said about itself, on one line. `unheard`: ranks of whose
    output the end has not come.
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
