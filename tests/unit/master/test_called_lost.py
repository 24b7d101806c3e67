"""What a master has called lost stays lost under the next one: a scheduler's core with two masters in turn."""

from __future__ import annotations

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, executor, running, task
from offerd import messages as m
from offerd.core import called_lost
from offerd.core.scheduler_core import Action, Call, Deliver, SchedulerCore, Send
from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.messages import TaskState, TaskStatus
from offerd.wire import codec
from offerd_master.core import budgets

FINISHED, KILLED, LOST, RUNNING = TaskState.FINISHED, TaskState.KILLED, TaskState.LOST, TaskState.RUNNING
INFO = m.FrameworkInfo("f", FrameworkID("F-9-0001"), executors=[EXECUTOR], failover_timeout_s=1000.0)


class Scheduler:
    """A core that talks to one master, then to another, and launches the given tasks on every offer."""

    def __init__(self, info: m.FrameworkInfo = INFO) -> None:
        self.core = SchedulerCore(info)
        self.statuses: list[TaskStatus] = []
        self.to_launch: list[m.TaskInfo] = []
        self.peer: FrameworkPeer
        self.registration: m.RegisterFramework

    def follow(self, cluster: ClusterHarness) -> None:
        """From now on this master leads."""
        self.peer = cluster.framework(registers=False)
        self.peer.info = self.core.framework
        self.peer.framework_id = self.core.framework.framework_id
        actions = self.core.lose_master(cluster.now)
        self._perform(actions)
        self.turn()

    def turn(self) -> None:
        """Handle messages until no more come."""
        while self.peer.inbox:
            self._perform(self.core.handle(self.peer.inbox.pop(0), self.peer.cluster.now))
            for acknowledgement in self.core.acknowledgements():
                self.peer.send(acknowledgement)

    def ended(self) -> list[tuple[str, TaskState]]:
        return [(status.task_id, status.state) for status in self.statuses if status.state.terminal]

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if isinstance(action.message, m.RegisterFramework):
                    self.registration = action.message
                self.peer.send(action.message)
            elif isinstance(action, Deliver):
                self.statuses.append(action.status)
                self.core.delivered(action.status)
            elif isinstance(action, Call) and action.callback == "resource_offers":
                offer_ids = [offer.offer_id for offer in action.arguments[0]]
                tasks, self.to_launch = self.to_launch, []
                self._perform(self.core.reply_to_offer(offer_ids, tasks, 600.0, self.peer.cluster.now))


def launched(cluster: ClusterHarness, scheduler: Scheduler, *task_ids: str) -> SlavePeer:
    """Tasks that run, each on a slave of its own."""
    scheduler.to_launch = [task(task_id) for task_id in task_ids]
    slave = cluster.slave("cpus=4,mem=4G", hostname="far")
    scheduler.turn()
    slave.take(m.RunTasks)
    for task_id in task_ids:
        slave.status(scheduler.peer, task_id, RUNNING)
    scheduler.turn()
    slave.inbox.clear()
    return slave


def lost_under_the_first_master(*task_ids: str) -> tuple[Scheduler, m.SlaveInfo]:
    """A scheduler that got these as lost, and the slave that was cut off with them, ready to register."""
    first, scheduler = ClusterHarness(), Scheduler()
    scheduler.follow(first)
    far = launched(first, scheduler, *task_ids)
    far.answers_pings = False
    first.advance(31.0)
    scheduler.turn()
    assert scheduler.ended() == [(task_id, LOST) for task_id in task_ids]
    return scheduler, far.info


def returned(cluster: ClusterHarness, scheduler: Scheduler, info: m.SlaveInfo, *tasks: str) -> SlavePeer:
    """The slave registers with this master, and these tasks run on it."""
    slave = cluster.slave(registers=False)
    slave.info = info
    framework = scheduler.peer
    slave.register([executor(framework)], [running(framework, task(name)) for name in tasks])
    return slave


@pytest.mark.parametrize("scheduler_is_first", [True, False])
def test_a_task_that_a_master_called_lost_is_ended_under_the_next_and_not_reported_again(
    scheduler_is_first: bool,
) -> None:
    scheduler, info = lost_under_the_first_master("t1")
    second = ClusterHarness()
    if scheduler_is_first:
        scheduler.follow(second)
    slave = returned(second, scheduler, info, "t1")
    if not scheduler_is_first:
        scheduler.follow(second)
    assert slave.take(m.KillTask).task_id == "t1"
    heard = len(scheduler.statuses)
    for sequence, state in ((1, RUNNING), (2, KILLED)):
        slave.status(scheduler.peer, "t1", state, sequence)
        assert slave.take(m.Acknowledge).updates == [("t1", sequence)]
    scheduler.turn()
    second.advance(60.0)
    assert len(scheduler.statuses) == heard
    assert second.core.cluster.tasks_running == 0
    second.assert_nothing_else_sent()


def test_a_task_called_lost_that_the_next_master_has_adopted_is_waited_for_no_longer() -> None:
    scheduler, info = lost_under_the_first_master("t1")
    second = ClusterHarness()
    framework_info = m.FrameworkInfo(
        "f", INFO.framework_id, executors=[EXECUTOR], unreachable_timeout_s=900.0
    )
    other = second.framework(registers=False)
    other.info = framework_info
    other.register()
    other.send(m.SetNeedsOffers(False))
    slave = returned(second, scheduler, info, "t1")
    slave.answers_pings = False
    second.advance(31.0)
    scheduler.follow(second)
    slave.answers_pings = True
    slave.inbox.clear()
    slave.register([executor(scheduler.peer)], [running(scheduler.peer, task("t1"))])
    assert slave.take(m.KillTask).task_id == "t1"


def test_an_end_that_the_slave_reports_to_the_next_master_is_acknowledged_and_the_task_named_no_more() -> (
    None
):
    scheduler, info = lost_under_the_first_master("t1", "t2")
    second = ClusterHarness()
    scheduler.follow(second)
    assert scheduler.registration.called_lost == ["t1", "t2"]
    slave = second.slave(registers=False)
    slave.info = info
    slave.register([], [running(scheduler.peer, task("t1"), FINISHED)])
    slave.status(scheduler.peer, "t1", FINISHED, 2)
    scheduler.turn()
    assert slave.take(m.Acknowledge).updates == [("t1", 2)]
    assert len(scheduler.ended()) == 2
    scheduler.follow(ClusterHarness())
    assert scheduler.registration.called_lost == ["t2"]


def test_a_task_whose_id_is_used_again_runs_on_although_the_first_was_lost() -> None:
    scheduler, _ = lost_under_the_first_master("t1")
    second = ClusterHarness()
    scheduler.follow(second)
    named = scheduler.registration
    slave = launched(second, scheduler, "t1")
    scheduler.peer.send(named)  # repeated, and late
    scheduler.turn()
    assert slave.inbox == []
    third = ClusterHarness()
    scheduler.follow(third)
    assert scheduler.registration.called_lost == []
    again = returned(third, scheduler, slave.info, "t1")
    assert again.inbox == []
    again.status(scheduler.peer, "t1", FINISHED, 2)
    scheduler.turn()
    assert scheduler.ended() == [("t1", LOST), ("t1", FINISHED)]


def test_tasks_that_no_slave_ever_had_are_not_named() -> None:
    scheduler = Scheduler()
    scheduler.follow(ClusterHarness())
    for number, reason in enumerate(called_lost.NEVER_LAUNCHED):
        status = TaskStatus(TaskID(f"t{number}"), LOST, reason=reason, source="master")
        scheduler.core.handle(m.StatusUpdate(INFO.framework_id, status), 1000.0)
    scheduler.follow(ClusterHarness())
    assert scheduler.registration.called_lost == []


@pytest.mark.parametrize(("id_bytes", "data_bytes"), [(20, 0), (128, 0), (128, 900_000)])
def test_a_registration_names_the_newest_lost_tasks_that_fit_into_its_message(
    id_bytes: int, data_bytes: int
) -> None:
    big = m.ExecutorInfo(EXECUTOR.executor_id, "executor", data=bytes(data_bytes))
    core = SchedulerCore(m.FrameworkInfo("f", executors=[big]))
    for number in range(12_000):
        status = TaskStatus(TaskID(f"{number:0{id_bytes}}"), LOST, reason="SLAVE_LOST", slave_id=SlaveID("S"))
        core.handle(m.StatusUpdate(INFO.framework_id, status), 0.0)
    (said,) = core.lose_master(0.0)
    assert isinstance(said, Send)
    (frame,) = codec.frames([said.message])
    _, (registration,) = codec.to_master.decode(frame)
    assert isinstance(registration, m.RegisterFramework)
    named = [int(task_id) for task_id in registration.called_lost]
    assert named == list(range(12_000 - len(named), 12_000))
    room = codec.MAX_MESSAGE_BYTES - data_bytes - 1_000
    assert len(named) >= min(called_lost.REMEMBER_LOST, room // (id_bytes + 5))
    assert len(named) <= called_lost.REMEMBER_LOST


def test_names_that_are_not_valid_ids_are_skipped() -> None:
    cluster = ClusterHarness()
    peer = cluster.framework(registers=False)
    peer.send(m.RegisterFramework(INFO, called_lost=[TaskID("../x"), TaskID("x" * 200), TaskID("good")]))
    (framework,) = cluster.core.cluster.frameworks.values()
    assert list(framework.called_unknown) == ["good"]


def test_lost_tasks_are_remembered_up_to_a_bound_for_all_frameworks_of_an_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "MAX_REMEMBERED_OF_OWNER", 20)  # of an owner without a name: 100
    cluster = ClusterHarness()
    known = cluster.core.cluster
    peers = [cluster.framework(registers=False) for _ in range(4)]
    for number, peer in enumerate(peers):
        info = msgspec.structs.replace(INFO, framework_id=FrameworkID(f"F-9-{number}"))
        called = [TaskID(f"t{task}") for task in range(40)]
        for _ in range(2):
            peer.send(m.RegisterFramework(info, called_lost=called))
    assert [len(framework.called_unknown) for framework in known.frameworks.values()] == [40, 40, 20, 0]
    peers[0].send(m.TeardownFramework())
    peers[3].send(m.RegisterFramework(info, called_lost=called))
    assert [len(framework.called_unknown) for framework in known.frameworks.values()] == [40, 20, 40]
    for peer in peers[1:]:
        peer.send(m.TeardownFramework())
    assert not known.budgets._remembered
