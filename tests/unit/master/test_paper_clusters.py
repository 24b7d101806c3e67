"""Whole clusters of the papers, with greedy frameworks that launch one task per offer: the shares that result."""

from __future__ import annotations

import random

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import SlaveID
from offerd.messages import TaskState
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator


class GreedyCluster:
    """Frameworks that launch one task on each offer with room for it and decline the others; tasks end in random order."""

    def __init__(self, nodes: int, node: str, *demands: str) -> None:
        self.random = random.Random(1)
        self.cluster = ClusterHarness(checks_invariants=False, ping_interval_s=1e9, offer_timeout_s=1e9)
        self.frameworks = [self.cluster.framework(f"framework{number}") for number in range(len(demands))]
        self.demands = dict(zip(self.frameworks, demands, strict=True))
        self.running: list[tuple[SlavePeer, FrameworkPeer, str]] = []
        self.serial = 0
        self.slaves: dict[SlaveID, SlavePeer] = {}
        for _ in range(nodes):
            slave = self.cluster.slave(node)
            self.slaves[slave.slave_id] = slave
            self.answer()

    def answer(self) -> None:
        """Answer offers until none is accepted any more."""
        while any(framework.inbox for framework in self.frameworks):
            for framework, demand in self.demands.items():
                inbox, framework.inbox = framework.inbox, []
                for message in inbox:
                    if isinstance(message, m.ResourceOffers):
                        for offer in message.offers:
                            self.take(framework, demand, offer)

    def take(self, framework: FrameworkPeer, demand: str, offer: m.Offer) -> None:
        if not offer.resources.covers(Resources.parse(demand)):
            framework.decline(offer, refuse_seconds=1e6)
            return
        self.serial += 1
        framework.accept(offer, tasks=[task(f"t{self.serial}", demand)])
        self.running.append((self.slaves[offer.slave_id], framework, f"t{self.serial}"))

    def churn(self, ends: int) -> list[tuple[float, float]]:
        """Let `ends` tasks end; returns each framework's mean shares of cpus and memory over the second half."""
        sums = {framework: [0.0, 0.0] for framework in self.frameworks}
        for step in range(ends):
            slave, framework, task_id = self.running.pop(self.random.randrange(len(self.running)))
            slave.status(framework, task_id, TaskState.FINISHED)
            self.answer()
            if step >= ends // 2:
                for name, account in sums.items():
                    for which, share in enumerate(self.shares(name)):
                        account[which] += share / (ends - ends // 2)
        return [(account[0], account[1]) for account in sums.values()]

    def shares(self, framework: FrameworkPeer) -> tuple[float, float]:
        """The shares of cpus and memory."""
        module = self.cluster.allocator
        assert isinstance(module, DrfAllocator)
        held, total = module.held(framework.framework_id), module.total
        return held["cpus"] / total["cpus"], held["mem"] / total["mem"]


def test_case_9_forty_eight_nodes_of_four_cpus_and_fourteen_gigabytes() -> None:
    """DRF paper, section 6.1, figure 8, first phase: one task of <1,10> and three of <1,1> on each node."""
    (_, a_mem), (b_cpus, _) = GreedyCluster(48, "cpus=4,mem=14G", "cpus=1,mem=10G", "cpus=1,mem=1G").churn(
        3000
    )
    assert a_mem == pytest.approx(0.714, abs=0.05)
    assert b_cpus == pytest.approx(0.75, abs=0.05)


def test_case_9_second_phase_both_are_bound_by_cpus_and_have_half() -> None:
    (a_cpus, _), (b_cpus, _) = GreedyCluster(48, "cpus=4,mem=14G", "cpus=2,mem=4G", "cpus=1,mem=3G").churn(
        3000
    )
    assert [a_cpus, b_cpus] == pytest.approx([0.5, 0.5], abs=0.05)


def test_case_9_third_phase_both_are_bound_by_memory_and_near_equal_though_nodes_are_in_pieces() -> None:
    (_, a_mem), (_, b_mem) = GreedyCluster(48, "cpus=4,mem=14G", "cpus=1,mem=7G", "cpus=1,mem=4G").churn(3000)
    assert a_mem == pytest.approx(b_mem, abs=0.1)
    assert 0.7 < a_mem + b_mem < 1.0
