"""Frameworks that use long and short slots: one that is always short, one that does not know, one that draws lots."""

from __future__ import annotations

import random
from collections import deque
from enum import StrEnum

from offerd.messages import Offer, Reason, TaskStatus
from offerd_simulator.cluster import Cluster
from offerd_simulator.durations import Durations
from offerd_simulator.frameworks.base import SLOT, Framework, SimulatedTask
from offerd_simulator.frameworks.slots import free_slots


def long_slots(offer: Offer) -> int:
    """How many slots of an offer may be used by tasks without a time limit."""
    return offer.long_quantities.get("cpus", 0) // SLOT.millicpus


class Lots(Framework):
    """Each new task is long with probability `p`, or short if no long one is allowed any more. It fills every slot."""

    def __init__(
        self, cluster: Cluster, p: float, *, long: Durations, short: Durations, source: random.Random
    ) -> None:
        self._p = p
        self._long = long
        self._short = short
        self._random = source
        super().__init__("lots", cluster)

    def wants_more(self) -> bool:
        return True

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        allowed = long_slots(offer)
        chosen = []
        for _ in range(free_slots(offer)):
            if self._random.random() < self._p and allowed:
                allowed -= 1
                chosen.append(self.new_task(self._long.draw(self._random), owner="long"))
            else:
                # The limit only declares the task short: it is longer than any task takes.
                duration_s = self._short.draw(self._random)
                chosen.append(self.new_task(duration_s, limit_s=1e6, owner="short"))
        return chosen


class Policy(StrEnum):
    """How a framework declares tasks whose durations it does not know."""

    LONG = "all long"
    RETRY = "short, then long"
    DOUBLE = "doubled limits, then long"
    LEARN = "long if most are killed"


LEARN_FROM = 20
"""How many ends of first tries `Policy.LEARN` looks back on."""


class Work:
    """A piece of work and the limit of its next try; None: as a long task."""

    __slots__ = ("duration_s", "limit_s")

    def __init__(self, duration_s: float, limit_s: float | None) -> None:
        self.duration_s = duration_s
        self.limit_s = limit_s


class Batch(Framework):
    """Always has `population` pieces of work: each that is done is replaced by a new one. Work that is killed at its limit is
    tried again from its start, as the policy says.
    """

    def __init__(
        self,
        cluster: Cluster,
        durations: Durations,
        *,
        policy: Policy,
        short_limit_s: float,
        population: int,
        source: random.Random,
    ) -> None:
        self._durations = durations
        self._policy = policy
        self._limit_s = short_limit_s
        self._random = source
        self._killed: deque[bool] = deque(maxlen=LEARN_FROM)
        self._short: deque[Work] = deque()
        self._long: deque[Work] = deque()
        for _ in range(population):
            self._add_new()
        super().__init__("batch", cluster)

    def _add_new(self) -> None:
        duration_s = self._durations.draw(self._random)
        limit_s: float | None = self._limit_s
        if self._policy is Policy.LONG:
            limit_s = None
        elif self._policy is Policy.DOUBLE:
            limit_s = self._limit_s / 8
        elif (
            self._policy is Policy.LEARN
            and sum(self._killed) > LEARN_FROM / 2
            and self._random.random() > 0.1
        ):
            # Every tenth is tried as short all the same: durations may have become shorter.
            limit_s = None
        self._queue(Work(duration_s, limit_s))

    def _queue(self, work: Work) -> None:
        (self._long if work.limit_s is None else self._short).append(work)

    def wants_more(self) -> bool:
        return bool(self._short or self._long)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        free, allowed = free_slots(offer), long_slots(offer)
        works: list[Work] = []
        while self._long and len(works) < min(free, allowed):
            works.append(self._long.popleft())
        while self._short and len(works) < free:
            works.append(self._short.popleft())
        return [self.new_task(work.duration_s, limit_s=work.limit_s, owner=work) for work in works]

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        work = task.owner
        assert isinstance(work, Work)
        timed_out = status.reason == Reason.TASK_TIMEOUT
        if task.limit_s is not None:
            self._killed.append(timed_out)
        if not timed_out:
            self._add_new()
            return
        assert work.limit_s is not None
        doubled = 2 * work.limit_s
        again = self._policy is Policy.DOUBLE and doubled <= self._limit_s
        work.limit_s = doubled if again else None
        self._queue(work)


class Interactive(Framework):
    """Jobs of a few short tasks that people wait for, in a Poisson stream. `responses` are the times from a job's arrival to
    the end of its last task.
    """

    tasks_per_job = 10
    durations = (2.0, 8.0)

    def __init__(self, cluster: Cluster, jobs_per_s: float, source: random.Random) -> None:
        self._rate = jobs_per_s
        self._random = source
        self._waiting: deque[list[float]] = deque()
        self.responses: list[tuple[float, float]] = []
        super().__init__("interactive", cluster)
        self.engine.after(source.expovariate(jobs_per_s), self._arrive)

    def _arrive(self) -> None:
        job = [self.engine.now, float(self.tasks_per_job)]
        self._waiting.extend([job] * self.tasks_per_job)
        self.engine.after(self._random.expovariate(self._rate), self._arrive)
        self.update_needs()

    def wants_more(self) -> bool:
        return bool(self._waiting)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        limit_s = min(offer.short_limit_s, 2 * self.durations[1])
        chosen = []
        for _ in range(min(free_slots(offer), len(self._waiting))):
            duration_s = self._random.uniform(*self.durations)
            chosen.append(self.new_task(duration_s, limit_s=limit_s, owner=self._waiting.popleft()))
        return chosen

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        job = task.owner
        assert isinstance(job, list)
        job[1] -= 1
        if not job[1]:
            self.responses.append((job[0], self.engine.now - job[0]))
