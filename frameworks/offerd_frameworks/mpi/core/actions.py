"""What the core wants done. Imperatives; their order counts."""

from __future__ import annotations

from typing import NamedTuple

from offerd import OfferID, TaskID, Waiting
from offerd_frameworks.mpi.core.gang import Share
from offerd_frameworks.mpi.core.job import Job, Outcome


class StartHydra(NamedTuple):
    """Start the process manager for this gang. Its offers are kept until it is ready."""

    attempt_id: str
    job: Job
    shares: tuple[Share, ...]


class LaunchProxies(NamedTuple):
    """Answer the offers: one task for each share, in their order."""

    attempt_id: str
    job: Job
    shares: tuple[Share, ...]
    task_ids: tuple[TaskID, ...]


class DeclineOffers(NamedTuple):
    offer_ids: tuple[OfferID, ...]
    refuse_s: float


class AskForOffers(NamedTuple):
    """Of any size: what is too small for a rank may grow with what becomes free beside it."""

    wanted: bool


class KillTasks(NamedTuple):
    task_ids: tuple[TaskID, ...]
    grace_s: float


class KillHydra(NamedTuple):
    attempt_id: str


class Tell(NamedTuple):
    """A line for the person whose job it is."""

    job_id: str
    text: str


class AskWhy(NamedTuple):
    """Ask the master why the gang does not get its slots; `WhyCame` is the answer."""

    job: Job


class TellWaiting(NamedTuple):
    """Why this job waits, for the person whose job it is."""

    job_id: str
    waiting: Waiting


class JobStarted(NamedTuple):
    """The gang is complete."""

    job_id: str
    attempt_id: str
    hosts: tuple[str, ...]


class JobEnded(NamedTuple):
    job_id: str
    outcome: Outcome


Action = (
    StartHydra
    | LaunchProxies
    | DeclineOffers
    | AskForOffers
    | KillTasks
    | KillHydra
    | Tell
    | AskWhy
    | TellWaiting
    | JobStarted
    | JobEnded
)
