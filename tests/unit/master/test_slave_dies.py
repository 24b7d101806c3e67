"""The table of docs/fault-tolerance.md, "When a slave dies": the schedulers' callbacks in each case, in their order.

Two frameworks have a task each on one slave: `default`, and `patient`, which waits for lost slaves. The slave's half of each
case is in tests/unit/slave/test_slave_recovery.py.
"""

from __future__ import annotations

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, executor, running, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.messages import Reason, TaskState

PATIENCE_S = 60.0
NOT_YET_LOST_S, LOST_S = 24.0, 31.0
LOST, KILLED, RUNNING = TaskState.LOST, TaskState.KILLED, TaskState.RUNNING


class Story:
    """A slave on which both frameworks have a task; `default` has an offer of the rest."""

    def __init__(self) -> None:
        self.cluster = ClusterHarness()
        self.slave = self.cluster.slave("cpus=3,mem=3G")
        self.default = self.cluster.framework("default")
        self.patient = self.cluster.framework("patient", unreachable_timeout_s=PATIENCE_S)
        self.default.accept(self.default.offer(), tasks=[task("d")])
        self.patient.accept(self.patient.offer(), tasks=[task("p")])
        self.patient.send(m.SetNeedsOffers(False))
        self.default.send(m.ReviveOffers())
        self.frameworks = {"d": self.default, "p": self.patient}
        for name, framework in self.frameworks.items():
            self.slave.status(framework, name, RUNNING)
        assert [offer.framework for offer in self.cluster.core.cluster.offers.values()] == [
            self.cluster.core.cluster.frameworks[self.default.framework_id]
        ]
        self.heard()
        self.killed()

    def heard(self) -> tuple[list[str], list[str]]:
        """Callbacks of both schedulers since the last call, without offers."""
        return callbacks(self.default), callbacks(self.patient)

    def killed(self) -> list[str]:
        """Tasks that the slave got orders to kill since the last call."""
        kills = [message.task_id for message in self.slave.inbox if isinstance(message, m.KillTask)]
        self.slave.inbox.clear()
        return sorted(kills)

    def silent(self, seconds: float) -> None:
        """The slave's host or network is frozen: the connection stands."""
        self.slave.answers_pings = False
        self.cluster.advance(seconds)

    def come_back(self, **states: TaskState) -> None:
        """The slave registers over a new connection, and names these tasks."""
        again = self.cluster.slave(registers=False)
        again.info, again.slave_id = self.slave.info, self.slave.slave_id
        self.slave = again
        tasks = [running(self.frameworks[name], task(name), state) for name, state in states.items()]
        executors = [executor(framework) for framework in self.frameworks.values()]
        again.send(m.RegisterSlave(again.info, executors, tasks))

    def end(self, name: str, state: TaskState, reason: Reason) -> None:
        """The slave reports how this task ended."""
        self.slave.status(self.frameworks[name], name, state, 2, reason=reason)


def callbacks(framework: FrameworkPeer) -> list[str]:
    said = []
    for message in framework.inbox:
        if isinstance(message, m.StatusUpdate):
            said.append(f"{message.status.state.value} {message.status.reason}".rstrip())
        elif isinstance(message, m.RescindOffer):
            said.append("offer_rescinded")
        elif isinstance(message, m.SlaveLost):
            said.append("slave_lost")
        else:
            assert isinstance(message, m.ResourceOffers), message
    framework.inbox.clear()
    return said


def lost() -> Story:
    """A slave that was silent for too long."""
    story = Story()
    story.silent(LOST_S)
    assert story.heard() == (
        ["offer_rescinded", "TASK_LOST SLAVE_LOST", "slave_lost"],
        ["TASK_UNREACHABLE SLAVE_LOST", "slave_lost"],
    )
    return story


def test_silent_for_a_short_time_over_a_connection_that_stands() -> None:
    story = Story()
    story.silent(NOT_YET_LOST_S)
    story.slave.answers_pings = True
    story.cluster.advance(5.5)
    assert (story.heard(), story.killed()) == (([], []), [])
    assert story.slave.slave_id in story.cluster.core.cluster.slaves


def test_silent_for_a_short_time_and_connected_anew() -> None:
    story = Story()
    story.cluster.lose_peer(story.slave)
    assert story.heard() == (["offer_rescinded"], [])
    story.cluster.advance(NOT_YET_LOST_S)
    story.come_back(d=RUNNING, p=RUNNING)
    story.cluster.advance(29.0)
    assert (story.heard(), story.killed()) == (([], []), [])
    assert story.slave.slave_id in story.cluster.core.cluster.slaves


def test_lost_and_back_in_time() -> None:
    story = lost()
    story.cluster.advance(PATIENCE_S / 2)
    story.come_back(d=RUNNING, p=RUNNING)
    assert (story.heard(), story.killed()) == (([], ["TASK_RUNNING SLAVE_RETURNED"]), ["d"])
    story.end("d", KILLED, Reason.KILLED_BY_FRAMEWORK)
    assert story.heard() == ([], []), "it was lost for its scheduler, and stays so"
    assert not story.default.inbox


def test_lost_and_back_too_late() -> None:
    story = lost()
    story.cluster.advance(PATIENCE_S + 1)
    assert story.heard() == ([], ["TASK_LOST SLAVE_LOST"])
    story.come_back(d=RUNNING, p=RUNNING)
    assert (story.heard(), story.killed()) == (([], []), ["d", "p"])


def test_lost_and_back_with_tasks_that_have_ended_meanwhile() -> None:
    story = lost()
    story.come_back(d=TaskState.FINISHED, p=TaskState.FINISHED)
    story.end("d", TaskState.FINISHED, Reason.COMMAND_EXITED)
    story.end("p", TaskState.FINISHED, Reason.COMMAND_EXITED)
    assert (story.heard(), story.killed()) == (([], ["TASK_FINISHED COMMAND_EXITED"]), [])


def test_gone_for_good_by_unregistering() -> None:
    story = Story()
    story.slave.send(m.UnregisterSlave())
    assert story.heard() == (
        ["offer_rescinded", "TASK_LOST SLAVE_LOST", "slave_lost"],
        ["TASK_LOST SLAVE_LOST", "slave_lost"],
    )


def test_killed_and_started_again() -> None:
    """Its tasks have gone on; the task that it does not know was still on its way to it."""
    story = Story()
    story.cluster.lose_peer(story.slave)
    assert story.heard() == (["offer_rescinded"], [])
    story.come_back(p=RUNNING)
    assert (story.heard(), story.killed()) == (([], []), [])
    story.cluster.advance(11.0)
    assert (story.heard(), story.killed()) == ((["TASK_LOST SLAVE_RESTARTED"], []), [])


@pytest.mark.parametrize("is_lost", [False, True])
def test_started_again_with_its_host(is_lost: bool) -> None:
    story = lost() if is_lost else Story()
    if not is_lost:
        story.cluster.lose_peer(story.slave)
        assert story.heard() == (["offer_rescinded"], [])
    story.come_back(d=LOST, p=LOST)
    story.end("d", LOST, Reason.HOST_REBOOTED)
    story.end("p", LOST, Reason.HOST_REBOOTED)
    default = [] if is_lost else ["TASK_LOST HOST_REBOOTED"]
    assert (story.heard(), story.killed()) == ((default, ["TASK_LOST HOST_REBOOTED"]), [])


@pytest.mark.parametrize("mode", ["deactivated", "draining"])
def test_drained_or_deactivated_and_activated_again(mode: str) -> None:
    story = Story()
    operator = story.cluster.operator()
    operator.send(om.ChangeSlaveMode(story.slave.slave_id, mode))
    assert operator.take(om.Done).ok
    assert story.heard() == (["offer_rescinded"], [])
    if mode == "draining":  # after its deadline
        story.end("d", KILLED, Reason.SLAVE_DRAINING)
        assert story.heard() == (["TASK_KILLED SLAVE_DRAINING"], [])
    assert not story.default.inbox
    operator.send(om.ChangeSlaveMode(story.slave.slave_id, "active"))
    assert operator.take(om.Done).ok
    assert story.default.take(m.ResourceOffers).offers
