"""A caller that is not an operator sees, finds and ends only its own, and learns nothing of what others have."""

from __future__ import annotations

from typing import TypeVar

import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, Peer, SlavePeer, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd.wire import codec
from offerd_master.principals import Principal

HOST = Principal(name="host", slave=True)
ALICE = Principal(name="alice", roles=("*",), users=("alice",))
BOB = Principal(name="bob", roles=("*",), users=("bob",))
OPS = Principal(name="ops", operator=True)
A = TypeVar("A", bound=m.Message)


class World:
    """Alice and bob have a framework each, with a task `t`; bob's has also ended a task called `secret`."""

    def __init__(self) -> None:
        self.cluster = ClusterHarness()
        self.slave = self._slave()
        self.alice = self._framework(ALICE, "alices")
        self.bob = self._framework(BOB, "bobs-secret-name", "secret")
        self.slave.status(self.bob, "secret", TaskState.FAILED)

    def _slave(self) -> SlavePeer:
        slave = self.cluster.slave("cpus=40,mem=40G", registers=False)
        slave.principal = HOST
        slave.register()
        return slave

    def _framework(self, who: Principal, name: str, *more: str) -> FrameworkPeer:
        framework = self.join(who, name)
        framework.accept(framework.offer(), tasks=[task(each) for each in ("t", *more)], refuse_seconds=600.0)
        self.slave.inbox.clear()
        return framework

    def join(self, who: Principal, name: str) -> FrameworkPeer:
        """A framework without tasks."""
        framework = self.cluster.framework(name, registers=False, failover_timeout_s=600.0)
        framework.principal = who
        framework.register()
        return framework

    def ask(self, who: Principal | None, question: m.Message, kind: type[A]) -> A:
        peer: Peer = self.cluster.operator()
        peer.principal = who
        peer.send(question)
        return peer.take(kind)


ANSWERED: list[tuple[m.Message, type[m.Message]]] = [
    (om.GetFrameworks(ended=True), om.Frameworks),
    (om.GetTasks(), om.Tasks),
    (om.GetTasks(task_id=TaskID("secret")), om.Tasks),
    (om.GetTasks(task_id=TaskID("t")), om.Tasks),
    (om.ExplainFramework("bobs-secret-name"), om.Explanation),
    (om.KillAnyTask(TaskID("secret")), om.Done),
    (om.EndFramework("bobs-secret-name"), om.Done),
    (om.GetCluster(), om.Cluster),
    (om.ExplainFramework("alices"), om.Explanation),
]


@pytest.mark.parametrize(("question", "kind"), ANSWERED)
def test_no_answer_holds_more_of_anothers_framework_than_the_question(
    question: m.Message, kind: type[m.Message]
) -> None:
    world = World()
    answer = codec.encode_message(world.ask(ALICE, question, kind))
    asked = codec.encode_message(question)
    for secret in (b"bobs-secret-name", b"secret", world.bob.framework_id.encode()):
        assert secret in asked or secret not in answer


def test_names_of_holders_are_hidden_from_those_who_may_not_see_them() -> None:
    world = World()
    asked = om.ExplainWaiting(world.alice.framework_id, Resources.parse("cpus=39,mem=1M"), 5.0)
    answer = world.ask(ALICE, asked, om.Waiting)
    assert {(each.kind, each.name) for each in answer.holders} == {("this", "alices"), ("hidden", "")}
    assert " by others" in answer.message
    assert b"secret" not in codec.encode_message(answer)
    assert ("framework", "bobs-secret-name") in {
        (each.kind, each.name) for each in world.ask(OPS, asked, om.Waiting).holders
    }


def test_listings_show_ones_own_and_say_so_and_operators_see_all() -> None:
    world = World()
    mine = world.ask(ALICE, om.GetFrameworks(), om.Frameworks)
    assert ([each.framework_id for each in mine.frameworks], mine.owner) == (
        [world.alice.framework_id],
        "alice",
    )
    tasks = world.ask(ALICE, om.GetTasks(), om.Tasks)
    assert ([each.framework_id for each in tasks.tasks], tasks.owner) == ([world.alice.framework_id], "alice")
    for who in (OPS, None):
        assert len(world.ask(who, om.GetFrameworks(), om.Frameworks).frameworks) == 2
        every = world.ask(who, om.GetTasks(), om.Tasks)
        assert (len(every.tasks), every.owner) == (3, "")


def test_pages_of_ones_own_are_whole_though_others_stand_between() -> None:
    world = World()
    for name in ("a", "b"):
        world.join(ALICE, name)
    first = world.ask(ALICE, om.GetFrameworks(limit=2), om.Frameworks)
    after = first.frameworks[-1].framework_id
    second = world.ask(ALICE, om.GetFrameworks(after=after, limit=2), om.Frameworks)
    assert [each.name for each in (*first.frameworks, *second.frameworks)] == ["alices", "a", "b"]
    assert (first.more, second.more) == (True, False)


def test_a_kill_by_id_finds_ones_own_task_though_others_have_one_of_the_id() -> None:
    world = World()
    assert world.ask(ALICE, om.KillAnyTask(TaskID("t")), om.Done).ok
    assert world.slave.take(m.KillTask).framework_id == world.alice.framework_id
    assert "several frameworks" in world.ask(OPS, om.KillAnyTask(TaskID("t")), om.Done).message
    world.cluster.assert_nothing_sent_to(world.slave)


@pytest.mark.parametrize(
    "question", [om.KillAnyTask(TaskID("t")), om.ExplainWaiting(FrameworkID("x"), Resources())]
)
def test_naming_anothers_framework_is_refused_and_ends_nothing(question: m.Message) -> None:
    world = World()
    named = type(question)
    asked = (
        om.KillAnyTask(TaskID("t"), world.bob.framework_id)
        if named is om.KillAnyTask
        else om.ExplainWaiting(world.bob.framework_id, Resources())
    )
    world.ask(ALICE, asked, om.NotAuthorized)
    world.cluster.assert_nothing_sent_to(world.slave)


# -- the end of a framework ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("who", [OPS, BOB])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_framework_is_ended_by_hand_with_all_that_runs_of_it(
    who: Principal, by_name: bool, is_there: bool
) -> None:
    world = World()
    if not is_there:
        world.cluster.lose_peer(world.bob)
    world.bob.inbox.clear()
    named = "bobs-secret-name" if by_name else world.bob.framework_id
    assert world.ask(who, om.EndFramework(named), om.Done).ok
    assert world.slave.take(m.ShutdownFramework) == m.ShutdownFramework(world.bob.framework_id, 5.0)
    if is_there:
        assert world.bob.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_REMOVED
    assert f"by {who.name}" in next(log.text for log in world.cluster.logs if "by hand" in log.text)
    # Repeated, in case the slave did not get the order.
    assert world.ask(who, om.EndFramework(world.bob.framework_id), om.Done).ok
    world.slave.take(m.ShutdownFramework)
    world.slave.status(world.bob, "t", TaskState.KILLED)
    world.slave.send(m.ExecutorExited(world.bob.framework_id, EXECUTOR.executor_id, ContainerID("c")))
    assert not world.ask(who, om.EndFramework(named), om.Done).ok
    assert list(world.cluster.core.cluster.frameworks) == [world.alice.framework_id]


def test_schedulers_that_stand_by_end_with_their_framework() -> None:
    world = World()
    standby = world.cluster.again(world.bob)
    standby.principal = BOB
    standby.send(m.RegisterFramework(standby.info, stands_by=True, scheduler_id="second"))
    standby.take(m.FrameworkStandsBy)
    assert world.ask(OPS, om.EndFramework(world.bob.framework_id), om.Done).ok
    assert standby.take(m.FrameworkRefused).reason == Reason.FRAMEWORK_REMOVED


def test_a_name_of_several_frameworks_ends_none_of_them() -> None:
    world = World()
    world.join(BOB, "bobs-secret-name")
    done = world.ask(OPS, om.EndFramework("bobs-secret-name"), om.Done)
    assert not done.ok
    assert world.bob.framework_id in done.message


# -- as whom ------------------------------------------------------------------------------------------------------------


def test_listings_show_the_user_as_which_tasks_really_run() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(default_user="nobody")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t")])
    slave.take(m.RunTasks)
    operator = cluster.operator()
    operator.send(om.GetTasks())
    assert [each.user for each in operator.take(om.Tasks).tasks] == ["nobody"]
    operator.send(om.GetFrameworks())
    assert [each.user for each in operator.take(om.Frameworks).frameworks] == ["nobody"]
