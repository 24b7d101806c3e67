"""Ended tasks and batches of them, for tests of the gateway's history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskUsage
from offerd.protocol.change_messages import EndedTask
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.history.batch import Batch, FrameworkNames

DAY = 86400.0
NOON = 20_000 * DAY + DAY / 2
"""A Unix time."""
ANN, BOB = FrameworkID("F-1@ann"), FrameworkID("F-2@bob")


def ended(
    task_id: str, launched_at: float, lasted_s: float = 10.0, framework_id: FrameworkID = ANN, **parts: Any
) -> EndedTask:
    """A task of one cpu and 1 MiB that ran all the time and used half of it. Moments are on the master's clock."""
    usual: dict[str, Any] = {
        "slave_id": SlaveID("S-1"), "executor_id": ExecutorID("command"), "state": TaskState.FINISHED, "name": "words",
        "resources": Resources({"cpus": 1000, "mem": 1 << 20}), "time_limit_s": 60.0, "reason": "", "message": "",
        "exit_status": 0, "running_since": launched_at, "container_id": ContainerID("C-1"), "is_command": True,
        "user": "ann", "usage": TaskUsage(lasted_s / 2, 1 << 19),
    }  # fmt: skip
    return EndedTask(
        task_id=TaskID(task_id),
        framework_id=framework_id,
        launched_at=launched_at,
        ended_at=launched_at + lasted_s,
        **{**usual, **parts},
    )


def batch(
    tasks: Iterable[EndedTask] = (),
    at: float = NOON,
    number: int = 0,
    origin: str = "M-1/1",
    offset_s: float = 0.0,
    **parts: Any,
) -> Batch:
    """`number`: up to which end of this origin it goes."""
    tasks = tuple(tasks)
    return Batch(
        at=at,
        master_id=origin.partition("/")[0],
        clock_offset_s=offset_s,
        origin=origin,
        ended_after=number,
        ended=tasks,
        names={ANN: FrameworkNames("wordcount", "science"), BOB: FrameworkNames("render", "art")},
        hostnames={SlaveID("S-1"): "alpha", SlaveID("S-2"): "beta"},
        **parts,
    )
