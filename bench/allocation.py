"""The master's core alone with a large cluster: a batch of offers, one decision, an empty cycle, memory.

A batch is one tick of a core in which all slaves are free and all frameworks want offers: exact DRF, with each offer built.
Ratios are to a loop of plain Python timed right beside, one round for each slave of the batch: they hold on other machines,
seconds do not. The garbage collector is off while the clock runs, as in the daemon's turn.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable

from figures import Bound, Findings, Row, Samples, beside
from offerd import messages as m
from offerd.ids import ExecutorID, OfferID, PeerID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.entitlements import with_entitlements
from offerd_master.allocation.lottery import LotteryAllocator
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.allocation.priority import PriorityAllocator
from offerd_master.core.actions import Action, Send
from offerd_master.core.events import Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import MasterSettings

EXECUTOR = m.ExecutorInfo(ExecutorID("bench"), module="bench")
BATCHES = ((10_000, 1_000, 0.1), (50_000, 200, 0.4))
DECISION_SIZES = ((1_000, 200), (50_000, 200), (50_000, 1_000))
DECISION_US = 50.0
LOTS = Resources.of(cpus=1_000_000)
TERMS: dict[str, tuple[type[Allocator], Policy]] = {
    "each with a guarantee it is under": (
        DrfAllocator,
        Policy(frameworks={name: Terms(guarantee=LOTS) for name in map("framework{}".format, range(200))}),
    ),
    "each with a limit": (
        DrfAllocator,
        Policy(frameworks={name: Terms(limit=LOTS) for name in map("framework{}".format, range(200))}),
    ),
    "module priority": (PriorityAllocator, Policy()),
    "module lottery": (LotteryAllocator, Policy()),
}
"""Policies beside plain DRF: a decision must not cost more with them."""
MEMORY_SLAVES, MEMORY_TASKS, MEMORY_MB = 50_000, 100_000, 600.0
LOOP_ROUNDS = 20


def measure(quick: bool) -> Findings:
    runs = 2 if quick else 5
    findings = Findings()
    for slaves, frameworks, limit_s in BATCHES:
        found = [batch(slaves, frameworks) for _ in range(runs)]
        ours, loop = [pair[0] for pair in found], [pair[1] for pair in found]
        findings.rows.append(
            Row(
                f"one batch, {slaves:,} free slaves, {frameworks:,} frameworks",
                "s",
                Samples.of(ours),
                Samples.of(loop),
                "plain loop",
                beside(ours, loop),
                Bound(limit_s, at_least=False),
            )
        )
    for slaves, frameworks in DECISION_SIZES:
        decisions = Samples.of(decision(slaves, frameworks) for _ in range(1 if quick else 3))
        findings.rows.append(
            Row(
                f"one slave freed, next offer made, {slaves:,} slaves, {frameworks:,} frameworks",
                "us",
                decisions,
                bound=Bound(DECISION_US, at_least=False),
            )
        )
    slaves, frameworks, _ = BATCHES[-1]
    for name, (module, policy) in TERMS.items():
        decisions = Samples.of(decision(slaves, frameworks, module, policy) for _ in range(1 if quick else 3))
        findings.rows.append(
            Row(
                f"one slave freed, next offer made, {slaves:,} slaves, {frameworks:,} frameworks, {name}",
                "us",
                decisions,
                bound=Bound(DECISION_US, at_least=False),
            )
        )
    findings.rows.append(
        Row(f"an empty cycle, {slaves:,} slaves", "us", Samples.of([empty_cycle(slaves, frameworks)]))
    )
    findings.rows.append(
        Row(
            f"core's memory, {MEMORY_SLAVES:,} slaves, {MEMORY_TASKS:,} tasks",
            "MB",
            Samples.of([memory_mb()]),
            bound=Bound(MEMORY_MB, at_least=False),
        )
    )
    return findings


class Cluster:
    """A core with slaves of four cpus and frameworks that want everything."""

    def __init__(
        self,
        slaves: int,
        frameworks: int,
        module: type[Allocator] = DrfAllocator,
        policy: Policy = Policy(),  # noqa: B008 (it is frozen)
    ) -> None:
        settings = MasterSettings(batch_window_s=0.0, ping_interval_s=1e9)
        self.core = MasterCore(settings, "M", 1, with_entitlements(module(policy), policy))
        self.slaves = [PeerID(b"s%d" % number) for number in range(slaves)]
        self.frameworks = [PeerID(b"f%d" % number) for number in range(frameworks)]
        for number, peer in enumerate(self.slaves):
            info = m.SlaveInfo(f"host{number}", Resources({"cpus": 4000, "mem": 8 << 30}))
            self.receive(peer, m.RegisterSlave(info))
        for number, peer in enumerate(self.frameworks):
            self.receive(
                peer, m.RegisterFramework(m.FrameworkInfo(f"framework{number}", executors=[EXECUTOR]))
            )

    def receive(self, peer: PeerID, message: m.Message) -> None:
        self.core.handle(Received(peer, message), 0.0)

    def offers(self) -> list[tuple[PeerID, m.Offer]]:
        """The offers of one tick, with their receivers."""
        return [
            (action.peer, offer)
            for action in self.core.tick(0.0)
            if isinstance(action, Send) and isinstance(action.message, m.ResourceOffers)
            for offer in action.message.offers
        ]

    def fill(self, tasks: int) -> list[tuple[PeerID, m.Offer]]:
        """Accept every offer whole, with `tasks` tasks on each; returns the offers."""
        offers = self.offers()
        share = Resources({"cpus": 4000 // tasks, "mem": (8 << 30) // tasks})
        for peer, offer in offers:
            infos = [
                m.TaskInfo(TaskID(f"{offer.slave_id}-{n}"), share, EXECUTOR.executor_id, time_limit_s=30.0)
                for n in range(tasks)
            ]
            self.receive(peer, m.AcceptOffers([OfferID(offer.offer_id)], infos))
        return offers


def timed(work: Callable[[], object]) -> float:
    """Processor time in seconds."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.enable()


def batch(slaves: int, frameworks: int) -> tuple[float, float]:
    """Seconds of a batch, and of the loop beside it."""
    cluster = Cluster(slaves, frameworks)
    made: list[Action] = []
    ours = timed(lambda: made.extend(cluster.core.tick(0.0)))
    messages = [action.message for action in made if isinstance(action, Send)]
    offers = sum(len(message.offers) for message in messages if isinstance(message, m.ResourceOffers))
    if offers != slaves:
        raise RuntimeError(f"{offers} offers for {slaves} slaves")
    return ours, timed(lambda: plain_loop(slaves))


def plain_loop(slaves: int) -> dict[int, int]:
    """A fixed amount of Python: additions and a dictionary."""
    account: dict[int, int] = {}
    for number in range(slaves):
        for step in range(LOOP_ROUNDS):
            account[step] = account.get(step, 0) + number
    return account


def decision(
    slaves: int,
    frameworks: int,
    module: type[Allocator] = DrfAllocator,
    policy: Policy = Policy(),  # noqa: B008 (it is frozen)
    ends: int = 2_000,
) -> float:
    """Microseconds from a task's end to the offer of its resources in a full cluster, with the handling of its status."""
    cluster = Cluster(slaves, frameworks, module, policy)
    placed = cluster.fill(1)[:ends]
    ids = {peer: cluster.core.cluster.peers[peer] for peer, _ in placed}
    events = []
    for peer, offer in placed:
        framework = ids[peer]
        status = TaskStatus(TaskID(f"{offer.slave_id}-0"), TaskState.FINISHED, 1, slave_id=offer.slave_id)
        slave = cluster.core.cluster.slaves[offer.slave_id]
        assert slave.peer is not None
        events.append(Received(slave.peer, m.StatusUpdate(framework.framework_id, status)))  # type: ignore[union-attr]
    core = cluster.core

    def work() -> None:
        for event in events:
            core.handle(event, 0.0)
            core.tick(0.0)

    seconds = timed(work)
    if len(core.cluster.offers) != len(events):
        raise RuntimeError(f"{len(core.cluster.offers)} offers after {len(events)} ends")
    return seconds / len(events) * 1e6


def empty_cycle(slaves: int, frameworks: int, cycles: int = 10_000) -> float:
    """Microseconds of a tick in which nothing has changed."""
    cluster = Cluster(slaves, frameworks)
    cluster.fill(1)
    tick = cluster.core.tick
    return timed(lambda: [tick(0.0) for _ in range(cycles)]) / cycles * 1e6


def memory_mb() -> float:
    """Measured in a process of its own, because this one has held larger things in memory."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, timeout=300)
    return float(json.loads(done.stdout)["mb"])


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


if __name__ == "__main__":
    cluster = Cluster(MEMORY_SLAVES, 200)
    cluster.fill(MEMORY_TASKS // MEMORY_SLAVES)
    assert cluster.core.cluster.tasks_running == MEMORY_TASKS
    gc.collect()
    print(json.dumps({"mb": _resident_bytes() / 1e6}))
