"""Events are made from what is new in a master's answers, and none is repeated."""

from __future__ import annotations

from typing import Any

import pytest

from offerd.cluster_events import ClusterEvent, EventReader
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo, TaskState
from offerd.protocol.change_messages import Changes, EndedTask, FrameworkNow, MasterNow, SlaveNow, TaskNow
from offerd.resources import Resources

MASTER = MasterNow("M-1", "0", "drf", 0.0)
ONE_CPU = Resources.of(cpus=1)
F, S = FrameworkID("F-1"), SlaveID("S-1")


def answer(now: float, master: MasterNow = MASTER, **parts: Any) -> Changes:
    return Changes(f"{master.master_id}/1", 1, 1, now, master, **parts)


def slave(state: str = "active", since: float = 1.0, **parts: Any) -> SlaveNow:
    return SlaveNow(S, state, since, **{"is_connected": True, **parts})


def framework(state: str = "active", **parts: Any) -> FrameworkNow:
    return FrameworkNow(F, state, 2.0, **parts)


def task(task_id: str = "t", launched_at: float = 3.0, **parts: Any) -> TaskNow:
    usual: dict[str, Any] = {
        "state": TaskState.STAGING, "name": "", "resources": ONE_CPU, "time_limit_s": None, "is_long": True,
        "running_since": None, "container_id": ContainerID(""), "is_command": True, "is_being_killed": False,
    }  # fmt: skip
    return TaskNow(TaskID(task_id), F, S, ExecutorID("e"), launched_at=launched_at, **{**usual, **parts})


def ended(task_id: str = "t", launched_at: float = 3.0, ended_at: float = 5.0, **parts: Any) -> EndedTask:
    usual: dict[str, Any] = {
        "state": TaskState.FINISHED, "name": "", "resources": ONE_CPU, "time_limit_s": None, "reason": "", "message": "",
        "exit_status": 0, "running_since": launched_at + 1.0, "container_id": ContainerID("C"), "is_command": True,
    }  # fmt: skip
    return EndedTask(
        TaskID(task_id),
        F,
        S,
        ExecutorID("e"),
        launched_at=launched_at,
        ended_at=ended_at,
        **{**usual, **parts},
    )


NAMED: dict[str, Any] = {
    "slave_infos": [SlaveInfo("alpha", ONE_CPU, slave_id=S)],
    "framework_infos": [FrameworkInfo("words", framework_id=F)],
}


def names(events: list[ClusterEvent]) -> list[str]:
    return [event.event for event in events]


def started(*tasks: TaskNow) -> EventReader:
    """A reader that knows one slave, one framework, and these tasks."""
    reader = EventReader()
    reader.read(
        answer(3.0, is_reset=True, slaves=[slave()], frameworks=[framework()], tasks=list(tasks), **NAMED)
    )
    return reader


def test_a_first_answer_is_the_past_in_order_with_names_and_ages() -> None:
    reader = EventReader()
    first = answer(10.0, is_reset=True, has_more=True, ended=[ended()])
    assert reader.read(first) == []
    events = reader.read(
        answer(11.0, slaves=[slave()], frameworks=[framework()], tasks=[task("u", 7.0)], **NAMED)
    )
    assert [(event.event, event.ago_s) for event in events] == [
        ("slave-registered", 10.0),
        ("framework-registered", 9.0),
        ("task-launched", 8.0),
        ("task-running", 7.0),
        ("task-ended", 6.0),
        ("task-launched", 4.0),
    ]
    assert all(event.hostname == "alpha" for event in events if event.slave_id)
    assert all(event.framework_name == "words" for event in events if event.framework_id)


def test_a_task_that_began_and_ended_between_two_answers_has_all_its_events() -> None:
    events = started().read(answer(6.0, ended=[ended(reason="TASK_TIMEOUT", state=TaskState.KILLED)]))
    assert names(events) == ["task-launched", "task-running", "task-ended"]
    assert (events[-1].state, events[-1].reason, events[-1].exit_status) == ("TASK_KILLED", "TASK_TIMEOUT", 0)


def test_a_task_that_is_known_only_has_the_events_that_are_new() -> None:
    reader = started(task())
    assert names(reader.read(answer(4.0, tasks=[task(state=TaskState.RUNNING, running_since=3.5)]))) == [
        "task-running"
    ]
    killed = task(state=TaskState.RUNNING, running_since=3.5, is_being_killed=True)
    assert names(reader.read(answer(4.5, tasks=[killed]))) == ["task-being-killed"]
    assert names(reader.read(answer(6.0, ended=[ended(running_since=3.5)]))) == ["task-ended"]


def test_a_task_id_that_is_used_again_is_a_task_that_is_launched_again() -> None:
    assert names(started(task()).read(answer(9.0, tasks=[task(launched_at=8.0)]))) == ["task-launched"]


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (slave(), slave("lost", since=4.0), "slave-lost"),
        (slave("lost"), slave(since=4.0), "slave-registered"),
        (slave(), slave(is_connected=False), "slave-silent"),
        (slave(is_connected=False), slave(), "slave-heard"),
        (slave(), slave("draining"), "slave-draining"),
        (slave("drained"), slave(), "slave-active"),
        (slave(), slave(is_disk_full=True), "slave-disk-full"),
        (slave(is_disk_full=True), slave(), "slave-disk-free"),
    ],
)
def test_each_change_of_a_slave_is_one_event(before: SlaveNow, after: SlaveNow, event: str) -> None:
    reader = EventReader()
    reader.read(answer(3.0, is_reset=True, slaves=[before]))
    assert names(reader.read(answer(5.0, slaves=[after]))) == [event]
    assert names(reader.read(answer(6.0, slaves=[after]))) == []


def test_a_framework_that_loses_its_scheduler_has_one_again_and_ends() -> None:
    reader = started()
    assert names(reader.read(answer(4.0, frameworks=[framework("disconnected")]))) == [
        "framework-disconnected"
    ]
    assert names(reader.read(answer(5.0, frameworks=[framework()]))) == ["framework-active"]
    (end,) = reader.read(answer(9.0, frameworks=[framework("ended", ended_at=8.0)]))
    assert (end.event, end.ago_s, end.framework_name) == ("framework-ended", 1.0, "words")


def test_another_master_is_an_event_and_what_goes_on_there_is_not_repeated() -> None:
    reader = started(task())
    second = MasterNow("M-2", "0", "drf", 100.0)
    assert names(reader.read(answer(101.0, second, is_reset=True))) == ["master-leads"]
    events = reader.read(
        answer(
            103.0,
            second,
            slaves=[slave(since=102.0)],
            frameworks=[framework()],
            tasks=[task(launched_at=99.0)],
        )
    )
    assert names(events) == ["slave-registered"]
    assert names(reader.read(answer(110.0, second, ended=[ended(launched_at=99.0, ended_at=109.0)]))) == [
        "task-running",
        "task-ended",
    ]


def test_the_same_master_that_sends_everything_again_repeats_no_event() -> None:
    reader = started(task())
    reader.read(answer(6.0, ended=[ended("a", ended_at=5.0), ended("b", ended_at=5.0)]))
    parts: dict[str, Any] = {"frameworks": [framework()], "tasks": [task()], **NAMED}
    assert reader.read(answer(90.0, is_reset=True, has_more=True, ended=[ended("a", ended_at=5.0)])) == []
    again = answer(
        90.0, ended=[ended("b", ended_at=5.0), ended("c", ended_at=80.0)], slaves=[slave()], **parts
    )
    assert [(event.event, event.task_id) for event in reader.read(again)] == [
        ("task-launched", "c"), ("task-running", "c"), ("task-ended", "c"),
    ]  # fmt: skip


def test_ends_that_the_master_has_forgotten_are_said_to_be_missing() -> None:
    (missing,) = started().read(
        answer(9.0, is_reset=True, ended_missed=7, slaves=[slave()], frameworks=[framework()])
    )
    assert (missing.event, missing.count) == ("ends-missed", 7)
