"""A slave whose every metric has a value: a core with a task that runs, one that waits for its acknowledgement and one that was
refused, and what the daemon's other parts would say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.daemons.timings import Histogram
from offerd_isolation.base import Usage
from offerd_slave.journal import Journal
from offerd_slave.metric_sources import MetricSources

USAGE = Usage(
    cpu_s=12.5, mem_bytes=1 << 20, peak_mem_bytes=1 << 21, processes=3, throttled_s=0.5,
    cpu_pressure=10.0, mem_pressure=20.0, io_pressure=30.0,
)  # fmt: skip


@contextmanager
def busy_slave(directory: Path) -> Iterator[tuple[Bench, MetricSources]]:
    """The core on its bench, and the sources of its metrics. The directory holds its journal."""
    bench = Bench()
    container_id = bench.running(task("runs", limit_s=None), task("ends"))
    bench.update("ends", m.TaskState.FAILED, 2, 3, limit="memory.max=1024")
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("huge", cpus=100)]))
    journal = Journal(directory / "journal")
    shims: Any = SimpleNamespace(watched=2)
    zygote: Any = SimpleNamespace(starts=1, under_way=3)
    syncs, lag = Histogram(), Histogram()
    syncs.add(0.002)
    lag.add(0.2)
    measured = {container_id: (0.25, USAGE)}
    try:
        yield (
            bench,
            MetricSources(bench.core, "noop", directory, journal, syncs, lag, measured, shims, zygote),
        )
    finally:
        journal.close()
