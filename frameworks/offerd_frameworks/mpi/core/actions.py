"""What the core asks the framework to do, in this order."""

from __future__ import annotations

from typing import NamedTuple

from offerd import OfferID, TaskID, Waiting
from offerd_frameworks.mpi.core.gang import Share
from offerd_frameworks.mpi.core.job import Job, Outcome


class StartHydra(NamedTuple):
    """Start the process manager for this gang. Its offers are held until it is ready."""

    attempt_id: str
    job: Job
    shares: tuple[Share, ...]


class LaunchProxies(NamedTuple):
    """Answer the offers: one task for each share, in order."""

    attempt_id: str
    job: Job
    shares: tuple[Share, ...]
    task_ids: tuple[TaskID, ...]


class DeclineOffers(NamedTuple):
    offer_ids: tuple[OfferID, ...]
    refuse_s: float


class AskForOffers(NamedTuple):
    """Ask for offers of any size: one that is too small for a rank may grow with what becomes free beside it."""

    wanted: bool


class KillTasks(NamedTuple):
    task_ids: tuple[TaskID, ...]
    grace_s: float


class KillHydra(NamedTuple):
    attempt_id: str


class Note(NamedTuple):
    """A line for the job's owner."""

    job_id: str
    text: str


class AskWhy(NamedTuple):
    """Ask the master why the gang does not get its slots; it answers with `WhyCame`."""

    job: Job


class ReportWaiting(NamedTuple):
    """Report to the job's owner why it waits."""

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
    | Note
    | AskWhy
    | ReportWaiting
    | JobStarted
    | JobEnded
)
