"""One run of a job, from a complete gang to the last proxy's end.

The process manager covers the ends of ranks, not those of hosts: it waits for ever for a proxy that never comes, for one
behind a dead link, and sometimes for ranks whose peer has exited. So every wait here has an end of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import offerd
from offerd import Reason, SlaveID, TaskID, TaskState
from offerd_frameworks.mpi.core.actions import Action, KillHydra, KillTasks
from offerd_frameworks.mpi.core.gang import Share
from offerd_frameworks.mpi.core.job import Job

NEVER = float("inf")
ARRIVE_S = 60.0
"""From launching the proxies to the last one's connection: executors have to start, too."""
AFTERWARDS_S = 2.0
"""How long the process manager may take to clean up after a rank's death, and its proxies to end after it."""
GRACE_S = 2.0
"""From TERM to KILL for what is left."""

EXIT_FAILURE = 1
EXIT_TIMEOUT = 124
EXIT_NOT_STARTED = 127
EXIT_KILLED = 137

NEVER_RAN = frozenset({Reason.OFFER_INVALID, Reason.LONG_TASK_CAP, Reason.SLAVE_UNKNOWN})
"""LOST or ERROR for one of these: the offer was overtaken by something on its way. The gang is tried again."""


class Cause(NamedTuple):
    """Why an attempt is over. `of_slave`: not by the job's doing, so another attempt may fare better."""

    exit_status: int
    reason: str
    of_slave: bool = False
    never_ran: bool = False


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
        self._is_guess = False  # the cause is what the process manager saw; a task's status may know better
        self._arrive_by = NEVER
        self._end_by = NEVER  # the process manager, or what is left of the tasks after it
        self._kill_at = NEVER  # the process manager, by SIGKILL: it may ignore anything else

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

    def rank_died(self, rank: int, exit_status: int, now: float) -> None:
        """The first death is the cause; the others are its peers, who lost it or were cleaned up."""
        if self._death is None:
            how = (
                f"was ended by signal {exit_status - 128}"
                if exit_status > 128
                else f"exited with status {exit_status}"
            )
            self._death = Cause(exit_status, f"rank {rank} {how}")
            self._end_by = min(self._end_by, now + AFTERWARDS_S)

    def task_ended(self, status: offerd.TaskStatus, now: float) -> list[Action]:
        """A proxy's task. One that exits by itself leaves the last word to the process manager, for a while."""
        share = self._live.pop(status.task_id, None)
        if share is None:
            return []
        if self._hydra_status is not None:
            if self._is_guess and _is_telling(status):
                self.cause = _cause_of(status, share)
            return []
        if status.state is TaskState.FINISHED or status.reason == Reason.COMMAND_EXITED:
            # Proxies end before the process manager does; one that is alone in the end waits for nobody.
            if not self._live or status.state is not TaskState.FINISHED:
                self._end_by = min(self._end_by, now + AFTERWARDS_S)
            return []
        return self.end(_cause_of(status, share), now)

    def hydra_ended(self, exit_status: int, words: str, now: float) -> list[Action]:
        """Its exit status is the job's, unless something is known better."""
        self._hydra_status = exit_status
        self._arrive_by = self._kill_at = self._end_by = NEVER
        if self.cause is None and (self._death is not None or exit_status):
            self._is_guess = self._death is None
            self.cause = self._death or Cause(exit_status, words or f"aborted with status {exit_status}")
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
            self.cause = self._death if self._death is not None and not cause.never_ran else cause
        if self._is_ending:
            return []
        self._is_ending = True
        had_arrived = self._arrive_by == NEVER and self.is_launched
        self._arrive_by = self._end_by = NEVER
        actions = self._kill_tasks()
        if had_arrived:
            self._kill_at = now + GRACE_S + 1.0  # until then it brings the ranks' last words
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
