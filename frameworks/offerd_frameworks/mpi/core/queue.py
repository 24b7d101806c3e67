"""The queue of jobs: which offers are held, when they are given back, which jobs start and which are started again.

Like Torque on Mesos (NSDI 2011, section 5.1): offers are asked for while a job waits, none when the queue is empty, and the
guaranteed share is never exceeded, so no rank is ever revoked.

A gang keeps what it is offered until it is complete. If nothing more comes for `hold_s`, it gives everything back and waits for
a time that doubles each time, multiplied by a random factor. So of two gangs that each hold what the other lacks, one comes
back first and finds everything (section 4.3 describes this danger of rigid jobs).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import offerd
from offerd import OfferID, Waiting
from offerd_frameworks.mpi.core import actions as a
from offerd_frameworks.mpi.core import events as e
from offerd_frameworks.mpi.core.attempt import NEVER, Attempt, Cause
from offerd_frameworks.mpi.core.gang import Share, assemble, is_of_use, superfluous
from offerd_frameworks.mpi.core.job import Job, Outcome

MAX_HOLD_S = 20.0
"""With or without progress, offers are given back before the master rescinds them (after 30 s)."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 16.0
REFUSE_USELESS_S = 1.0
"""How long to refuse an offer that lacks something completely. Short, as a task that ends may add it."""
ASK_WHY_AFTER_S = 1.0
ASK_WHY_EVERY_S = 5.0
"""How often to ask why the first job waits for offers."""
EXIT_BAD_INPUT = 2


class _Waiting(NamedTuple):
    job: Job
    since: float
    attempts: int = 0
    losses: int = 0


class _Reported(NamedTuple):
    """What was last reported about a job that waits."""

    job_id: str = ""
    why: str = ""
    ranks: int = -1
    is_explained: bool = False  # whether the last answer explained the wait


class GangQueue:
    """Jobs in the order of their submission; several run at once if the offers allow.

    `jitter` returns a number from 0 to 1 each time; `hold_s` is how long an incomplete gang is held without progress.
    """

    def __init__(self, jitter: Callable[[], float], hold_s: float = 5.0) -> None:
        self._jitter = jitter
        self._hold_s = hold_s
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[str, Attempt] = {}
        self._tickets: dict[str, _Waiting] = {}  # by the id of the running attempt
        self._held: dict[OfferID, offerd.Offer] = {}
        self._held_since = self._gained_at = NEVER
        self._best = self._number_held = 0
        self._failures = 0
        self._pause_until = 0.0
        self._guarantee: offerd.Resources | None = None  # not known yet, so nothing is started
        self._asks = False
        self._ask_why_at = NEVER
        self._asked_for = ""
        self._reported = _Reported()

    # -- state ------------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._running

    def awaits_proxies(self, attempt_id: str) -> bool:
        """Whether it is worth checking which proxies are connected."""
        return attempt_id in self._running and self._running[attempt_id].awaits_proxies

    def is_ending(self, attempt_id: str) -> bool:
        """Whether only the rest of its output is waited for."""
        return attempt_id in self._running and self._running[attempt_id].is_waited_for

    def next_deadline(self) -> float:
        """When `tick` must be called at the latest."""
        times = [attempt.next_deadline() for attempt in self._running.values()]
        if self._held:
            times.append(self._give_back_at())
        if self._waiting and not self._asks and self._pause_until > 0:
            times.append(self._pause_until)
        if self._waiting:
            times.append(self._ask_why_at)
        return min(times, default=NEVER)

    # -- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: e.Event, now: float) -> list[a.Action]:
        """Handle an event; returns actions."""
        actions: list[a.Action] = []
        match event:
            case e.Submitted(job):
                self._waiting.append(_Waiting(job, now))
            case e.Cancelled():
                actions = self._cancel(event, now)
            case e.OffersCame(offers):
                for offer in offers:
                    self._held[offer.offer_id] = offer
            case e.OfferRescinded(offer_id):
                self._held.pop(offer_id, None)
            case e.GuaranteeKnown(guarantee):
                self._guarantee = guarantee
            case e.WhyCame(job_id, waiting):
                if self._waiting and self._waiting[0].job.job_id == job_id:
                    actions = self._report_why(job_id, waiting)
            case e.StatusCame(status):
                if status.state.terminal and (attempt := self._attempt_of(status.task_id)):
                    actions = attempt.task_ended(status, now)
            case e.SlaveLost(slave_id):
                for attempt in self._running.values():
                    actions += attempt.slave_lost(slave_id, now)
            case e.HydraReady(attempt_id):
                actions = self._launch(attempt_id, now)
            case e.ProxiesConnected(attempt_id, number):
                if attempt := self._running.get(attempt_id):
                    attempt.proxies_connected(number)
            case e.RankDied(attempt_id):
                if attempt := self._running.get(attempt_id):
                    attempt.rank_died(event, now)
            case e.RankSilent(attempt_id, rank):
                if attempt := self._running.get(attempt_id):
                    actions = attempt.rank_silent(rank, now)
            case e.OutputCame(attempt_id):
                if attempt := self._running.get(attempt_id):
                    attempt.output_came(now)
            case e.HydraEnded():
                actions = self._hydra_ended(event, now)
        return [*actions, *self._conclude(now), *self._schedule(now)]

    def tick(self, now: float) -> list[a.Action]:
        """Do what is due."""
        actions: list[a.Action] = []
        for attempt in self._running.values():
            actions += attempt.tick(now)
        if self._held and now >= self._give_back_at():
            actions += self._give_back(now)
        return [*actions, *self._conclude(now), *self._schedule(now), *self._ask_why(now)]

    def _attempt_of(self, task_id: str) -> Attempt | None:
        return self._running.get(task_id.rpartition(".")[0])

    def _cancel(self, event: e.Cancelled, now: float) -> list[a.Action]:
        for waiting in self._waiting:
            if waiting.job.job_id == event.job_id:
                self._waiting.remove(waiting)
                outcome = Outcome(event.exit_status, "cancelled", waited_s=now - waiting.since)
                return [a.JobEnded(event.job_id, outcome)]
        for attempt in self._running.values():
            if attempt.job.job_id == event.job_id:
                return attempt.end(Cause(event.exit_status, "cancelled"), now)
        return []

    def _launch(self, attempt_id: str, now: float) -> list[a.Action]:
        attempt = self._running[attempt_id]
        if attempt.cause is not None:
            return []
        attempt.launched(now)
        return [
            a.LaunchProxies(attempt_id, attempt.job, attempt.shares, attempt.task_ids),
            a.JobStarted(attempt.job.job_id, attempt_id, attempt.hosts),
        ]

    def _hydra_ended(self, event: e.HydraEnded, now: float) -> list[a.Action]:
        attempt = self._running[event.attempt_id]
        actions = attempt.hydra_ended(event.exit_status, event.words, event.unheard, now)
        if not attempt.is_launched:
            offer_ids = tuple(offer_id for share in attempt.shares for offer_id in share.offer_ids)
            actions.append(a.DeclineOffers(offer_ids, 0.0))
        return actions

    # -- ends -------------------------------------------------------------------------------------------------------

    def _conclude(self, now: float) -> list[a.Action]:
        actions: list[a.Action] = []
        for attempt in [attempt for attempt in self._running.values() if attempt.is_over]:
            del self._running[attempt.attempt_id]
            ticket = self._tickets.pop(attempt.attempt_id)
            cause = attempt.cause
            if cause is not None and cause.never_ran:
                self._failures += 1
                self._pause_until = now + self._pause_s()
                self._waiting.appendleft(ticket._replace(attempts=ticket.attempts + 1))
            elif cause is not None and cause.of_slave and ticket.losses < attempt.job.resubmits:
                losses = ticket.losses + 1
                text = f"{cause.reason}; submitted again ({losses} of {attempt.job.resubmits})"
                actions.append(a.Note(attempt.job.job_id, text))
                self._waiting.appendleft(ticket._replace(attempts=ticket.attempts + 1, losses=losses))
            else:
                status, reason = attempt.outcome
                waited_s, ran_s = attempt.began_at - ticket.since, now - attempt.began_at
                actions.append(
                    a.JobEnded(attempt.job.job_id, Outcome(status, reason, waited_s, ran_s, attempt.hosts))
                )
        return actions

    # -- gangs ------------------------------------------------------------------------------------------------------

    def _schedule(self, now: float) -> list[a.Action]:
        """Start what can be started; hold or give back the other offers; ask for offers if they are needed."""
        actions = self._refuse_what_exceeds_the_guarantee(now)
        if now >= self._pause_until and self._guarantee is not None:
            while (job := self._next()) is not None:
                gang = assemble(job, self._held.values())
                if gang.missing:
                    actions += self._hold(job, job.ranks - gang.missing, now)
                    break
                actions.append(self._begin(gang.shares, now))
        wanted = self._next() if now >= self._pause_until else None
        if wanted is None and self._held:
            actions += self._decline(list(self._held), 0.0)
        if (wanted is not None) != self._asks:
            self._asks = wanted is not None
            actions.append(a.AskForOffers(self._asks))
        first = self._waiting[0].job.job_id if self._waiting else ""
        if first != self._asked_for:
            self._asked_for, self._reported = first, _Reported(first)
            self._ask_why_at = now + ASK_WHY_AFTER_S if first else NEVER
        return actions

    # -- why the first job waits ----------------------------------------------------------------------------------------

    def _ask_why(self, now: float) -> list[a.Action]:
        if not self._waiting or now < self._ask_why_at:
            return []
        self._ask_why_at = now + ASK_WHY_EVERY_S
        job = self._waiting[0].job
        if self._next() is not None:
            return [a.AskWhy(job)]
        text = f"running jobs take what is guaranteed, {self._guarantee}, and this one needs {job.total}"
        return self._report_why(job.job_id, Waiting("guaranteed_share", text))

    def _report_why(self, job_id: str, waiting: Waiting) -> list[a.Action]:
        """Report each reason once."""
        self._reported = self._reported._replace(is_explained=not waiting.is_momentary)
        if waiting.is_momentary or waiting.why == self._reported.why:
            return []
        self._reported = self._reported._replace(why=waiting.why)
        return [a.ReportWaiting(job_id, waiting)]

    def _next(self) -> Job | None:
        """The job that offers are for now: the first, if the guarantee has room for it beside the running jobs."""
        if not self._waiting:
            return None
        job = self._waiting[0].job
        if self._guarantee is None:
            return job  # its offers may come before the answer
        used = job.total
        for attempt in self._running.values():
            used = used + attempt.job.total
        return job if _within(used, self._guarantee) else None

    def _refuse_what_exceeds_the_guarantee(self, now: float) -> list[a.Action]:
        """Jobs that could only run with resources that may be revoked at any time."""
        actions: list[a.Action] = []
        while self._waiting and self._guarantee and not _within(self._waiting[0].job.total, self._guarantee):
            ticket = self._waiting.popleft()
            text = f"{ticket.job.ranks} ranks take {ticket.job.total}, but {self._guarantee} is guaranteed; ask for less"
            outcome = Outcome(EXIT_BAD_INPUT, text, waited_s=now - ticket.since)
            actions.append(a.JobEnded(ticket.job.job_id, outcome))
        return actions

    def _begin(self, shares: tuple[Share, ...], now: float) -> a.Action:
        ticket = self._waiting.popleft()
        for share in shares:
            for offer_id in share.offer_ids:
                del self._held[offer_id]
        attempt_id = ticket.job.job_id + (f".again{ticket.attempts}" if ticket.attempts else "")
        self._running[attempt_id] = Attempt(attempt_id, ticket.job, shares, now)
        self._tickets[attempt_id] = ticket
        self._failures = self._best = self._number_held = 0
        self._held_since = self._gained_at = NEVER
        return a.StartHydra(attempt_id, ticket.job, shares)

    def _hold(self, job: Job, ranks: int, now: float) -> list[a.Action]:
        """Keep offers that may become room for a rank; note whether there are more than before."""
        useless = [offer.offer_id for offer in self._held.values() if not is_of_use(job, offer)]
        useless += superfluous(job, [offer for offer in self._held.values() if is_of_use(job, offer)])
        actions = self._decline(useless, REFUSE_USELESS_S) if useless else []
        if not self._held:  # all were rescinded
            self._held_since = self._gained_at = NEVER
        elif len(self._held) > self._number_held:
            self._held_since = min(self._held_since, now)
            self._gained_at = now
        self._number_held, self._best = len(self._held), ranks
        return actions

    def _give_back_at(self) -> float:
        return min(self._gained_at + self._hold_s, self._held_since + MAX_HOLD_S)

    def _give_back(self, now: float) -> list[a.Action]:
        job, ranks = self._waiting[0].job, self._best
        pause_s = self._pause_s()
        self._failures += 1
        self._pause_until = now + pause_s
        actions: list[a.Action] = []
        if ranks != self._reported.ranks and not self._reported.is_explained:
            self._reported = self._reported._replace(ranks=ranks)
            text = (
                f"room for {ranks} of {job.ranks} ranks came in {now - self._held_since:.1f} s and was given back so that "
                "others can use it; trying again"
            )
            actions.append(a.Note(job.job_id, text))
        return [*self._decline(list(self._held), 0.0), *actions]

    def _decline(self, offer_ids: list[OfferID], refuse_s: float) -> list[a.Action]:
        for offer_id in offer_ids:
            del self._held[offer_id]
        if not self._held:
            self._best = self._number_held = 0
            self._held_since = self._gained_at = NEVER
        return [a.DeclineOffers(tuple(offer_ids), refuse_s)]

    def _pause_s(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        return longest * (0.2 + 0.8 * self._jitter())


def _within(used: offerd.Resources, guarantee: offerd.Resources) -> bool:
    """Whether `used` stays within a guarantee, which does not limit resources that it does not name."""
    return all(used.scalars.get(name, 0) <= amount for name, amount in guarantee.scalars.items())
