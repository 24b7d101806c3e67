"""The slave daemon turn by turn: what it does when the disk refuses, and in which order."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, task
from offerd import messages as m
from offerd.errors import BadInput
from offerd.ids import ContainerID, SlaveID
from offerd_cli.sweep import sweep
from offerd_linux.process_ids import ProcessID
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.daemon import SlaveDaemon
from offerd_slave.options import SlaveOptions
from offerd_slave.records import ContainerCheckpoint


def disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SlaveDaemon]:
    options = SlaveOptions(
        master="127.0.0.1:1", insecure=True, http_port=0, work_dir=tmp_path / "work", isolation="noop"
    )
    made = SlaveDaemon(options)
    made._is_linked = True
    made._persistence._storer._last_took_s = 0.0  # a fast disk: syncs are done in the loop's own thread
    yield made
    made.close()
    assert sweep(tmp_path), "executors go on without their slave"


@pytest.fixture
def sent(daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch) -> list[m.Message]:
    messages: list[m.Message] = []
    monkeypatch.setattr(daemon._master, "send", messages.append)
    happen(daemon, ev.FromMaster(1, m.SlaveRegistered(SlaveID("S-1"), "master")))
    messages.clear()
    return messages


def happen(daemon: SlaveDaemon, *events: ev.Event) -> None:
    daemon._events += events
    daemon._turn()


def too_large() -> ev.FromMaster:
    return ev.FromMaster(1, m.RunTasks(FRAMEWORK, COMMAND, [task("huge", cpus=100_000)]))


def test_a_slave_without_a_key_starts_only_with_insecure(tmp_path: Path) -> None:
    options = SlaveOptions(master="127.0.0.1:1", http_port=0, work_dir=tmp_path / "work", isolation="noop")
    with pytest.raises(BadInput, match=r"no key for the master at 127.0.0.1:1: .*--insecure"):
        SlaveDaemon(options)
    assert not options.work_dir.exists()


def test_a_slave_with_a_full_disk_sends_signs_of_life_and_the_rest_later(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(daemon._persistence._storer, "write", disk_full)
        gone = m.KillTask(FRAMEWORK.framework_id, task("gone").task_id)
        happen(daemon, too_large(), ev.FromMaster(1, gone), ev.FromMaster(1, m.Ping()))
        assert [type(message) for message in sent] == [m.Pong]
        happen(daemon, ev.UsageMeasured(10, 20))
        usages = [message for message in sent if isinstance(message, m.SlaveUsage)]
        assert len(sent) == 1 + len(usages)
        assert [usage.disk_full for usage in usages] == [True, True], "at once, and with each measurement"
        daemon._persistence.look_at_disk()
        happen(daemon)
        assert daemon.core.state.is_disk_full, "the journal cannot be written, though there is room"
    sent.clear()
    daemon._persistence._write_again_at = 0.0
    happen(daemon)
    assert [message.status.reason for message in sent if isinstance(message, m.StatusUpdate)] == [
        m.Reason.TASK_UNKNOWN,
        m.Reason.OFFER_EXCEEDED,
    ]


def test_a_slave_with_a_full_disk_registers_with_a_new_master(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon._persistence._storer, "write", disk_full)
    happen(daemon, ev.FromMaster(1, m.RunTasks(FRAMEWORK, COMMAND, [task("a")])), too_large())
    happen(daemon)
    sent.clear()
    happen(daemon, ev.MasterConnected())
    (registration,) = sent
    assert isinstance(registration, m.RegisterSlave)
    assert registration.disk_full
    assert "a" in [described.task_id for described in registration.tasks]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_noticed_and_recovers(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fails)
        daemon._persistence.look_at_disk()
        happen(daemon)
    assert daemon.core.state.is_disk_full
    daemon._persistence.look_at_disk()
    happen(daemon)
    assert not daemon.core.state.is_disk_full
    assert [message.disk_full for message in sent if isinstance(message, m.SlaveUsage)] == [True, False]
    assert not (daemon.workdir.path / "probe").exists()


def test_nothing_is_queued_for_a_master_that_is_away(daemon: SlaveDaemon, sent: list[m.Message]) -> None:
    daemon._is_linked = False
    for _ in range(3):
        happen(daemon, ev.FromMaster(1, m.NotRegistered()))
    assert sent == []
    daemon._is_linked = True
    happen(daemon, ev.MasterConnected())
    (registration,) = sent
    assert isinstance(registration, m.RegisterSlave)
    assert registration.files == daemon._files.secret


def test_events_at_the_end_of_a_turn_are_handled_at_once_by_the_next(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = ContainerID("nobody")
    with monkeypatch.context() as patch:
        patch.setattr(daemon.core, "tick", lambda now: [act.DestroyContainer(unknown)])
        happen(daemon)
    assert daemon._events == [ev.ContainerDestroyed(unknown)]
    assert daemon._due_at(50.0) == 50.0


def test_a_failed_rewrite_of_the_journal_is_not_repeated_for_a_while(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Any] = []

    def fails(records: object) -> None:
        tries.append(records)
        disk_full()

    monkeypatch.setattr(daemon.journal, "compact", fails)
    daemon._persistence._compact_above_bytes = 0
    happen(daemon, too_large())
    happen(daemon)
    happen(daemon)
    assert len(tries) == 1


def test_journal_of_live_records_is_not_rewritten_in_every_turn(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd_slave.persistence.COMPACT_BYTES", 10)
    daemon._persistence._compact_above_bytes = 10
    happen(daemon, too_large())
    assert daemon._persistence._compact_above_bytes == 2 * daemon.journal.size_bytes > 20


def test_a_slave_id_that_cannot_be_saved_is_saved_later(
    daemon: SlaveDaemon, sent: list[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(daemon.workdir, "save_slave", disk_full)
        happen(daemon, ev.FromMaster(2, m.SlaveRegistered(SlaveID("S-2"), "master")))
    daemon._persistence._tidy_at = 0.0
    happen(daemon)
    found = daemon.workdir.read(daemon.journal).slave
    assert found is not None
    assert (found.slave_id, found.epoch) == ("S-2", 2)


def test_launch_whose_checkpoint_cannot_be_written_fails(
    daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.workdir, "save_container", disk_full)
    containerizer, container_id = daemon._containerizer, ContainerID("c")
    containerizer._checkpoints[container_id] = ContainerCheckpoint(
        container_id, FRAMEWORK, COMMAND, "token", "noop"
    )
    containerizer._launched(container_id, ProcessID("boot", 2**22 + 1, 1))
    (event,) = daemon._events
    assert isinstance(event, ev.LaunchFailed)
    assert "No space left" in event.message


def test_a_container_that_does_not_die_is_checked_less_and_less_often(
    daemon: SlaveDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    containerizer, container_id = daemon._containerizer, ContainerID("c")
    monkeypatch.setattr(daemon._isolation, "cleanup", lambda container_id: False)
    now, looks = 100.0, []
    containerizer.destroy(container_id, now)
    for _ in range(10):
        next_at = containerizer.next_deadline()
        assert next_at is not None
        looks.append(round(next_at - now, 3))
        now = next_at
        containerizer.tick(now)
    assert looks == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]
    containerizer.destroy(container_id, now)
    next_at = containerizer.next_deadline()
    assert next_at is not None
    assert next_at == pytest.approx(now + 0.01)
