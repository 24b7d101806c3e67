"""Jobs that scan files: each task reads one block, of which some nodes have a replica. Tasks are placed by delay scheduling.

A task takes `local_s` on a node with its block, and `remote_s` elsewhere. When a slot is offered on a node with none of the
waiting blocks, the job declines, unless it has launched no local task for `delay_s` (delay scheduling by time). Then it
launches one that is not local, and goes on to do so until it launches a local one again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from offerd.messages import Offer, TaskStatus
from offerd_simulator.cluster import Cluster
from offerd_simulator.frameworks.base import Framework, SimulatedTask
from offerd_simulator.frameworks.slots import free_slots

OFFER_AGAIN_S = 1.0
"""How long a declined node is not offered again, unless more becomes free on it."""


class Scan(Framework):
    """One instance of Hadoop with one map-only job. `replicas`: the hostnames that have each block."""

    refuse_s = OFFER_AGAIN_S

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        replicas: Sequence[Sequence[str]],
        *,
        delay_s: float,
        local_s: float,
        remote_s: float,
        spread: float,
        source: random.Random,
    ) -> None:
        self.delay_s = delay_s
        self.local_s, self.remote_s, self.spread = local_s, remote_s, spread
        self._random = source
        self._waiting = dict.fromkeys(range(len(replicas)))
        self._by_host: dict[str, list[int]] = {}
        for block, hosts in enumerate(replicas):
            for host in hosts:
                self._by_host.setdefault(host, []).append(block)
        self._launched_local_at = cluster.engine.now
        self.started_at = cluster.engine.now
        self.ended_at: float | None = None
        self.local = self.remote = 0
        super().__init__(name, cluster)

    def wants_more(self) -> bool:
        return bool(self._waiting)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        chosen = []
        for _ in range(free_slots(offer)):
            block = self._local_block(offer.hostname)
            if block is not None:
                self._launched_local_at = self.engine.now
                self.local += 1
                mean_s = self.local_s
            elif self._waiting and self.engine.now - self._launched_local_at >= self.delay_s:
                block = next(iter(self._waiting))
                self.remote += 1
                mean_s = self.remote_s
            else:
                break
            del self._waiting[block]
            duration_s = max(0.2 * mean_s, self._random.gauss(mean_s, self.spread * mean_s))
            chosen.append(self.new_task(duration_s))
        return chosen

    def _local_block(self, host: str) -> int | None:
        """A waiting block with a replica on the host; blocks launched elsewhere meanwhile are skipped."""
        here = self._by_host.get(host, [])
        while here:
            block = here.pop()
            if block in self._waiting:
                return block
        return None

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        if not self._waiting and not self.tasks:
            self.ended_at = self.engine.now
