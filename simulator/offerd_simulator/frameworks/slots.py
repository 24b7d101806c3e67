"""Frameworks of the paper's analysis (section 4), in which every task takes one slot of one cpu."""

from __future__ import annotations

import math
from collections.abc import Callable

from offerd.messages import Offer, TaskStatus
from offerd_simulator.cluster import Cluster
from offerd_simulator.frameworks.base import SLOT, Framework, SimulatedTask

Draw = Callable[[], float]
"""Returns the duration of the next task, in seconds."""


def free_slots(offer: Offer) -> int:
    return offer.resources.millicpus // SLOT.millicpus


class Background(Framework):
    """Fills every offered slot until `stop`. `first` gives the durations of the first `n` tasks: what is left of tasks that
    have been running for long.
    """

    def __init__(
        self, name: str, cluster: Cluster, draw: Draw, *, first: Draw, n: int, role: str = "*"
    ) -> None:
        self._draw = draw
        self._first = first
        self._left = n
        self._stopped = False
        super().__init__(name, cluster, role=role)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        return [] if self._stopped else [self.new_task(self._next()) for _ in range(free_slots(offer))]

    def _next(self) -> float:
        if self._left:
            self._left -= 1
            return self._first()
        return self._draw()

    def wants_more(self) -> bool:
        return not self._stopped

    def stop(self) -> None:
        """Launch no new tasks; running ones go on."""
        self._stopped = True
        self.update_needs()


class Elastic(Framework):
    """Uses each slot at once, up to `k`, for one task after the other without end. `ends` are the ends of its tasks in the
    order of their starts (NaN while they run).
    """

    def __init__(self, name: str, cluster: Cluster, draw: Draw, k: int, *, role: str = "*") -> None:
        self._draw = draw
        self.k = k
        self.started_at = cluster.engine.now
        self.ramped_up_at: float | None = None
        self.ends: list[float] = []
        super().__init__(name, cluster, role=role)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        count = min(free_slots(offer), self.k - len(self.tasks))
        chosen = []
        for _ in range(count):
            chosen.append(self.new_task(self._draw(), owner=len(self.ends)))
            self.ends.append(math.nan)
        if len(self.tasks) + count == self.k and self.ramped_up_at is None:
            self.ramped_up_at = self.engine.now
        return chosen

    def wants_more(self) -> bool:
        return len(self.tasks) < self.k

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        assert isinstance(task.owner, int)
        self.ends[task.owner] = self.engine.now


class Rigid(Framework):
    """Holds slots until it has `k`, computes on all of them for `work_s`, and releases them."""

    def __init__(self, name: str, cluster: Cluster, k: int, work_s: float, *, role: str = "*") -> None:
        self.k = k
        self.work_s = work_s
        self.started_at = cluster.engine.now
        self.ramped_up_at: float | None = None
        self.ended_at: float | None = None
        super().__init__(name, cluster, role=role)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        count = min(free_slots(offer), self.k - len(self.tasks)) if self.ramped_up_at is None else 0
        chosen = [self.new_task(math.inf) for _ in range(count)]
        if count and len(self.tasks) + count == self.k:
            self.ramped_up_at = self.engine.now
            self.engine.after(self.work_s, self._done)
        return chosen

    def wants_more(self) -> bool:
        return self.ramped_up_at is None

    def _done(self) -> None:
        self.ended_at = self.engine.now
        for task in list(self.tasks.values()):
            self.kill(task)
