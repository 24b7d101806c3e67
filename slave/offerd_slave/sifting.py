"""Start a slave even if its core cannot use some of the records in the work directory: those are set aside, and only the tasks
concerned are lost.

Records that can be read may still make the core fail. Then each container and each task is tried by itself, on a core that is
thrown away, and those that fail are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.journal import frame, writable
from offerd_slave.records import JournalRecord, StatusAcknowledged, StatusStored, TaskDelivered

Build = Callable[[Recovered], SlaveCore]


class Sifted(NamedTuple):
    """A core made from the usable records, and what was left out."""

    core: SlaveCore
    containers: list[ContainerID]
    records: list[JournalRecord]
    complaints: list[str]


def sift(build: Build, recovered: Recovered) -> Sifted:
    """Build the core; if that fails, without the records that make it fail."""
    try:
        return Sifted(build(recovered), [], [], [])
    except Exception as error:  # marked: the slave starts, whatever the records contain
        complaints = [f"some records in the work directory cannot be used: {_words(error)}"]
    empty = replace(recovered, containers=[], records=[], orphans=[])
    containers: list[RecoveredContainer] = []
    bad_containers: list[ContainerID] = []
    for each in recovered.containers:
        if fault := _fault(build, replace(empty, containers=[each])):
            bad_containers.append(each.checkpoint.container_id)
            complaints.append(f"container {each.checkpoint.container_id} is set aside: {fault}")
        else:
            containers.append(each)
    kept: list[JournalRecord] = []
    refused: list[JournalRecord] = []
    for (framework_id, task_id), records in _by_task(recovered.records).items():
        if fault := _fault(build, replace(empty, containers=containers, records=records)):
            refused += records
            complaints.append(f"task {task_id} of {framework_id} is set aside: {fault}")
        else:
            kept += records
    usable = replace(recovered, containers=containers, records=kept, is_damaged=True)
    return Sifted(build(usable), bad_containers, refused, complaints)


def as_journal(records: list[JournalRecord]) -> bytes:
    """The records in the journal's format."""
    return frame(writable(records)[0])


def _fault(build: Build, recovered: Recovered) -> str:
    try:
        build(recovered)
    except Exception as error:  # marked: this is how unusable records are found
        return _words(error)
    return ""


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _by_task(records: list[JournalRecord]) -> dict[tuple[FrameworkID, TaskID], list[JournalRecord]]:
    """The records of each task, in their order."""
    found: dict[tuple[FrameworkID, TaskID], list[JournalRecord]] = {}
    for record in records:
        if isinstance(record, TaskDelivered):
            found.setdefault((record.framework_id, record.task.task_id), []).append(record)
        elif isinstance(record, StatusStored):
            found.setdefault((record.framework_id, record.status.task_id), []).append(record)
        else:
            for update in record.updates:
                one = StatusAcknowledged(record.framework_id, [update])
                found.setdefault((record.framework_id, update[0]), []).append(one)
    return found
