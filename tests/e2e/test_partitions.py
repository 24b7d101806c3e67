"""The connection between master and slave is dead for a while, in one direction or both, without an error."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from helpers.cli import processes_with, wait_until
from helpers.partition import PartitionedCluster
from helpers.recorder import Recorder, ended_once
from offerd.messages import Reason, TaskState

RUNNING, FINISHED = TaskState.RUNNING, TaskState.FINISHED
LONG_S = 120.0
"""Longer than any of these tests; they heal the line themselves."""


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def test_partition_shorter_than_five_pings_changes_nothing() -> None:
    duration = unique()
    with PartitionedCluster("2s") as cluster, Recorder(cluster.address) as framework:
        framework.run("stays", f"exec sleep {duration}", limit_s=None)
        framework.wait("stays", RUNNING)
        pids = processes_with(duration)
        cluster.stall(4.0)
        framework.run("late", "true")
        assert framework.wait_end("late").state is FINISHED, "launched into the partition, it ran after it"
        assert framework.states("stays") == [RUNNING]
        assert processes_with(duration) == pids
        assert not framework.lost_slaves


def test_task_of_a_patient_framework_is_unreachable_and_goes_on_after_the_partition() -> None:
    patient, impatient = unique(), unique()
    with (
        PartitionedCluster("200ms") as cluster,
        Recorder(cluster.address, unreachable_timeout_s=60.0) as waits,
        Recorder(cluster.address) as does_not,
    ):
        waits.run("stays", f"exec sleep {patient}", limit_s=None)
        does_not.run("goes", f"exec sleep {impatient}", limit_s=None)
        waits.wait("stays", RUNNING)
        does_not.wait("goes", RUNNING)
        wait_until(lambda: processes_with(patient) and processes_with(impatient), "both to sleep")
        pids = processes_with(patient)
        cluster.stall(LONG_S)
        assert waits.wait("stays", TaskState.UNREACHABLE).reason == Reason.SLAVE_LOST
        lost = does_not.wait_end("goes")
        assert (lost.state, lost.reason) == (TaskState.LOST, Reason.SLAVE_LOST)
        assert processes_with(impatient), "the slave does not know yet"
        cluster.heal()
        wait_until(lambda: waits.states("stays")[-1] is RUNNING, "the task to be back")
        wait_until(lambda: not processes_with(impatient), "the task reported as lost to be ended")
        assert processes_with(patient) == pids
        waits.driver.kill_task(waits.statuses["stays"][0].task_id)
        assert waits.wait_end("stays").reason == Reason.KILLED_BY_FRAMEWORK
        assert ended_once(waits, "stays")
        assert ended_once(does_not, "goes")


@pytest.mark.parametrize("direction", ["to_master", "to_slave"])
def test_a_connection_dead_in_one_direction_loses_the_slave_and_runs_nothing_twice(
    direction: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    effects = tmp_path / "effects"
    with PartitionedCluster("200ms") as cluster, Recorder(cluster.address) as framework:
        framework.run("first", "true")
        framework.wait_end("first")
        cluster.stall(LONG_S, to_master=direction == "to_master", to_slave=direction == "to_slave")
        framework.run("into", f"echo x >> {effects}")
        wait_until(lambda: framework.lost_slaves, "the master to miss its slave")
        cluster.heal()
        framework.wait_end("into")
        cluster.wait_for_slaves(1)
        framework.run("after", "true")
        assert framework.wait_end("after").state is FINISHED
        assert ended_once(framework, "first", "into", "after")
        # It may have been ended before its shell wrote, also between opening the file and writing.
        assert not effects.exists() or effects.read_text() in ("", "x\n")
