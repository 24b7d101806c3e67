"""A batch scheduler of rigid jobs, like Torque with MPI: a job starts when it has all its slots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from offerd.messages import Offer, TaskStatus
from offerd.resources import Resources
from offerd_simulator.cluster import Cluster
from offerd_simulator.frameworks.base import Framework, SimulatedTask


@dataclass(eq=False, slots=True)
class Gang:
    """A job of `size` tasks that compute together for `work_s` once all of them run."""

    name: str
    size: int
    work_s: float
    resources: Resources
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    members: list[SimulatedTask] = field(default_factory=list)

    @property
    def took_s(self) -> float:
        """Seconds from submission to end. Raises `ValueError` while it runs."""
        if self.ended_at is None:
            raise ValueError(f"job {self.name} has not ended")
        return self.ended_at - self.submitted_at

    @property
    def waited_s(self) -> float:
        """Seconds from submission until all its tasks ran. Raises `ValueError` before."""
        if self.started_at is None:
            raise ValueError(f"job {self.name} has not started")
        return self.started_at - self.submitted_at


class Gangs(Framework):
    """Runs gangs in the order of submission, and never holds more than `cap` tasks: its guaranteed share."""

    def __init__(self, name: str, cluster: Cluster, *, cap: int, role: str = "*") -> None:
        self.cap = cap
        self.queue: list[Gang] = []
        self.gangs: list[Gang] = []
        super().__init__(name, cluster, role=role)

    def submit(self, gang: Gang) -> None:
        gang.submitted_at = self.engine.now
        self.queue.append(gang)
        self.gangs.append(gang)
        self.update_needs()

    def submit_at(self, when: float, gang: Gang) -> None:
        self.engine.at(when, self.submit, gang)

    def _head(self) -> Gang | None:
        """The job to be filled now. The next one begins only if it fits below the cap as a whole: half a gang would hold slots
        for nothing.
        """
        if not self.queue:
            return None
        gang = self.queue[0]
        held_by_others = len(self.tasks) - len(gang.members)
        return gang if held_by_others + gang.size <= self.cap else None

    def wants_more(self) -> bool:
        return self._head() is not None

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        free = offer.resources
        chosen: list[SimulatedTask] = []
        gang = self._head()
        while gang is not None and len(gang.members) < gang.size and free.covers(gang.resources):
            free -= gang.resources
            task = self.new_task(math.inf, gang.resources, owner=gang)
            gang.members.append(task)
            chosen.append(task)
        return chosen

    def task_started(self, task: SimulatedTask) -> None:
        gang = task.owner
        assert isinstance(gang, Gang)
        if len(gang.members) == gang.size and all(member.started_at is not None for member in gang.members):
            gang.started_at = self.engine.now
            self.queue.remove(gang)
            self.engine.after(gang.work_s, self._done, gang)
            self.update_needs()

    def _done(self, gang: Gang) -> None:
        gang.ended_at = self.engine.now
        assert gang.started_at is not None
        self.useful_s += gang.size * gang.work_s
        for member in gang.members:
            self.kill(member)

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        """The task was killed by our own order; its slot is free for the next gang."""
