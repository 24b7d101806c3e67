"""Users that change, and rights that are taken away: what runs by them ends at once, wherever it runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import ContainerID, FrameworkID
from offerd.messages import Reason, TaskState
from offerd.protocol import files_messages as fm
from offerd_master.core.events import AuthorizedRead
from offerd_master.core.registry import Registry
from offerd_master.principals import Principal

HOST = Principal(name="host", slave=True)
MALLORY = Principal(name="mallory", roles=("*", "science"), users=("nobody", "root"))
NO_ROOT = Principal(name="mallory", roles=("*", "science"), users=("nobody",))
NO_ROLE = Principal(name="mallory", roles=("science",), users=("nobody", "root"))
ALL = "cpus=4,mem=4G"
ALICE = Principal(name="alice", roles=("*",), users=("alice",))


class KeyedCluster(ClusterHarness):
    """All peers have keys; `authorize` changes what each may do."""

    def __init__(self, *who: Principal, **settings: Any) -> None:
        super().__init__(registry=Registry(), **settings)
        self.authorize(*(who or (HOST, MALLORY, ALICE)))

    def authorize(self, *who: Principal) -> None:
        by_key = {f"key of {principal.name}": principal for principal in who}
        for peer in self.peers.values():
            if peer.principal is not None:
                peer.principal = next(
                    (each for each in who if each.name == peer.principal.name), peer.principal
                )
        self.turn(AuthorizedRead(by_key))
        self.refused_files: set[str] = set()
        for peer in self.peers.values():
            refusals = [message for message in peer.inbox if isinstance(message, fm.RefuseOwners)]
            peer.inbox = [message for message in peer.inbox if message not in refusals]
            self.refused_files |= {name for message in refusals for name in message.numbers}

    def slave_of(self, who: Principal = HOST, **info: Any) -> SlavePeer:
        peer = self.slave(registers=False, **info)
        peer.principal = who
        peer.register()
        return peer

    def framework_of(self, who: Principal = MALLORY, **info: Any) -> FrameworkPeer:
        peer = self.framework(registers=False, **info)
        peer.principal = who
        peer.register()
        return peer

    def returns(self, old: FrameworkPeer, **changes: Any) -> FrameworkPeer:
        """The next scheduler of a framework, not registered yet."""
        peer = self.again(old)
        peer.principal = old.principal
        peer.info = msgspec.structs.replace(old.info, framework_id=old.framework_id, **changes)
        return peer


def running_as(user: str, cluster: KeyedCluster) -> tuple[SlavePeer, FrameworkPeer]:
    """Mallory's framework, with a task that runs as this user."""
    slave = cluster.slave_of()
    framework = cluster.framework_of(user=user, failover_timeout_s=600.0)
    framework.accept(framework.offer(), tasks=[task("t", ALL)])
    assert slave.take(m.RunTasks).framework.user == user
    return slave, framework


def executor_of(framework: FrameworkPeer, user: str, role: str = "*") -> m.RunningExecutor:
    info = m.FrameworkInfo("f", framework.framework_id, user, role)
    return m.RunningExecutor(info, EXECUTOR.executor_id, ContainerID("c"))


# -- a user that changes ------------------------------------------------------------------------------------------------


def test_a_registration_that_changes_the_user_ends_what_runs_as_the_old_one_before_anything_else_is_launched() -> (
    None
):
    cluster = KeyedCluster()
    slave, framework = running_as("root", cluster)
    again = cluster.returns(framework, user="nobody")
    again.register()
    assert slave.take(m.ShutdownFramework) == m.ShutdownFramework(
        framework.framework_id, 5.0, "root", Reason.USER_CHANGED
    )
    slave.status(framework, "t", TaskState.KILLED)
    again.take(m.StatusUpdate)
    again.accept(again.offer(), tasks=[task("new")])
    assert slave.take(m.RunTasks).framework.user == "nobody"


def test_a_registration_of_the_same_user_ends_nothing() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("root", cluster)
    cluster.returns(framework).register()
    cluster.assert_nothing_sent_to(slave)


def test_a_slave_that_was_away_while_the_user_changed_gets_the_order_when_it_is_back() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("root", cluster)
    cluster.lose_peer(slave)
    cluster.returns(framework, user="nobody").register()
    slave.register([executor_of(framework, "root")])
    assert slave.take(m.ShutdownFramework).user == "root"


def test_a_framework_without_a_user_runs_as_the_slaves_and_naming_that_one_changes_nothing() -> None:
    cluster = KeyedCluster(HOST, Principal(name="mallory", roles=("*",), users=("", "nobody")))
    slave = cluster.slave_of(default_user="nobody")
    framework = cluster.framework_of(Principal(name="mallory", roles=("*",), users=("", "nobody")))
    framework.accept(framework.offer(), tasks=[task("t")])
    assert slave.take(m.RunTasks).framework.user == ""
    cluster.returns(framework, user="nobody").register()
    slave.register([executor_of(framework, "nobody")])
    cluster.assert_nothing_sent_to(slave)


# -- rights taken away --------------------------------------------------------------------------------------------------


def test_a_user_taken_away_ends_the_executors_of_that_user_at_once_and_their_scheduler() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("root", cluster)
    cluster.authorize(HOST, NO_ROOT, ALICE)
    assert slave.take(m.ShutdownFramework) == m.ShutdownFramework(
        framework.framework_id, 5.0, "root", Reason.NOT_AUTHORIZED
    )
    assert framework.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED
    # With another user the framework may go on.
    slave.status(framework, "t", TaskState.KILLED)
    again = cluster.returns(framework, user="nobody")
    again.register()
    slave.take(m.ShutdownFramework)  # repeated, as its end was not reported
    again.accept(again.offer(), tasks=[task("new")])
    assert slave.take(m.RunTasks).framework.user == "nobody"


def test_an_unchanged_user_loses_nothing() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("nobody", cluster)
    cluster.authorize(HOST, NO_ROOT, ALICE)
    cluster.assert_nothing_sent_to(slave)
    cluster.assert_nothing_sent_to(framework)


def test_a_role_taken_away_ends_what_runs_in_it() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("nobody", cluster)
    cluster.authorize(HOST, NO_ROLE, ALICE)
    assert slave.take(m.ShutdownFramework).reason == Reason.NOT_AUTHORIZED
    assert "role *" in framework.take(m.FrameworkRefused).message


@pytest.mark.parametrize("is_there", [True, False])
def test_a_key_taken_away_ends_the_framework_with_or_without_a_scheduler(is_there: bool) -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("nobody", cluster)
    if not is_there:
        cluster.lose_peer(framework)
    cluster.authorize(HOST, ALICE)
    assert slave.take(m.ShutdownFramework) == m.ShutdownFramework(framework.framework_id, 5.0)
    if is_there:
        assert framework.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED
    slave.status(framework, "t", TaskState.KILLED)
    slave.send(m.ExecutorExited(framework.framework_id, EXECUTOR.executor_id, ContainerID("c")))
    assert not cluster.core.cluster.frameworks


def test_a_lost_key_or_lost_operator_rights_end_access_to_the_slaves_files() -> None:
    ops = Principal(name="ops", operator=True)
    cluster = KeyedCluster(HOST, MALLORY, ALICE, ops)
    cluster.slave_of()
    cluster.authorize(HOST, NO_ROOT, ALICE, Principal(name="ops", roles=("*",), users=("ops",)))
    assert cluster.refused_files == {"ops"}
    cluster.authorize(HOST, ALICE)
    assert cluster.refused_files == {"mallory", "ops"}


def test_the_tasks_of_others_run_on_when_a_key_is_taken_away() -> None:
    cluster = KeyedCluster()
    slave, mallory = running_as("nobody", cluster)
    other, alice = cluster.slave_of(), cluster.framework_of(ALICE)
    mallory.decline(mallory.offer(), refuse_seconds=60.0)
    alice.accept(alice.offer(), tasks=[task("alices", ALL)])
    assert other.take(m.RunTasks).framework.user == "alice"
    cluster.authorize(HOST, ALICE)
    slave.take(m.ShutdownFramework)
    mallory.take(m.FrameworkRefused)
    assert [each.task_id for each in cluster.core.cluster.frameworks[alice.framework_id].tasks.values()] == [
        "alices"
    ]
    cluster.assert_nothing_else_sent()


def test_a_new_master_ends_what_a_slave_brings_of_a_framework_whose_key_or_user_is_gone() -> None:
    cluster = KeyedCluster(HOST, NO_ROOT)
    slave = cluster.slave(registers=False)
    slave.principal = HOST
    slave.info = msgspec.structs.replace(slave.info, slave_id="S-7-0001@host")
    mallory, alice = (cluster.framework(registers=False) for _ in range(2))
    mallory.framework_id, alice.framework_id = FrameworkID("F-7-0001@mallory"), FrameworkID("F-7-0002@alice")
    slave.register([executor_of(mallory, "root"), executor_of(alice, "alice")])
    orders = {(order.framework_id, order.user) for order in slave.take_all(m.ShutdownFramework)}
    assert orders == {(mallory.framework_id, "root"), (alice.framework_id, "alice")}


def test_one_slaves_lie_about_role_and_user_costs_nothing_on_another() -> None:
    cluster = KeyedCluster(HOST, NO_ROOT)
    liar, honest = (cluster.slave(registers=False) for _ in range(2))
    framework = cluster.framework(registers=False)
    framework.framework_id = FrameworkID("F-7-0001@mallory")
    for number, peer in enumerate((liar, honest)):
        peer.principal = HOST
        peer.info = msgspec.structs.replace(peer.info, slave_id=f"S-7-000{number}@host")
    liar.register([executor_of(framework, "root", "prod")])
    liar.take(m.ShutdownFramework)
    honest.register([executor_of(framework, "nobody")])
    cluster.assert_nothing_sent_to(honest)


def test_a_slave_whose_key_is_taken_away_ends_what_it_runs_and_is_lost() -> None:
    cluster = KeyedCluster()
    slave, framework = running_as("nobody", cluster)
    cluster.authorize(MALLORY, ALICE)
    assert slave.take(m.ShutdownFramework).reason == Reason.NOT_AUTHORIZED
    assert slave.take(m.SlaveRefused).reason == Reason.KEY_REVOKED
    assert framework.take(m.StatusUpdate).status.state is TaskState.LOST
    assert not cluster.core.cluster.slaves


def test_a_refused_registration_of_a_framework_does_not_touch_what_it_may_have() -> None:
    cluster = KeyedCluster(HOST, NO_ROOT)
    slave = cluster.slave_of()
    framework = cluster.framework_of(NO_ROOT, user="nobody", failover_timeout_s=60.0)
    framework.accept(framework.offer(), tasks=[task("t", ALL)])
    slave.take(m.RunTasks)
    greedy = cluster.returns(framework, user="root")
    greedy.send(m.RegisterFramework(greedy.info))
    assert "user root" in greedy.take(m.FrameworkRefused).message
    cluster.assert_nothing_sent_to(slave)
    cluster.assert_nothing_sent_to(framework)
