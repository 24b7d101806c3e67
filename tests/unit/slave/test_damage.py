"""Every file of a slave, cut off or changed at every byte: one object is lost, and the slave starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd_slave.checkpoint import read_checkpoint, write_checkpoint
from offerd_slave.core.actions import SaveSlave
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.journal import Journal
from offerd_slave.records import (
    ContainerCheckpoint,
    ProcessCheckpoint,
    SlaveCheckpoint,
    StatusStored,
    TaskDelivered,
)
from offerd_slave.settings import SlaveSettings
from offerd_slave.workdir import Found, WorkDir

FRAMEWORK = m.FrameworkInfo("f", FrameworkID("F-1"))
EXECUTOR = m.ExecutorInfo(ExecutorID("e"), module="x")
CONTAINERS = [ContainerID("c1"), ContainerID("c2")]
Damage = Callable[[bytes, int], bytes]


def cut(data: bytes, position: int) -> bytes:
    return data[:position]


def flip(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


class Bench:
    """A work directory with a slave's id and two containers with a task each, of which one has an unacknowledged end."""

    def __init__(self, path: Path) -> None:
        self.workdir = WorkDir(path)
        self.journal = Journal(path / "tasks.journal")
        self.workdir.save_slave(SaveSlave(SlaveID("S-1"), 7), "boot")
        for container_id in CONTAINERS:
            self.workdir.container(container_id).mkdir()
            self.workdir.save_container(
                ContainerCheckpoint(container_id, FRAMEWORK, EXECUTOR, "token", "noop")
            )
            task = m.TaskInfo(TaskID(f"t-{container_id}"), Resources.of(cpus=1), EXECUTOR.executor_id)
            self.journal.append([TaskDelivered(FRAMEWORK.framework_id, container_id, task, 1.0)])
        ended = m.TaskStatus(TaskID("t-c2"), m.TaskState.FINISHED, 2)
        self.journal.append([StatusStored(FRAMEWORK.framework_id, CONTAINERS[1], ended)])
        self.files = [path / "slave.ckpt", path / "tasks.journal"]
        self.files += [self.workdir.container(container_id) / "container.ckpt" for container_id in CONTAINERS]
        self.whole = {file: file.read_bytes() for file in self.files}

    def start(self) -> Found:
        """Start a slave on it: returns what it finds, and checks that its core can start with that."""
        found = self.workdir.read(self.journal)
        slave = found.slave
        recovered = Recovered(
            SlaveID("") if slave is None else slave.slave_id,
            0 if slave is None else slave.epoch,
            containers=[RecoveredContainer(checkpoint, True) for checkpoint in found.containers],
            records=found.records,
            orphans=[c for c in CONTAINERS if c not in {found.container_id for found in found.containers}],
        )
        core = SlaveCore(SlaveSettings(), m.SlaveInfo("h", Resources.of(cpus=4)), "run", recovered, 2.0)
        core.tick(2.0)
        return found

    def mend(self, file: Path) -> None:
        file.write_bytes(self.whole[file])
        for quarantined in self.workdir.quarantine.iterdir():
            quarantined.unlink()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()
    made.workdir.release()


@pytest.mark.parametrize("damage", [cut, flip])
def test_any_damage_to_a_checkpoint_sets_one_object_aside_and_the_slave_starts(
    bench: Bench, damage: Damage
) -> None:
    for file in bench.files:
        if file.suffix != ".ckpt":
            continue
        for position in range(len(bench.whole[file])):
            file.write_bytes(damage(bench.whole[file], position))
            found = bench.start()
            assert len(found.complaints) == 1, (file, position)
            assert (found.slave is None) + (2 - len(found.containers)) == 1, (file, position)
            assert len(found.records) == 3
            assert len(list(bench.workdir.quarantine.iterdir())) == 1
            assert not file.exists()
            bench.mend(file)


@pytest.mark.parametrize("damage", [cut, flip])
def test_damage_to_the_journal_loses_only_the_records_that_it_hits(bench: Bench, damage: Damage) -> None:
    file = bench.workdir.path / "tasks.journal"
    for position in range(len(bench.whole[file])):
        file.write_bytes(damage(bench.whole[file], position))
        found = bench.start()
        assert found.slave is not None
        assert len(found.containers) == 2
        assert len(found.records) >= 2 or damage is cut
        bench.mend(file)


def test_checkpoint_of_a_newer_format_or_another_type_is_set_aside_like_a_damaged_one(bench: Bench) -> None:
    file = bench.workdir.container(CONTAINERS[0]) / "container.ckpt"
    write_checkpoint(file, FRAMEWORK)
    found = bench.start()
    assert [container.container_id for container in found.containers] == [CONTAINERS[1]]
    assert len(found.complaints) == 1


def test_another_containers_checkpoint_is_set_aside_like_a_damaged_one(bench: Bench) -> None:
    first, second = (bench.workdir.container(container_id) / "container.ckpt" for container_id in CONTAINERS)
    first.write_bytes(second.read_bytes())
    found = bench.start()
    assert [container.container_id for container in found.containers] == [CONTAINERS[1]]
    assert len(found.complaints) == 1
    assert not first.exists()
    assert second.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": (1 << 64) - 1},
        {"epoch": -1},
        {"slave_id": "../../x"},
        {"slave_id": "S-1\n"},
        {"mode": "bogus"},
        {"drain_end_at": float("nan")},
        {"drain_end_at": 1e300},
        {"drain_grace_s": 1e300},
    ],
)
def test_a_slave_checkpoint_with_impossible_values_is_set_aside(bench: Bench, change: dict[str, Any]) -> None:
    file = bench.workdir.path / "slave.ckpt"
    whole = read_checkpoint(file, SlaveCheckpoint)
    write_checkpoint(file, msgspec.structs.replace(whole, **change))
    found = bench.start()
    assert found.slave is None
    assert len(found.complaints) == 1
    assert not file.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"container_id": "../../evil"},
        {"uid": -2},
        {"gid": (1 << 32) - 1},
        {"shim": ProcessCheckpoint("boot", -1, 5)},
        {"shim": ProcessCheckpoint("boot", 1 << 40, 5)},
    ],
)
def test_a_container_checkpoint_with_impossible_values_is_set_aside(
    bench: Bench, change: dict[str, Any]
) -> None:
    file = bench.workdir.container(CONTAINERS[0]) / "container.ckpt"
    whole = read_checkpoint(file, ContainerCheckpoint)
    write_checkpoint(file, msgspec.structs.replace(whole, **change))
    found = bench.start()
    assert [container.container_id for container in found.containers] == [CONTAINERS[1]]
    assert len(found.complaints) == 1
    assert not file.exists()
