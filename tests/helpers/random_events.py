"""Random events of a master, in random orders; the invariants are checked after each."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms

HEAVY = m.ExecutorInfo(ExecutorID("heavy"), "m", resources=Resources({"cpus": 500}))
LIGHT = m.ExecutorInfo(ExecutorID("default"), "m")
index = st.integers(0, 1 << 16)
rarely = st.sampled_from([False, False, False, True])


POLICY = Policy(
    {
        "gold": Terms(guarantee=Resources.of(cpus=6), limit=Resources.of(cpus=12)),
        "gold/inner": Terms(weight=2.0),
    }
)

OTHER_POLICY = Policy({"*": Terms(guarantee=Resources.of(cpus=2)), "gold": Terms(weight=3.0)})


class World:
    """What a slave would know: its tasks and executors."""

    def __init__(self, peer: SlavePeer) -> None:
        self.peer = peer
        self.tasks: dict[tuple[FrameworkID, TaskID], m.TaskInfo] = {}
        self.executors: set[tuple[FrameworkID, ExecutorID]] = set()
        self.sequence = 0


class RandomEvents(RuleBasedStateMachine):
    more_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ClusterHarness(
            reconnect_grace_s=7.0,
            missing_task_grace_s=3.0,
            max_ended_tasks=20,
            revoke_after_s=0.5,
            revoke_grace_s=1.0,
            **{"policy": POLICY, **self.more_settings},
        )
        self.slaves: list[World] = []
        self.frameworks: list[FrameworkPeer] = []
        self.known: dict[FrameworkID, FrameworkPeer] = {}
        self.offers: dict[bytes, list[m.Offer]] = {}
        self.serial = 0
        self.register_slave(4)
        self.register_framework("*")

    # -- reading what was sent ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """All peers read their messages."""
        for world in self.slaves:
            for message in world.peer.inbox:
                if isinstance(message, m.RunTasks):
                    framework_id = message.framework.framework_id
                    world.executors.add((framework_id, message.executor.executor_id))
                    for info in message.tasks:
                        assert (framework_id, info.task_id) not in world.tasks, "launched twice"
                        world.tasks[framework_id, info.task_id] = info
            world.peer.inbox.clear()
        for framework in self.frameworks:
            offers = self.offers.setdefault(framework.peer, [])
            for message in framework.inbox:
                if isinstance(message, m.ResourceOffers):
                    offers += message.offers
                elif isinstance(message, m.RescindOffer):
                    offers[:] = [offer for offer in offers if offer.offer_id != message.offer_id]
            framework.inbox.clear()

    def pick(self, number: int) -> World:
        return self.slaves[number % len(self.slaves)]

    def some_framework(self, number: int) -> FrameworkPeer:
        return self.frameworks[number % len(self.frameworks)]

    # -- events ---------------------------------------------------------------------------------------------------------

    @rule(cpus=st.integers(1, 8))
    @precondition(lambda self: len(self.slaves) < 5)
    def register_slave(self, cpus: int) -> None:
        peer = self.cluster.slave(f"cpus={cpus},mem={cpus}G,ports=[1-{cpus * 3}],disks={{a,b}}")
        self.slaves.append(World(peer))
        self.settle()

    @rule(role=st.sampled_from(["*", "gold", "gold/inner"]))
    @precondition(lambda self: len(self.frameworks) < 5)
    def register_framework(self, role: str) -> None:
        peer = self.cluster.framework(role=role, executors=[LIGHT, HEAVY], failover_timeout_s=10.0)
        self.frameworks.append(peer)
        self.known[peer.framework_id] = peer
        self.settle()

    @rule(
        which=index,
        size=st.sampled_from(
            ["cpus=0.5,mem=1M", "cpus=1,mem=1G", "cpus=3", "cpus=0.1,ports=[1-2]", "cpus=1,disks={a}"]
        ),
        count=st.integers(1, 4),
        limit_s=st.sampled_from([None, 5.0, 100.0]),
        executor_id=st.sampled_from(["default", "heavy", "heavy", "nobody"]),
        takes=st.sampled_from([1, 1, 1, 2]),
        refuse_seconds=st.sampled_from([0.0, 1.0]),
    )
    def accept(
        self,
        which: int,
        size: str,
        count: int,
        limit_s: float | None,
        executor_id: str,
        takes: int,
        refuse_seconds: float,
    ) -> None:
        if not any(self.offers.get(framework.peer) for framework in self.frameworks):
            self.some_framework(which).send(m.ReviveOffers())
            self.settle()
        with_offers = [framework for framework in self.frameworks if self.offers.get(framework.peer)]
        framework = (with_offers or self.frameworks)[which % len(with_offers or self.frameworks)]
        offers = self.offers.get(framework.peer, [])
        taken, offers[:] = offers[:takes], offers[takes:]
        tasks = []
        for _ in range(count):
            self.serial += 1
            tasks.append(task(f"t{self.serial % 60}", size, time_limit_s=limit_s, executor_id=executor_id))
        framework.accept(*taken, tasks=tasks, refuse_seconds=refuse_seconds)
        self.settle()

    @rule(which=index, refuse_seconds=st.sampled_from([0.0, 0.5, 30.0]))
    def decline(self, which: int, refuse_seconds: float) -> None:
        framework = self.some_framework(which)
        framework.decline(*self.offers.pop(framework.peer, []), refuse_seconds=refuse_seconds)
        self.settle()

    @rule(which=index, choice=index, state=st.sampled_from(list(TaskState)), repeats=st.booleans())
    def report(self, which: int, choice: int, state: TaskState, repeats: bool) -> None:
        world = self.pick(which)
        if not world.tasks:
            return
        framework_id, task_id = list(world.tasks)[choice % len(world.tasks)]
        world.sequence += 1
        status = TaskStatus(task_id, state, world.sequence, slave_id=world.peer.slave_id)
        if state.terminal:
            del world.tasks[framework_id, task_id]
        for _ in range(1 + repeats):
            world.peer.send(m.StatusUpdate(framework_id, status))
        self.settle()

    @rule(which=index, task_number=st.integers(0, 59))
    def report_something_wild(self, which: int, task_number: int) -> None:
        """A status for a task that may be another slave's, or nobody's."""
        world = self.pick(which)
        framework = self.some_framework(task_number)
        if (framework.framework_id, f"t{task_number}") not in world.tasks:
            world.peer.status(framework, f"t{task_number}", TaskState.FINISHED)
        self.settle()

    @rule(which=index, choice=index)
    def executor_exits(self, which: int, choice: int) -> None:
        world = self.pick(which)
        if not world.executors:
            return
        framework_id, executor_id = sorted(world.executors)[choice % len(world.executors)]
        world.executors.discard((framework_id, executor_id))
        world.peer.send(m.ExecutorExited(framework_id, executor_id, ContainerID("c"), 1))
        self.settle()

    @rule(which=index, forgets=st.booleans(), breaks=st.booleans())
    def slave_returns(self, which: int, forgets: bool, breaks: bool) -> None:
        """After a broken connection or not; it may have lost some of its tasks."""
        world = self.pick(which)
        if breaks:
            self.cluster.lose_peer(world.peer)
        if forgets and world.tasks:
            del world.tasks[next(iter(world.tasks))]
        by_id = self.known
        infos = {"default": LIGHT, "heavy": HEAVY}
        world.peer.register(
            [executor(by_id[fid], infos[eid]) for fid, eid in sorted(world.executors)],
            [running(by_id[fid], info) for (fid, _), info in world.tasks.items()],
        )
        self.settle()

    @rule(which=index, is_silent=rarely)
    def slave_is_silent(self, which: int, is_silent: bool) -> None:
        self.pick(which).peer.answers_pings = not is_silent

    @rule(which=index, really=rarely)
    def slave_says_goodbye(self, which: int, really: bool) -> None:
        world = self.pick(which)
        if really and len(self.slaves) > 1:
            self.slaves.remove(world)
            world.peer.send(m.UnregisterSlave())
            self.settle()

    @rule(which=index, draining=rarely)
    def slave_drains(self, which: int, draining: bool) -> None:
        self.pick(which).peer.send(m.SlaveUsage(1, 1, 0, draining))
        self.settle()

    @rule(which=index, is_full=st.booleans())
    def disk_fills_or_has_room_again(self, which: int, is_full: bool) -> None:
        self.pick(which).peer.send(m.SlaveUsage(1, 1, 0, disk_full=is_full))
        self.settle()

    @rule(which=index)
    def scheduler_takes_over(self, which: int) -> None:
        old = self.some_framework(which)
        new = self.cluster.again(old)
        self._replace(old, new)

    @rule(which=index)
    def scheduler_reconnects(self, which: int) -> None:
        old = self.some_framework(which)
        self.cluster.lose_peer(old)
        self._replace(old, self.cluster.again(old))

    def _replace(self, old: FrameworkPeer, new: FrameworkPeer) -> None:
        """A framework that has ended meanwhile cannot come back: another one comes."""
        new.send(m.RegisterFramework(new.info))
        self.frameworks.remove(old)
        if any(isinstance(message, m.FrameworkRegistered) for message in new.inbox):
            self.frameworks.append(new)
        else:
            self.register_framework("gold")
        self.settle()

    @rule(which=index, really=rarely)
    def framework_ends(self, which: int, really: bool) -> None:
        framework = self.some_framework(which)
        if really:
            framework.send(m.TeardownFramework())
            self.frameworks.remove(framework)
            self.register_framework("*")

    @rule(which=index, is_content=rarely, is_picky=rarely)
    def change_wishes(self, which: int, is_content: bool, is_picky: bool) -> None:
        framework = self.some_framework(which)
        framework.send(m.SetNeedsOffers(not is_content))
        wanted = Resources({"cpus": 2000} if is_picky else {})
        framework.send(m.SetFilters(m.Filters(minimum=wanted)))
        framework.send(m.ReviveOffers())
        self.settle()

    @rule(which=index, task_number=st.integers(0, 59))
    def kill_and_reconcile(self, which: int, task_number: int) -> None:
        framework = self.some_framework(which)
        framework.send(m.KillTask(framework.framework_id, TaskID(f"t{task_number}")))
        framework.send(m.ReconcileTasks([TaskID(f"t{task_number}")]))
        framework.send(m.ReconcileTasks([]))
        self.settle()

    @rule(which=index)
    def acknowledge(self, which: int) -> None:
        framework = self.some_framework(which)
        framework.send(m.Acknowledge(framework.framework_id, SlaveID("S-a-0001"), [(TaskID("t1"), 1)]))
        self.settle()

    @rule(policy=st.sampled_from([POLICY, OTHER_POLICY, Policy()]))
    def the_operator_changes_terms(self, policy: Policy) -> None:
        self.cluster.change_terms(policy)

    @rule(seconds=st.sampled_from([0.3, 1.0, 6.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.advance(seconds)
        self.settle()

    @rule(which=index, really=rarely)
    def a_slave_turns_bad(self, which: int, really: bool) -> None:
        if really:
            self.pick(which).peer.send(m.ReviveOffers())
            self.settle()
