"""What is kept of a master's answers: ends with names, changes of slaves and frameworks, and samples in their time."""

from __future__ import annotations

from typing import Any

from helpers.past_tasks import ANN, BOB, NOON, ended
from offerd.ids import ContainerID, ExecutorID, OfferID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo
from offerd.protocol.change_messages import Changes, FrameworkNow, MasterNow, OfferNow, SlaveNow, TaskNow
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.core.view import ClusterView
from offerd_web.history import batch_maker
from offerd_web.history.batch import Batch, FrameworkNames, ShareSample, UtilizationSample
from offerd_web.history.batch_maker import BatchMaker

S = SlaveID("S-1")
FOUR = Resources.of(cpus=4, mem="4G")
INFOS: dict[str, Any] = {
    "slave_infos": [SlaveInfo("alpha", FOUR, slave_id=S)],
    "framework_infos": [
        FrameworkInfo("words", framework_id=ANN, role="science", user="ann", hostname="desk"),
        FrameworkInfo("render", framework_id=BOB),
    ],
}


class Gateway:
    """A view and a maker, on a wall clock that is `NOON` ahead of the master's."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.maker = BatchMaker()

    def take(self, now: float, master_id: str = "M-1", **parts: Any) -> Batch:
        number = len(parts.get("ended", ()))
        changes = Changes(f"{master_id}/1", 1, number, now, MasterNow(master_id, "0", "drf", 0.0), **parts)
        self.view.apply(changes, NOON + now)
        return self.maker.batch(self.view, changes)


def slave(state: str = "active", since: float = 1.0, **parts: Any) -> SlaveNow:
    return SlaveNow(S, state, since, **{"is_connected": True, "free": FOUR, **parts})


def framework(framework_id: Any = ANN, state: str = "active", **parts: Any) -> FrameworkNow:
    return FrameworkNow(framework_id, state, 2.0, **parts)


def running(task_id: str = "t") -> TaskNow:
    return TaskNow(
        TaskID(task_id), ANN, S, ExecutorID("e"), TaskState.RUNNING, "", Resources.of(cpus=1, mem="1G"), None, True, 3.0,
        3.0, ContainerID(""), True, False,
    )  # fmt: skip


def following(**parts: Any) -> Gateway:
    """A gateway that has had a first answer."""
    gateway = Gateway()
    gateway.take(3.0, is_reset=True, slaves=[slave()], frameworks=[framework()], **INFOS, **parts)
    return gateway


def events(made: Batch) -> list[tuple[float, str]]:
    return [(change.at - NOON, change.event) for change in made.slave_changes]


def test_ends_come_with_the_names_of_what_they_belong_to() -> None:
    tasks = [ended("t", 3.0, 1.0), ended("u", 3.0, 1.0)]
    made = following().take(5.0, ended=tasks)
    assert (made.ended, made.clock_offset_s, made.at) == (tuple(tasks), NOON, NOON + 5)
    assert (made.names, made.hostnames) == ({ANN: FrameworkNames("words", "science")}, {S: "alpha"})
    assert (made.master_id, made.origin, made.ended_after) == ("M-1", "M-1/1", 2)


def test_the_ends_of_a_first_answer_wait_for_the_names() -> None:
    gateway = Gateway()
    first = gateway.take(3.0, is_reset=True, has_more=True, ended=[ended("t", 1.0, 1.0)], ended_missed=4)
    assert first.is_empty
    assert first.origin == ""  # else a gateway that ends now would never hear of it again
    made = gateway.take(3.1, slaves=[slave()], frameworks=[framework()], **INFOS)
    assert [task.task_id for task in made.ended] == ["t"]
    assert (made.names[ANN].name, made.origin, made.ended_missed) == ("words", "M-1/1", 4)


def test_ends_whose_framework_nobody_knows_do_not_wait_for_ever() -> None:
    gateway = Gateway()
    assert gateway.take(3.0, is_reset=True, has_more=True, ended=[ended("t", 1.0, 1.0)]).is_empty
    made = gateway.take(3.1)
    assert ([task.task_id for task in made.ended], made.names) == (["t"], {})


def test_no_more_ends_wait_than_there_is_room_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(batch_maker, "MAX_HELD", 3)
    gateway = Gateway()
    assert gateway.take(3.0, is_reset=True, has_more=True, ended=[ended("a", 1.0), ended("b", 1.0)]).is_empty
    assert len(gateway.take(3.1, has_more=True, ended=[ended("c", 1.0)]).ended) == 3


def test_a_framework_that_is_forgotten_with_its_last_end_has_given_its_name() -> None:
    made = following().take(4.0, ended=[ended("t", 3.0, 1.0)], forgotten_frameworks=[ANN])
    assert made.names[ANN].name == "words"


def test_what_happens_to_a_slave() -> None:
    gateway = Gateway()
    first = gateway.take(3.0, is_reset=True, slaves=[slave(is_disk_full=True)], **INFOS)
    assert events(first) == [(1.0, "registered"), (3.0, "disk-full")]
    assert {change.hostname for change in first.slave_changes} == {"alpha"}
    answers: list[tuple[dict[str, Any], list[str]]] = [
        ({"is_connected": False, "is_disk_full": False}, ["silent", "disk-free"]),
        ({"is_connected": True}, ["heard"]),
        ({"free": Resources.of(cpus=1)}, []),
        ({"state": "draining"}, ["draining"]),
        ({"state": "drained"}, ["drained"]),
        ({"state": "active"}, ["active"]),
        ({"state": "lost", "since": 9.0, "is_connected": False}, ["lost"]),
        ({"state": "lost", "since": 9.0, "is_connected": False, "free": FOUR}, []),
        ({"state": "drained", "since": 11.0}, ["registered", "drained"]),
    ]
    for number, (parts, found) in enumerate(answers):
        made = gateway.take(10.0 + number, slaves=[slave(**parts)])
        assert [event for _, event in events(made)] == found


def test_a_lost_slave_is_lost_since_then() -> None:
    made = following().take(20.0, slaves=[slave("lost", 12.0, is_connected=False)])
    assert events(made) == [(12.0, "lost")]


def test_a_reset_of_the_same_master_changes_nothing() -> None:
    made = following().take(4.0, is_reset=True, slaves=[slave()], frameworks=[framework()], **INFOS)
    assert (events(made), made.frameworks) == ([], ())


def test_slaves_register_with_another_master() -> None:
    gateway = following()
    made = gateway.take(1.0, "M-2", is_reset=True, slaves=[slave("draining", 0.5)], **INFOS)
    assert events(made) == [(0.5, "registered"), (1.0, "draining")]


def test_frameworks_are_written_when_they_change_and_their_counts_with_the_samples() -> None:
    gateway = Gateway()
    first = gateway.take(3.0, is_reset=True, frameworks=[framework()], **INFOS)
    (one,) = first.frameworks
    assert (one.name, one.role, one.user, one.hostname, one.since, one.state) == (
        "words", "science", "ann", "desk", NOON + 2, "active",
    )  # fmt: skip
    assert gateway.take(4.0, frameworks=[framework(ended_counts={"TASK_FINISHED": 1})]).frameworks == ()
    assert (
        gateway.take(5.0, frameworks=[framework(share=0.5, ended_counts={"TASK_FINISHED": 2})]).frameworks
        == ()
    )
    assert [each.counts for each in gateway.take(13.0).frameworks] == [{"TASK_FINISHED": 2}]
    assert gateway.take(23.0).frameworks == ()
    made = gateway.take(24.0, frameworks=[framework(state="ended", ended_at=24.0)])
    assert [(each.state, each.ended_at) for each in made.frameworks] == [("ended", NOON + 24)]


def test_a_framework_that_the_master_has_forgotten_is_said_to_be() -> None:
    gateway = following()
    assert gateway.take(4.0, forgotten_frameworks=[ANN]).frameworks == ()
    made = gateway.take(30.0)
    assert [(each.framework_id, each.name, each.state) for each in made.frameworks] == [
        (ANN, "words", "forgotten")
    ]


def test_an_ended_framework_that_is_forgotten_stays_ended() -> None:
    gateway = following()
    gateway.take(4.0, frameworks=[framework(state="ended", ended_at=4.0)])
    assert gateway.take(30.0, forgotten_frameworks=[ANN]).frameworks == ()


def test_samples_are_taken_in_their_time_and_never_of_half_an_answer() -> None:
    gateway = Gateway()
    offer = OfferNow(OfferID("O"), BOB, Resources.of(cpus=2), 9.0)
    on_slave = slave(
        offers=[offer], free=Resources.of(cpus=1, mem="3G"), used_millicpus=700, used_mem_bytes=5
    )
    half = gateway.take(3.0, is_reset=True, has_more=True, slaves=[on_slave], **INFOS)
    assert not half.shares
    assert not half.utilization
    made = gateway.take(3.1, frameworks=[framework(share=0.25), framework(BOB)], tasks=[running()])
    assert made.shares == (ShareSample(NOON + 3.1, ANN, 0.25, 1000, 1 << 30, 1),)
    assert made.utilization == (
        UtilizationSample(NOON + 3.1, "cpus", 4000, 1000, 2000, 700),
        UtilizationSample(NOON + 3.1, "mem", 4 << 30, 1 << 30, 0, 5),
    )
    assert not gateway.take(12.0).utilization
    assert gateway.take(13.2).utilization


def test_a_wall_clock_that_is_set_back_does_not_end_the_samples() -> None:
    gateway = following()
    gateway.view.heard_at = 0.0
    changes = Changes("M-1/1", 1, 0, -NOON, MasterNow("M-1", "0", "drf", 0.0))
    gateway.view.apply(changes, 5.0)
    assert gateway.maker.batch(gateway.view, changes).utilization


def test_what_is_gone_takes_no_memory() -> None:
    gateway = following()
    for number in range(50):
        slave_id, framework_id = SlaveID(f"S-{number + 2}"), f"F-{number + 3}"
        info = FrameworkInfo("x", framework_id=framework_id)
        gateway.take(
            20.0 * number + 10,
            slaves=[SlaveNow(slave_id, "active", 1.0, True)],
            slave_infos=[SlaveInfo("h", FOUR, slave_id=slave_id)],
            frameworks=[framework(framework_id)],
            framework_infos=[info],
        )
        gateway.take(20.0 * number + 20, forgotten_slaves=[slave_id], forgotten_frameworks=[framework_id])
    maker = gateway.maker
    for known in (maker._slaves, maker._hostnames, maker._names, maker._frameworks):
        assert len(known) <= 2
