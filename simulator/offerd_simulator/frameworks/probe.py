"""The load of the paper's scalability experiment: frameworks that launch one task on each offered slave, and the probe."""

from __future__ import annotations

from offerd.messages import Offer, TaskStatus
from offerd_simulator.cluster import Cluster
from offerd_simulator.frameworks.base import SLOT, Framework, SimulatedTask
from offerd_simulator.frameworks.slots import Draw


class OnePerSlave(Framework):
    """Launches one task on each slave that it is offered."""

    def __init__(self, name: str, cluster: Cluster, draw: Draw) -> None:
        self.draw = draw
        super().__init__(name, cluster)

    def wants_more(self) -> bool:
        return True

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        return [self.new_task(self.draw(), SLOT)]


class Probe(Framework):
    """Registers and launches a single task; `extra_s` is the time that this took beyond the task itself."""

    def __init__(self, name: str, cluster: Cluster, task_s: float) -> None:
        self._task_s = task_s
        self._launched = False
        self.submitted_at = cluster.engine.now
        self.extra_s: float | None = None
        super().__init__(name, cluster)

    def wants_more(self) -> bool:
        return not self._launched

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        if self._launched:
            return []
        self._launched = True
        return [self.new_task(self._task_s, SLOT)]

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        self.extra_s = self.engine.now - self.submitted_at - self._task_s
        self.leave()
