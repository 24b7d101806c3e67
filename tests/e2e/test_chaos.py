"""Half a minute of `make chaos`, and tests that it notices errors."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

import chaos.__main__ as chaos_run
from chaos.cluster import ChaosCluster
from chaos.faults import Faults
from chaos.ledger import Ledger
from helpers.ensemble import needs_zookeeper
from offerd.ids import TaskID
from offerd.messages import TaskState, TaskStatus
from offerd_cli.local_cluster import Daemon

DEPOSED = "offerd: this master no longer leads: another master has led since; ending"


class OneDaemon(ChaosCluster):
    """A cluster whose only slave is this program."""

    def __init__(self, folder: Path, program: str) -> None:
        words = (sys.executable, "-c", program)
        self.masters = []
        self.slaves = [Daemon("slave-1", [], folder / "log", None, dict(os.environ), words)]


@needs_zookeeper
@pytest.mark.timeout(240)
def test_ledger_balances_after_half_a_minute_of_random_faults() -> None:
    seed = int(os.environ.get("OFFERD_CHAOS_SEED", "20"))
    assert chaos_run.run(seed, 30.0, 600, quiet=True), f"seed {seed}: see what was printed"


@pytest.mark.parametrize(
    ("program", "complaints"),
    [
        ("raise RuntimeError('boom')", ["slave-1 exited with status 1: RuntimeError: boom"]),
        ("import os; os.kill(os.getpid(), 11)", ["slave-1 was killed by SIGSEGV"]),
        (f"raise SystemExit({DEPOSED!r})", []),
    ],
)
def test_a_daemon_that_ended_by_itself_is_started_again_and_reported(
    program: str, complaints: list[str], tmp_path: Path
) -> None:
    cluster = OneDaemon(tmp_path, program)
    (daemon,) = cluster.slaves
    faults = Faults(cluster, 0)
    daemon.start()
    first = daemon.pid
    assert daemon.wait(20)
    faults.mend()
    assert faults.complaints == complaints
    assert daemon.pid != first
    assert daemon.wait(20)


def test_a_second_end_that_comes_late_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_run, "RECOUNT_S", 2.0)
    cluster = OneDaemon(tmp_path, "input()")
    cluster.slaves.clear()
    ledger = Ledger("127.0.0.1:1", tmp_path, 1, 1.0, 0)
    end = TaskStatus(TaskID("t0"), TaskState.LOST, 1)
    ledger.terminal[end.task_id] = [end]
    assert ledger.complaints() == []
    late = threading.Timer(0.5, lambda: ledger.terminal[end.task_id].append(end))
    late.start()
    chaos_run.settle(Faults(cluster, 0), ledger, quiet=True)
    late.join()
    assert "2 terminal statuses" in ledger.complaints()[0]
