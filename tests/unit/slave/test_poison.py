"""Records or messages that a slave cannot handle cost one task, never the slave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, task
from offerd import messages as m
from offerd.ids import ContainerID, SlaveID, TaskID
from offerd_slave import journal as journals
from offerd_slave.checkpoint import write_checkpoint
from offerd_slave.core import events as ev
from offerd_slave.core import recovery, slave
from offerd_slave.core.actions import SaveSlave
from offerd_slave.core.containers import Containers
from offerd_slave.core.slave import SlaveCore
from offerd_slave.daemon import SlaveDaemon
from offerd_slave.journal import Journal
from offerd_slave.options import SlaveOptions
from offerd_slave.records import (
    ContainerCheckpoint,
    JournalRecord,
    StatusStored,
    TaskDelivered,
    UnwritableRecord,
)
from offerd_slave.workdir import WorkDir

CONTAINER = ContainerID("c.1")


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """The work directory of a killed slave: one ended container with two tasks."""
    workdir = WorkDir(tmp_path / "work")
    workdir.save_slave(SaveSlave(SlaveID("S-1"), 1), "another boot")
    workdir.container(CONTAINER).mkdir()
    workdir.save_container(ContainerCheckpoint(CONTAINER, FRAMEWORK, COMMAND, "token", "noop"))
    write_journal(
        workdir.path, [TaskDelivered(FRAMEWORK.framework_id, CONTAINER, task(name), 1.0) for name in "ab"]
    )
    workdir.release()
    return workdir.path


def write_journal(path: Path, records: list[JournalRecord]) -> None:
    journal = Journal(path / "tasks.journal")
    assert journal.append(records) == []
    journal.close()


def start(work_dir: Path) -> SlaveDaemon:
    options = SlaveOptions(
        master="127.0.0.1:1", http_port=0, work_dir=work_dir, isolation="noop", insecure=True
    )
    return SlaveDaemon(options)


def quarantined(work_dir: Path) -> list[str]:
    return [path.name for path in (work_dir / "quarantine").iterdir()]


def poisoned_status(sequence: int) -> StatusStored:
    status = m.TaskStatus(TaskID("a"), m.TaskState.RUNNING, sequence)
    return StatusStored(FRAMEWORK.framework_id, CONTAINER, status)


def test_a_journal_poisoned_through_an_older_slave_can_be_read_at_every_start(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(journals, "SOUND", 2**64)
        write_journal(work_dir, [poisoned_status(2**64 - 1)])
    for _ in range(3):
        daemon = start(work_dir)
        assert sorted(info.task_id for info in (each.info for each in daemon.core.state.tasks.values())) == [
            "a",
            "b",
        ]
        daemon._turn()
        daemon.close()
    assert len(quarantined(work_dir)) == 1
    journal = Journal(work_dir / "tasks.journal")
    assert journal.replay()[1] == []
    journal.close()


def test_a_record_that_makes_the_core_fail_is_set_aside_and_costs_only_its_task(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = recovery._restore_task

    def fails(state: Any, statuses: Any, remembered: Any, delivered: TaskDelivered, now: float) -> None:
        if delivered.task.task_id == "a":
            raise OverflowError("for a test")
        restored(state, statuses, remembered, delivered, now)

    with monkeypatch.context() as broken:
        broken.setattr(recovery, "_restore_task", fails)
        daemon = start(work_dir)
        assert [each.info.task_id for each in daemon.core.state.tasks.values()] == ["b"]
        daemon.close()
    assert quarantined(work_dir) == ["tasks.journal.0"]
    records, damages = journals.parse((work_dir / "quarantine/tasks.journal.0").read_bytes())
    assert ([type(each) for each in records], damages) == ([TaskDelivered], [])
    daemon = start(work_dir)
    assert [each.info.task_id for each in daemon.core.state.tasks.values()] == ["b"]
    daemon.close()


def test_a_container_that_makes_the_core_fail_is_set_aside_and_ended(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("for a test")

    with monkeypatch.context() as broken:
        broken.setattr(recovery, "_restore_container", fails)
        daemon = start(work_dir)
        assert not daemon.core.state.containers
        assert ev.ContainerDestroyed(CONTAINER) in daemon._events
        daemon._turn()
        daemon.close()
    assert f"container {CONTAINER} is set aside: ValueError" in caplog.text
    assert f"{CONTAINER}.container.ckpt" in quarantined(work_dir)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SlaveDaemon]:
    made = start(tmp_path / "other")
    made._is_linked = True
    yield made
    made.close()


def happen(daemon: SlaveDaemon, *events: ev.Event) -> None:
    daemon._events += events
    daemon._turn()


def test_a_masters_message_that_cannot_be_handled_is_ignored_and_logged_once(
    daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(core: SlaveCore, message: object, now: float) -> None:
        raise KeyError("for a\ntest")

    sent: list[m.Message] = []
    monkeypatch.setattr(daemon._master, "send", sent.append)
    monkeypatch.setitem(slave._FROM_MASTER, m.KillTask, fails)
    kill = m.KillTask(FRAMEWORK.framework_id, TaskID("a"))
    happen(daemon, *3 * [ev.FromMaster(1, kill)], ev.FromMaster(1, m.Ping()))
    assert m.Pong() in sent
    assert caplog.text.count("cannot handle a KillTask") == 1
    assert "for a\ntest" not in caplog.text


def test_an_executor_whose_message_cannot_be_handled_is_ended_and_no_other(
    daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("for a test")

    monkeypatch.setattr(Containers, "register", fails)
    for container_id in (CONTAINER, ContainerID("c.2")):
        framework = msgspec.structs.replace(FRAMEWORK, framework_id=f"F-{container_id}")
        container = daemon.core.containers.obtain(framework, COMMAND, 0.0)
        daemon.core.state.containers[container_id] = daemon.core.state.containers.pop(container.container_id)
        container.container_id = container_id
    happen(daemon, ev.FromExecutor(CONTAINER, m.RegisterExecutor(CONTAINER, "token")))
    happen(daemon)
    happen(daemon)
    assert list(daemon.core.state.containers) == ["c.2"]


def test_a_record_that_cannot_be_encoded_costs_only_its_task(
    daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[ev.Event] = []
    monkeypatch.setitem(slave._HANDLERS, ev.RecordRefused, lambda core, event, now: refused.append(event))
    bad = poisoned_status(2**64)
    good = TaskDelivered(FRAMEWORK.framework_id, CONTAINER, task("b"), 1.0)
    daemon._persistence.records += [poisoned_status(2**63), bad, good]
    happen(daemon)
    happen(daemon)
    assert [each.record.status.sequence for each in refused] == [2**63, 2**64]  # type: ignore[attr-defined]
    assert daemon.journal.replay() == ([good], [])


def test_a_checkpoint_that_cannot_be_encoded_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint(path, FRAMEWORK)
    before = path.read_bytes()
    with pytest.raises(UnwritableRecord):
        write_checkpoint(path, poisoned_status(2**64))
    assert path.read_bytes() == before
