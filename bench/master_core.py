"""Task life-cycles per second of processor time in the master's core alone: no sockets, no codec, one thread.

A life-cycle is an accept of many tasks, their launch, RUNNING for half of them, FINISHED and its acknowledgement for all, and
the offers of what becomes free. Run it as `python bench/master_core.py`; `--profile` shows where the time goes. The messages
are made before the clock runs, as the codec would have made them.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import resource
import time

from offerd import messages as m
from offerd.ids import ExecutorID, FrameworkID, OfferID, PeerID, SlaveID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.policy import Policy
from offerd_master.core.actions import Send
from offerd_master.core.events import Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import MasterSettings

TARGET_PER_S = 40_000
EXECUTOR = m.ExecutorInfo(ExecutorID("bench"), module="bench")


class Bench:
    """A core with slaves, and frameworks that accept every offer and finish every task."""

    def __init__(self, slaves: int, frameworks: int, slots: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.slots = slots
        self.core = MasterCore(MasterSettings(batch_window_s=0.0), "M", 1, DrfAllocator(Policy()))
        self.now = 0.0
        self.core_s = 0.0
        self.actions = 0
        self.launched: dict[
            tuple[PeerID, FrameworkID], list[tuple[PeerID, FrameworkID, SlaveID, TaskID]]
        ] = {}
        self.offers: list[tuple[PeerID, m.Offer]] = []
        self.framework_ids: dict[PeerID, FrameworkID] = {}
        self.slave_ids: dict[PeerID, SlaveID] = {}
        self.serial = 0
        for number in range(slaves):
            info = m.SlaveInfo(f"host{number}", Resources.of(cpus=slots / 50, mem=slots << 24))
            self.feed([Received(PeerID(b"s%d" % number), m.RegisterSlave(info))])
        for number in range(frameworks):
            framework = m.FrameworkInfo(f"framework{number}", executors=[EXECUTOR])
            self.feed([Received(PeerID(b"f%d" % number), m.RegisterFramework(framework))])

    def feed(self, events: list[Received]) -> None:
        """One turn of a daemon's loop, measured."""
        core, now = self.core, self.now
        actions: list[object] = []
        start = time.process_time()
        for event in events:
            actions += core.handle(event, now)
        actions += core.tick(now)
        self.core_s += time.process_time() - start
        self.now += 0.001
        self.actions += len(actions)
        for action in actions:
            if isinstance(action, Send):
                self._sent(action.peer, action.message)

    def _sent(self, peer: PeerID, message: m.Message) -> None:
        if isinstance(message, m.ResourceOffers):
            self.offers += [(peer, offer) for offer in message.offers]
        elif isinstance(message, m.RunTasks):
            framework_id = message.framework.framework_id
            tasks = [(peer, framework_id, self.slave_ids[peer], task.task_id) for task in message.tasks]
            self.launched.setdefault((peer, framework_id), []).extend(tasks)
        elif isinstance(message, m.FrameworkRegistered):
            self.framework_ids[peer] = message.framework_id
        elif isinstance(message, m.SlaveRegistered):
            self.slave_ids[peer] = message.slave_id

    def accept_all(self) -> int:
        """Fill every offer with tasks; returns their number."""
        events = []
        count = 0
        for peer, offer in self.offers:
            tasks = []
            for _ in range(offer.resources.millicpus // 20):
                self.serial += 1
                tasks.append(
                    m.TaskInfo(
                        TaskID(f"task-{self.serial}"),
                        Resources({"cpus": 20, "mem": 16 << 20}),
                        EXECUTOR.executor_id,
                        data=b"call",
                        time_limit_s=5.0,
                    )
                )
            count += len(tasks)
            events.append(Received(peer, m.AcceptOffers([OfferID(offer.offer_id)], tasks)))
        self.offers = []
        self.feed(events)
        return count

    def finish_all(self) -> None:
        """RUNNING for half, FINISHED for all, in one batch per slave; then one batch of acknowledgements per slave."""
        tasks = [task for batch in self.launched.values() for task in batch]
        peers = {framework_id: peer for peer, framework_id in self.framework_ids.items()}
        acknowledged = [
            Received(peers[fid], m.Acknowledge(fid, self.slave_ids[peer], [(t[3], 2) for t in batch]))
            for (peer, fid), batch in self.launched.items()
        ]
        self.launched = {}
        events = []
        for peer, framework_id, slave_id, task_id in tasks:
            if self.random.random() < 0.5:
                status = TaskStatus(task_id, TaskState.RUNNING, 1, slave_id=slave_id)
                events.append(Received(peer, m.StatusUpdate(framework_id, status)))
        for peer, framework_id, slave_id, task_id in tasks:
            status = TaskStatus(task_id, TaskState.FINISHED, 2, slave_id=slave_id, data=b"result")
            events.append(Received(peer, m.StatusUpdate(framework_id, status)))
        for start in range(0, len(events), 500):
            self.feed(events[start : start + 500])
        self.feed(acknowledged)

    def run(self, tasks: int) -> float:
        """Life-cycles per second of the core's own time."""
        self.core_s = 0.0
        done = 0
        while done < tasks:
            done += self.accept_all()
            self.finish_all()
        return done / self.core_s


def resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--slaves", type=int, default=2)
    parser.add_argument("--frameworks", type=int, default=1)
    parser.add_argument("--slots", type=int, default=100, help="tasks of 0.02 cpu on each slave")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    bench = Bench(options.slaves, options.frameworks, options.slots, options.seed)
    bench.run(2_000)
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(bench.run, options.tasks)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    rate = bench.run(options.tasks)
    print(
        f"master core: {rate:,.0f} task life-cycles/s ({1e6 / rate:.1f} us each; target {TARGET_PER_S:,}) "
        f"with {options.slaves} slaves, {options.frameworks} frameworks, {options.slots} slots; "
        f"largest resident size {resident_bytes() >> 20} MiB"
    )


if __name__ == "__main__":
    main()
