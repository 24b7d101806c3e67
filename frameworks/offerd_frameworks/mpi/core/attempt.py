"""One run of a job, from a complete gang to the last proxy's end.

The process manager covers the ends of ranks, not those of hosts: it waits for ever for a proxy that never comes, for one
behind a dead link, and sometimes for ranks whose peer has exited. So every wait here has an end of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import offerd
from offerd import Reason, SlaveID, TaskID, TaskState
from offerd_frameworks.mpi.core.actions import Action, KillHydra, KillTasks
from offerd_frameworks.mpi.core.events import RankDied
from offerd_frameworks.mpi.core.gang import Share
from offerd_frameworks.mpi.core.job import Job

NEVER = float("inf")
ARRIVE_S = 60.0
"""From launching the proxies to the last one's connection: executors have to start, too."""
AFTERWARDS_S = 2.0
"""How long the process manager may take to clean up when proxies have ended, and its proxies to end after it: longer only while
it still passes on output."""
LAST_WORDS_S = 60.0
"""From a rank's death until all that it wrote has come; peers that it left wait meanwhile."""
GRACE_S = 2.0
"""From TERM to KILL for what is left."""
KILL_AFTER_S = 10.0
"""From there until the process manager is killed, if the tasks' ends are not heard of: the orders have a way to go."""
MOST_NAMED = 8
"""Ranks, in a line for people."""

EXIT_FAILURE = 1
EXIT_TIMEOUT = 124
EXIT_NOT_STARTED = 127
EXIT_KILLED = 137

NEVER_RAN = frozenset({Reason.OFFER_INVALID, Reason.LONG_TASK_CAP, Reason.SLAVE_UNKNOWN})
"""LOST or ERROR for one of these: the offer was overtaken by something on its way. The gang is tried again."""


class Cause(NamedTuple):
    """Why an attempt is over. `of_slave`: not by the job's doing, so another attempt may fare better. `is_guess`: a task's
    status may know better.
    """

    exit_status: int
    reason: str
    of_slave: bool = False
    never_ran: bool = False
    is_guess: bool = False


class Attempt:
    """What is known of one attempt. Methods give back actions; `is_over` says when nothing of it is left."""

    def __init__(self, attempt_id: str, job: Job, shares: tuple[Share, ...], now: float) -> None:
        self.attempt_id = attempt_id
        self.job = job
        self.shares = shares
        self.began_at = now
        self.task_ids = tuple(TaskID(f"{attempt_id}.{number}") for number in range(1, len(shares) + 1))
        self.is_launched = False
        self.cause: Cause | None = None
        self._live: dict[TaskID, Share] = {}
        self._hydra_status: int | None = None
        self._is_ending = False
        self._death: Cause | None = None
        self._dead_rank = -1
        self._arrive_by = NEVER
        self._end_by = NEVER  # the process manager, or what is left of the tasks after it
        self._kill_at = self._kill_at_last = (
            NEVER  # the process manager, by SIGKILL: it may ignore anything else
        )
        self._unheard = ""

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._hydra_status is not None and not self._live

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(f"{share.hostname}:{share.ranks}" for share in self.shares)

    @property
    def awaits_proxies(self) -> bool:
        return self._arrive_by != NEVER

    @property
    def is_waited_for(self) -> bool:
        """The process manager, which may still pass on output."""
        return self._hydra_status is None and min(self._end_by, self._kill_at) != NEVER

    @property
    def outcome(self) -> tuple[int, str]:
        """Exit status and reason of an attempt that is over."""
        if self.cause is None:
            return (EXIT_FAILURE, self._unheard) if self._unheard else (0, "")
        return self.cause.exit_status, "; ".join(filter(None, [self.cause.reason, self._unheard]))

    def next_deadline(self) -> float:
        return min(self._arrive_by, self._end_by, self._kill_at)

    # -- what happens -----------------------------------------------------------------------------------------------

    def launched(self, now: float) -> None:
        """The proxies' tasks are on their way."""
        self.is_launched = True
        self._live = dict(zip(self.task_ids, self.shares, strict=True))
        self._arrive_by = now + ARRIVE_S

    def proxies_connected(self, number: int) -> None:
        """One whose ranks were quick has ended already: only those that still run are waited for."""
        if number >= len(self._live):
            self._arrive_by = NEVER

    def rank_died(self, death: RankDied, now: float) -> None:
        """The first death is the cause; the others are its peers, who lost it or were cleaned up. One that was told to end may
        have been so by its slave, which says why when nothing is left of the task.
        """
        if self._death is None:
            status = death.exit_status
            how = f"was ended by signal {status - 128}" if status > 128 else f"exited with status {status}"
            self._death = Cause(status, f"rank {death.rank} {how}", is_guess=death.was_told)
            self._dead_rank = death.rank
            if not self._is_ending:
                self._end_by = min(self._end_by, now + LAST_WORDS_S)

    def rank_silent(self, rank: int, now: float) -> list[Action]:
        """Its shell waits for us, so that what it wrote is not dropped with it."""
        return self.end(self._death, now) if self._death is not None and rank == self._dead_rank else []

    def output_came(self, now: float) -> None:
        """What ranks wrote before their ends is not cut off, as long as it comes."""
        if not self._live and self._end_by != NEVER:
            self._end_by = max(self._end_by, now + AFTERWARDS_S)
        if self._kill_at != NEVER:
            latest = self._kill_at_last if self._live else NEVER
            self._kill_at = min(max(self._kill_at, now + AFTERWARDS_S), latest)

    def task_ended(self, status: offerd.TaskStatus, now: float) -> list[Action]:
        """A proxy's task. One that exits by itself leaves the last word to the process manager, for a while."""
        share = self._live.pop(status.task_id, None)
        if share is None:
            return []
        if self.cause is not None and self.cause.is_guess and _is_telling(status):
            self.cause = _cause_of(status, share)
        if not self._live:
            self._kill_at = min(self._kill_at, now + AFTERWARDS_S)
        if self._hydra_status is not None:
            return []
        if status.state is TaskState.FINISHED or status.reason == Reason.COMMAND_EXITED:
            # Proxies end before the process manager does; one that is alone in the end waits for nobody.
            if not self._live or status.state is not TaskState.FINISHED:
                self._end_by = min(self._end_by, now + AFTERWARDS_S)
            return []
        return self.end(_cause_of(status, share), now)

    def hydra_ended(self, exit_status: int, words: str, unheard: tuple[int, ...], now: float) -> list[Action]:
        """Its exit status is the job's, unless something is known better."""
        self._hydra_status = exit_status
        if unheard:
            self._unheard = f"what {_ranks_text(unheard, self.job.ranks)} wrote last may be missing"
        self._arrive_by = self._kill_at = self._end_by = NEVER
        if self.cause is None and (self._death is not None or exit_status):
            text = words or f"aborted with status {exit_status}"
            self.cause = self._death or Cause(exit_status, text, is_guess=True)
        if self.cause is not None:
            return self._kill_tasks()
        if self._live:
            self._end_by = now + AFTERWARDS_S
        return []

    def slave_lost(self, slave_id: SlaveID, now: float) -> list[Action]:
        names = [share.hostname for share in self._live.values() if share.slave_id == slave_id]
        return self.end(Cause(EXIT_FAILURE, f"{names[0]} was lost", of_slave=True), now) if names else []

    def end(self, cause: Cause, now: float) -> list[Action]:
        """End all of it; the first cause stays the cause, and what ended well has none."""
        if self._hydra_status is not None:
            return self._kill_tasks()
        if self.cause is None:
            is_known = self._death is not None and not self._death.is_guess and not cause.never_ran
            self.cause = self._death if is_known else cause
        if self._is_ending:
            return []
        self._is_ending = True
        had_arrived = self.is_launched and (self._arrive_by == NEVER or self._death is not None)
        self._arrive_by = self._end_by = NEVER
        actions = self._kill_tasks()
        if had_arrived:
            self._kill_at = now + KILL_AFTER_S  # until then it brings the ranks' last words
            self._kill_at_last = now + LAST_WORDS_S
        else:
            actions.append(KillHydra(self.attempt_id))
        return actions

    def tick(self, now: float) -> list[Action]:
        """Whoever was waited for in vain."""
        if now >= self._arrive_by:
            where = ", ".join(share.hostname for share in self.shares)
            text = f"not all proxies ({where}) have reached mpiexec within {ARRIVE_S:g} s"
            return self.end(Cause(EXIT_FAILURE, text, of_slave=True), now)
        if now >= self._end_by:
            self._end_by = NEVER
            if self._hydra_status is not None:
                return self._kill_tasks()
            return self.end(Cause(EXIT_FAILURE, "mpiexec did not end when its proxies had"), now)
        if now >= self._kill_at:
            self._kill_at = NEVER
            return [KillHydra(self.attempt_id)]
        return []

    def _kill_tasks(self) -> list[Action]:
        self._is_ending = True
        return [KillTasks(tuple(self._live), GRACE_S)] if self._live else []


def _ranks_text(ranks: tuple[int, ...], number: int) -> str:
    """A few of them by their numbers."""
    if len(ranks) == number:
        return "the ranks" if number > 1 else "the rank"
    if len(ranks) > MOST_NAMED:
        return f"{len(ranks)} of {number} ranks"
    *first, last = map(str, ranks)
    return f"ranks {', '.join(first)} and {last}" if first else f"rank {last}"


def _is_telling(status: offerd.TaskStatus) -> bool:
    """Whether a task ended by other hands than ours and its own."""
    return status.state is TaskState.LOST or status.reason in (
        Reason.TASK_TIMEOUT,
        Reason.LIMIT_EXCEEDED,
        Reason.SLAVE_DRAINING,
        Reason.EXECUTOR_EXITED,
        Reason.SHIM_DIED,
    )


def _cause_of(status: offerd.TaskStatus, share: Share) -> Cause:
    """What a task's end by other hands means for the job."""
    why = f"{share.hostname}: {status.reason}" + (f": {status.message}" if status.message else "")
    if status.state in (TaskState.LOST, TaskState.ERROR) and status.reason in NEVER_RAN:
        return Cause(EXIT_FAILURE, why, never_ran=True)
    if status.state is TaskState.LOST or status.reason == Reason.SLAVE_DRAINING:
        return Cause(EXIT_FAILURE, why, of_slave=True)
    if status.reason == Reason.TASK_TIMEOUT:
        return Cause(EXIT_TIMEOUT, why)
    if status.reason == Reason.COMMAND_NOT_STARTED:
        return Cause(EXIT_NOT_STARTED, why)
    return Cause(EXIT_KILLED if status.state is TaskState.KILLED else EXIT_FAILURE, why)
