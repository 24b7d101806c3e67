"""The cost of keys: a cluster with keys beside one without, on the same host, run by run: rate, latency, and one command."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from figures import Bound, Findings, Row, Samples, beside, percentile
from latency import CallTimer, calling
from offerd import ClusterExecutor
from offerd_cli.local_cluster import LocalCluster
from throughput import CPUS_EACH, SLAVES, call_all

RATE_RATIO = 0.85
LATENCY_RATIO = 1.15
WARM_CALLS = 10
"""Calls that are not counted at the start of each part: the other cluster has just filled the processor caches."""


def cluster(*, insecure: bool) -> LocalCluster:
    """Both clusters run executors as the present user: another user might not be able to read this Python."""
    user = ("--default-user", "root") if insecure and not os.geteuid() else ()
    return LocalCluster(SLAVES, cpus=str(CPUS_EACH), isolation="noop", insecure=insecure, slave_options=user)


def time_run_s(local: LocalCluster) -> float:
    """The time of a whole `offerd run -- true`, which finds its key as any other command does."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "offerd_cli.main", "run", "--", "true"],
        env={**os.environ, "OFFERD_MASTER": local.address},
        check=True,
    )
    return time.perf_counter() - started


def measure(quick: bool) -> Findings:
    """Measure pairs: without keys right beside with keys."""
    runs, calls, parts, trips, commands = (2, 10_000, 3, 30, 3) if quick else (7, 40_000, 12, 60, 20)
    rates: dict[bool, list[float]] = {True: [], False: []}
    running: dict[bool, list[float]] = {True: [], False: []}
    ended: dict[bool, list[float]] = {True: [], False: []}
    command_s: dict[bool, list[float]] = {True: [], False: []}
    with cluster(insecure=False) as keyed, cluster(insecure=True) as bare:
        both = {True: keyed, False: bare}
        for _ in range(runs):
            for has_keys, local in both.items():
                with ClusterExecutor(local.address, cpus="0.02", mem="1M", timeout=60) as executor:
                    call_all(executor, calls // 10)
                    rates[has_keys].append(calls / call_all(executor, calls))
        for _ in range(runs):
            # Short parts, side by side, because the other load of a shared host changes from second to second.
            with calling(keyed.address) as with_keys, calling(bare.address) as without:
                timers = {True: CallTimer(with_keys), False: CallTimer(without)}
                for _ in range(parts):
                    for has_keys, timer in timers.items():
                        timer.time(WARM_CALLS)
                        times = timer.time(trips)
                        running[has_keys].append(percentile([heard.running_ms for heard in times], 50))
                        ended[has_keys].append(percentile([heard.ended_ms for heard in times], 50))
        for _ in range(commands):
            for has_keys, local in both.items():
                command_s[has_keys].append(time_run_s(local) * 1e3)
    at_most = Bound(LATENCY_RATIO, at_least=False, of_ratio=True)
    return Findings(
        [
            _row("no-op Python calls with keys", "tasks/s", rates, Bound(RATE_RATIO, of_ratio=True)),
            _row("Python call with keys, submit to RUNNING, p50", "ms", running, at_most),
            _row("the same, submit to result, p50", "ms", ended, at_most),
            _row("`offerd run -- true` with keys", "ms", command_s, None),
        ]
    )


def _row(name: str, unit: str, values: dict[bool, list[float]], bound: Bound | None) -> Row:
    ratios = beside(values[True], values[False])
    return Row(name, unit, Samples.of(values[True]), Samples.of(values[False]), "without keys", ratios, bound)
