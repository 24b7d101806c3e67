"""The no-op module: the contract of all modules, and what is its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from helpers.isolation_contract import IsolationContract
from helpers.proc import bed, is_running, wait_until
from offerd.ids import ContainerID
from offerd_isolation import noop, procfs
from offerd_isolation.base import Isolation
from offerd_isolation.noop import NoopIsolation


class TestNoopContract(IsolationContract):
    """Everything in the contract."""

    def make(self, work_dir: Path) -> Isolation:
        return NoopIsolation(work_dir)


def test_a_shim_that_hangs_after_its_executor_died_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noop, "LONE_SHIM_S", 0.2)
    with bed(tmp_path) as it:
        container = it.launch("forever")
        container.wait_for("ready")
        procfs.send(container.shim, signal.SIGSTOP)
        wait_until(lambda: it.isolation.destroy(container.container_id), "destroyed")
        assert not is_running(container.shim.pid)


def test_destroy_of_a_known_container_with_no_shim_left_is_done_at_once(tmp_path: Path) -> None:
    with bed(tmp_path) as it:
        container = it.launch("exit_with", "0")
        it.ended(container)
        wait_until(lambda: procfs.find(container.shim) is None, "shim reaped")
        assert it.isolation.destroy(ContainerID(container.container_id))
