"""The cost of idle daemons: memory of master, slave and shim, and their CPU time."""

from __future__ import annotations

import time
from contextlib import ExitStack

from batches import running, wait_ended
from children import child, receive
from fake_slaves import serve
from figures import Bound, Findings, Row, Samples
from offerd import ClusterExecutor
from offerd.errors import OfferdError
from offerd_cli.local_cluster import LocalCluster
from probe import RESOURCES
from processes import Snapshot, find, private_mb, resident_mb
from throughput import call_all, cluster

SLAVE_MB, SHIM_MB, SHIM_PRIVATE_MB, MASTER_MB = 40.0, 11.0, 3.0, 60.0
IDLE_PERCENT = 0.5
FAKE_SLAVES = 100
FRAMEWORKS = 10
TASKS_EACH = 1_000
"""As many as the master remembers for one framework."""


def measure(quick: bool) -> Findings:
    """Measure a real cluster that has worked and is idle now; then a master with very many slaves."""
    findings = Findings()
    _real_cluster(findings, calls=5_000 if quick else 30_000, rest_s=5.0 if quick else 20.0)
    _large_master(findings)
    return findings


def _real_cluster(findings: Findings, calls: int, rest_s: float) -> None:
    with cluster() as local, ClusterExecutor(local.address, cpus="0.02", mem="1M", timeout=60) as executor:
        call_all(executor, calls)
        executor.submit(int).result(30)
        slaves = [slave.pid for slave in local.slaves]
        shims = find(local, "shims")
        if not shims:
            raise OfferdError("no shim is found below the slaves though an executor runs")
        _memory_row(
            findings,
            f"slave, resident, after {calls:,} tasks",
            [resident_mb(pid) for pid in slaves],
            SLAVE_MB,
        )
        _memory_row(findings, "shim, resident", [resident_mb(pid) for pid in shims], SHIM_MB)
        _memory_row(findings, "shim, private", [private_mb(pid) for pid in shims], SHIM_PRIVATE_MB)
        _memory_row(findings, "master, resident, 2 slaves", [resident_mb(local.master.pid)], None)
        before = Snapshot.take(local)
        # The pause is the time that is measured; nothing is waited for.
        time.sleep(rest_s)
        spent = before.until(Snapshot.take(local))
    for name in ("master", "slave 1", "slave 2"):
        percent = spent.by_role[name] / spent.wall_s * 100
        bound = Bound(IDLE_PERCENT, at_least=False)
        findings.rows.append(
            Row(f"{name}, CPU at rest over {rest_s:.0f} s", "%", Samples.of([percent]), bound=bound)
        )


def _memory_row(findings: Findings, measure: str, values: list[float], limit: float | None) -> None:
    # Each process must stay below the limit, so the largest counts.
    bound = None if limit is None else Bound(limit, at_least=False)
    findings.rows.append(Row(measure, "MB", Samples.of([max(values)]), bound=bound))


def _large_master(findings: Findings) -> None:
    tasks = FRAMEWORKS * TASKS_EACH
    with ExitStack() as stack:
        local = stack.enter_context(LocalCluster(slaves=0))
        alone_mb = resident_mb(local.master.pid)
        pipe = stack.enter_context(child(serve, f"tcp://{local.address}", FAKE_SLAVES))
        receive(pipe, f"{FAKE_SLAVES} slaves to register")
        for number in range(FRAMEWORKS):
            batch = stack.enter_context(running(local.address, f"bench-{number}", TASKS_EACH, RESOURCES))
            wait_ended(batch, TASKS_EACH)
        with local.ask() as client:
            known = sum(1 for _ in client.tasks())
        if known != tasks:
            raise OfferdError(f"the master remembers {known} of {tasks} tasks: its memory is not comparable")
        grown_mb = resident_mb(local.master.pid)
    _memory_row(
        findings, f"master, resident, {FAKE_SLAVES} slaves, {tasks:,} finished tasks", [grown_mb], MASTER_MB
    )
    _memory_row(findings, "master, resident, alone", [alone_mb], None)
