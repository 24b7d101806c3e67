"""One run of a job, from a complete gang to the last proxy's end.

The process manager handles the ends of ranks, but not those of hosts: it waits for ever for a proxy that never comes, or that
is behind a dead connection, and sometimes for ranks whose peer has exited. So every wait here has a limit.
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
"""How long the process manager may take to clean up after its proxies have ended, and the proxies to end after it. It may take
longer only while it still passes on output."""
LAST_WORDS_S = 60.0
"""From a rank's death until all of its output has come; its peers wait meanwhile."""
GRACE_S = 2.0
"""From SIGTERM to SIGKILL for what is left."""
KILL_AFTER_S = 10.0
"""After that, the process manager is killed if the tasks' ends have not been reported: the orders take time."""
MOST_NAMED = 8
"""Most ranks named in a line for people."""

EXIT_FAILURE = 1
EXIT_TIMEOUT = 124
EXIT_NOT_STARTED = 127
EXIT_KILLED = 137

NEVER_RAN = frozenset(reason for reason in Reason if reason.never_ran)
"""If a task is LOST or ERROR for one of these, the gang is tried again."""


class Cause(NamedTuple):
    """Why an attempt is over. `of_slave`: it was not the job's fault, so another attempt may succeed. `is_guess`: a task's
    status may know better.
    """

    exit_status: int
    reason: str
    of_slave: bool = False
    never_ran: bool = False
    is_guess: bool = False


class Attempt:
    """One attempt. Methods return actions; `is_over` when nothing of it is left."""

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
        self._end_by = NEVER
        """When the process manager, or what is left of the tasks after it, must have ended."""
        self._kill_at = self._kill_at_last = NEVER
        """When the process manager gets SIGKILL: it may ignore anything else."""
        self._unheard = ""

    # -- state ------------------------------------------------------------------------------------------------------

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
        """Whether the process manager may still pass on output."""
        return self._hydra_status is None and min(self._end_by, self._kill_at) != NEVER

    @property
    def outcome(self) -> tuple[int, str]:
        """Exit status and reason of an attempt that is over."""
        if self.cause is None:
            return (EXIT_FAILURE, self._unheard) if self._unheard else (0, "")
        return self.cause.exit_status, "; ".join(filter(None, [self.cause.reason, self._unheard]))

    def next_deadline(self) -> float:
        return min(self._arrive_by, self._end_by, self._kill_at)

    # -- events -----------------------------------------------------------------------------------------------------

    def launched(self, now: float) -> None:
        """The proxies' tasks have been launched."""
        self.is_launched = True
        self._live = dict(zip(self.task_ids, self.shares, strict=True))
        self._arrive_by = now + ARRIVE_S

    def proxies_connected(self, number: int) -> None:
        """So many proxies are connected. One whose ranks were fast may have ended already: only running ones are waited for."""
        if number >= len(self._live):
            self._arrive_by = NEVER

    def rank_died(self, death: RankDied, now: float) -> None:
        """The first death is the cause; the other ranks lost a peer or were cleaned up. If it had been asked to end, its slave
        may be the reason, which the task's status will say.
        """
        if self._death is None:
            status = death.exit_status
            how = f"was ended by signal {status - 128}" if status > 128 else f"exited with status {status}"
            self._death = Cause(status, f"rank {death.rank} {how}", is_guess=death.was_asked)
            self._dead_rank = death.rank
            if not self._is_ending:
                self._end_by = min(self._end_by, now + LAST_WORDS_S)

    def rank_silent(self, rank: int, now: float) -> list[Action]:
        """All that a dead rank wrote has come. Its shell waits for us, so that this output is not dropped."""
        return self.end(self._death, now) if self._death is not None and rank == self._dead_rank else []

    def output_came(self, now: float) -> None:
        """Extend the wait: output that ranks wrote before they ended is not cut off while it still comes."""
        if not self._live and self._end_by != NEVER:
            self._end_by = max(self._end_by, now + AFTERWARDS_S)
        if self._kill_at != NEVER:
            latest = self._kill_at_last if self._live else NEVER
            self._kill_at = min(max(self._kill_at, now + AFTERWARDS_S), latest)

    def task_ended(self, status: offerd.TaskStatus, now: float) -> list[Action]:
        """A proxy's task has ended. If it exited by itself, the process manager may still say why for a while."""
        share = self._live.pop(status.task_id, None)
        if share is None:
            return []
        if self.cause is not None and self.cause.is_guess and _is_external(status):
            self.cause = _cause_of(status, share)
        if not self._live:
            self._kill_at = min(self._kill_at, now + AFTERWARDS_S)
        if self._hydra_status is not None:
            return []
        if status.state is TaskState.FINISHED or status.reason == Reason.COMMAND_EXITED:
            # Proxies end before the process manager does; the last one waits for nobody.
            if not self._live or status.state is not TaskState.FINISHED:
                self._end_by = min(self._end_by, now + AFTERWARDS_S)
            return []
        return self.end(_cause_of(status, share), now)

    def hydra_ended(self, exit_status: int, words: str, unheard: tuple[int, ...], now: float) -> list[Action]:
        """The process manager has ended. Its exit status is the job's, unless a better cause is known."""
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
        """End the whole attempt. The first cause is kept; an attempt that ended well has none."""
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
            self._kill_at = now + KILL_AFTER_S  # until then it passes on the ranks' last output
            self._kill_at_last = now + LAST_WORDS_S
        else:
            actions.append(KillHydra(self.attempt_id))
        return actions

    def tick(self, now: float) -> list[Action]:
        """Handle waits that have taken too long."""
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
    """A few of the ranks, by their numbers."""
    if len(ranks) == number:
        return "the ranks" if number > 1 else "the rank"
    if len(ranks) > MOST_NAMED:
        return f"{len(ranks)} of {number} ranks"
    *first, last = map(str, ranks)
    return f"ranks {', '.join(first)} and {last}" if first else f"rank {last}"


def _is_external(status: offerd.TaskStatus) -> bool:
    """Whether neither the task itself nor this framework ended the task."""
    return status.state is TaskState.LOST or status.reason in (
        Reason.TASK_TIMEOUT,
        Reason.LIMIT_EXCEEDED,
        Reason.SLAVE_DRAINING,
        Reason.EXECUTOR_EXITED,
        Reason.SHIM_DIED,
    )


def _cause_of(status: offerd.TaskStatus, share: Share) -> Cause:
    """What a task's external end means for the job."""
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
