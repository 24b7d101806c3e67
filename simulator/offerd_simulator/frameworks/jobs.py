"""Frameworks whose jobs are stages of tasks: a Hadoop-like one (maps, then reduces), a Spark-like one (iterations).

A stage begins when the one before it has ended. A slot goes to the job with the fewest running tasks (fair, like Hadoop's Fair
Scheduler) or to the oldest job (first in, first out).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from offerd.messages import Offer, TaskStatus
from offerd.resources import Resources
from offerd_simulator.cluster import Cluster
from offerd_simulator.frameworks.base import Framework, SimulatedTask


@dataclass(frozen=True, slots=True)
class Stage:
    """`tasks` tasks with the same mean duration (`spread`: standard deviation over mean) and resources."""

    tasks: int
    task_s: float
    resources: Resources
    spread: float = 0.0

    def draw(self, source: random.Random) -> float:
        """The duration of one task: normally distributed, but at least a tenth of the mean."""
        if not self.spread:
            return self.task_s
        return max(0.1 * self.task_s, source.gauss(self.task_s, self.spread * self.task_s))


@dataclass(eq=False, slots=True)
class Job:
    """A job and its progress. `setup_s`: time before its first task can run."""

    name: str
    stages: Sequence[Stage]
    setup_s: float = 0.0
    submitted_at: float = 0.0
    ended_at: float | None = None
    stage: int = 0
    waiting: int = 0
    running: int = 0
    after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def took_s(self) -> float:
        """Seconds from submission to end. Raises `ValueError` while it runs."""
        if self.ended_at is None:
            raise ValueError(f"job {self.name} has not ended")
        return self.ended_at - self.submitted_at


class Jobs(Framework):
    """Runs the jobs that are submitted to it."""

    def __init__(
        self, name: str, cluster: Cluster, source: random.Random, *, fair: bool = True, role: str = "*"
    ) -> None:
        self._random = source
        self._fair = fair
        self.jobs: list[Job] = []
        self.ended: list[Job] = []
        super().__init__(name, cluster, role=role)

    def submit(self, job: Job) -> None:
        job.submitted_at = self.engine.now
        self.engine.after(job.setup_s, self._begin, job)

    def submit_at(self, when: float, job: Job) -> None:
        self.engine.at(when, self.submit, job)

    def _begin(self, job: Job) -> None:
        self.jobs.append(job)
        job.waiting = job.stages[0].tasks
        self.update_needs()

    def wants_more(self) -> bool:
        return any(job.waiting for job in self.jobs)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        free = offer.resources
        chosen: list[SimulatedTask] = []
        while True:
            ready = [job for job in self.jobs if job.waiting]
            if not ready:
                return chosen
            # Python's min takes the first of equals, which is the oldest job.
            job = min(ready, key=lambda job: job.running) if self._fair else ready[0]
            stage = job.stages[job.stage]
            if not free.covers(stage.resources):
                return chosen
            free -= stage.resources
            job.waiting -= 1
            job.running += 1
            chosen.append(self.new_task(stage.draw(self._random), stage.resources, owner=job))

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        job = task.owner
        assert isinstance(job, Job)
        job.running -= 1
        if job.running or job.waiting:
            return
        job.stage += 1
        if job.stage < len(job.stages):
            job.waiting = job.stages[job.stage].tasks
            return
        job.ended_at = self.engine.now
        self.jobs.remove(job)
        self.ended.append(job)
        for call in job.after:
            call()
