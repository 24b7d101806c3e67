"""Two gangs that each need more than half of the cluster: both run, whatever the order of offers, and never at once."""

from __future__ import annotations

import random

import pytest

import offerd
from offerd.ids import OfferID, SlaveID, TaskID
from offerd_frameworks.mpi.core import actions as a
from offerd_frameworks.mpi.core import events as e
from offerd_frameworks.mpi.core.job import Job
from offerd_frameworks.mpi.core.queue import GangQueue

SLAVES = 6
RUNS_S = 3.0
STEP_S = 0.05
PATIENCE_S = 120.0
ONE = offerd.Resources.of(cpus=1)


class World:
    """A simple master that offers each free slave to a random queue that asks, and two queues."""

    def __init__(self, seed: int, ranks: tuple[int, int]) -> None:
        self.random = random.Random(seed)
        self.queues = [GangQueue(random.Random(f"{seed} {number}").random) for number in range(2)]
        self.asks = [False, False]
        self.free = set(range(SLAVES))
        self.offered: dict[OfferID, int] = {}
        self.ends: list[tuple[float, int, a.LaunchProxies]] = []
        self.ended: list[int] = []
        self.starts: dict[str, a.StartHydra] = {}
        self.now = 0.0
        self.serial = 0
        for number, queue in enumerate(self.queues):
            self.do(number, queue.handle(e.GuaranteeKnown(offerd.Resources()), 0.0))
            job = Job(f"job{number}", ("x",), ranks[number], ONE, time_limit_s=30.0)
            self.do(number, queue.handle(e.Submitted(job), 0.0))

    def do(self, number: int, actions: list[a.Action]) -> None:
        for action in actions:
            match action:
                case a.AskForOffers(wanted):
                    self.asks[number] = wanted
                case a.DeclineOffers(offer_ids, _):
                    self.free.update(self.offered.pop(offer_id) for offer_id in offer_ids)
                case a.StartHydra(attempt_id, _, _):
                    self.do(number, self.queues[number].handle(e.HydraReady(attempt_id), self.now))
                case a.LaunchProxies():
                    self.ends.append((self.now + RUNS_S, number, action))
                case a.JobEnded():
                    assert action.outcome.exit_status == 0
                    self.ended.append(number)

    def step(self) -> None:
        """A slice of time: ends, offers one slave at a time, ticks."""
        self.now += STEP_S
        for end in [end for end in self.ends if end[0] <= self.now]:
            self.ends.remove(end)
            _, number, launch = end
            for share, task_id in zip(launch.shares, launch.task_ids, strict=True):
                self.free.update(self.offered.pop(offer_id) for offer_id in share.offer_ids)
                status = offerd.TaskStatus(TaskID(task_id), offerd.TaskState.FINISHED, 1)
                self.do(number, self.queues[number].handle(e.StatusCame(status), self.now))
            self.do(number, self.queues[number].handle(e.HydraEnded(launch.attempt_id, 0, ""), self.now))
        for slave in self.random.sample(sorted(self.free), len(self.free)):
            asking = [number for number in range(2) if self.asks[number]]
            if asking and self.random.random() < 0.5:
                self.offer(slave, self.random.choice(asking))
        for number, queue in enumerate(self.queues):
            self.do(number, queue.tick(self.now))

    def offer(self, slave: int, number: int) -> None:
        self.serial += 1
        offer_id = OfferID(f"o{self.serial}")
        self.free.discard(slave)
        self.offered[offer_id] = slave
        offer = offerd.Offer(offer_id, SlaveID(f"s{slave}"), f"slave-{slave}", ONE, {"cpus": 1000}, 60.0)
        self.do(number, self.queues[number].handle(e.OffersCame([offer]), self.now))


@pytest.mark.parametrize("ranks", [(4, 4), (6, 6), (5, 6)])
def test_two_gangs_that_need_more_than_half_each_are_never_dead_locked(ranks: tuple[int, int]) -> None:
    for seed in range(60):
        world = World(seed, ranks)
        while len(world.ended) < 2:
            world.step()
            assert world.now < PATIENCE_S, (
                f"seed {seed}: only {world.ended} ended, {len(world.free)} slaves free"
            )
        assert world.free == set(range(SLAVES)), f"seed {seed}"
