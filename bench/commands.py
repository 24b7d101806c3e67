"""`/bin/true` as one process each through `offerd map`, beside `xargs -P2`; and again when the slaves have run for long."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batches import running, wait_ended
from figures import Bound, Findings, Row, Samples, beside
from offerd.errors import OfferdError
from offerd.resources import Resources
from offerd_cli.local_cluster import LocalCluster
from processes import Snapshot, Spent
from throughput import cluster, where_time_goes

DEADLINE_S = 240.0
SLOT = ("--cpus", "0.1", "--mem", "1M")
RESOURCES = Resources.of(cpus="0.1", mem="1M")
NOT_SLOWER = 0.95
"""Bound on the ratios to xargs, late against early: two equal runs differ by so much."""


class Arguments:
    """A file of words, one in each line."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.path = folder / f"arguments-{count}"
        self.path.write_text("".join(f"{number}\n" for number in range(count)))


def xargs_rate(arguments: Arguments) -> float:
    """Processes per second with `xargs -P2`."""
    words = ["xargs", "-a", str(arguments.path), "-P2", "-n1", "/bin/true"]
    return arguments.count / _timed(words)


def map_rate(address: str, arguments: Arguments) -> float:
    """Processes per second with `offerd map`, its own start and end included."""
    words = [sys.executable, "-m", "offerd_cli.main", "map", "--master", address, *SLOT]
    words += ["--timeout", "60s"]  # short tasks may use the whole slave
    return arguments.count / _timed([*words, "--", "/bin/true", "::::", str(arguments.path)])


def _timed(words: list[str]) -> float:
    started = time.perf_counter()
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    if ended.returncode != 0:
        raise OfferdError(f"{words[0]} ended with status {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return time.perf_counter() - started


def measure(quick: bool) -> Findings:
    """Measure early, then run very many tasks, then measure late, all on the same slaves."""
    count, runs, ageing = (2_000, 2, 5_000) if quick else (10_000, 3, 100_000)
    with tempfile.TemporaryDirectory(prefix="offerd-bench-") as folder, cluster() as local:
        arguments = Arguments(Path(folder), count)
        map_rate(local.address, Arguments(Path(folder), 200))
        early, early_xargs = _pairs(local.address, arguments, runs)
        map_rate(local.address, Arguments(Path(folder), ageing))
        late, late_xargs = _pairs(local.address, arguments, runs)
        spent = account(local, count)
    ageing_words = f"after {ageing:,} tasks more"
    first = beside(early, early_xargs)
    then = beside(late, late_xargs)
    at_least_xargs = Bound(1.0, of_ratio=True)
    findings = Findings(
        [
            _row(
                f"offerd map /bin/true, {count:,}, slots of 0.1 cpu",
                early,
                early_xargs,
                first,
                at_least_xargs,
            ),
            _row(f"the same {ageing_words}", late, late_xargs, then, at_least_xargs),
            Row(
                "its ratio to xargs, late / early",
                "ratio",
                Samples.of([then.median]),
                Samples.of([first.median]),
                "early",
                Samples.of([then.median / first.median]),
                Bound(NOT_SLOWER, of_ratio=True),
            ),
        ]
    )
    findings.notes.append(where_time_goes(f"{count:,} processes as `offerd map` runs them", [spent], count))
    return findings


def _pairs(address: str, arguments: Arguments, runs: int) -> tuple[list[float], list[float]]:
    """Rates of offerd and of xargs, in turn."""
    ours, theirs = [], []
    for _ in range(runs):
        theirs.append(xargs_rate(arguments))
        ours.append(map_rate(address, arguments))
    return ours, theirs


def account(local: LocalCluster, count: int) -> Spent:
    """CPU time by role. The executors end with `offerd map`, so their CPU time is taken before."""
    warm = count // 10
    with running(local.address, "account", warm + count, RESOURCES) as batch:
        wait_ended(batch, warm)
        before = Snapshot.take(local)
        wait_ended(batch, count)
        return before.until(Snapshot.take(local))


def _row(measure: str, ours: list[float], theirs: list[float], ratios: Samples, bound: Bound) -> Row:
    return Row(measure, "tasks/s", Samples.of(ours), Samples.of(theirs), "xargs -P2", ratios, bound)
