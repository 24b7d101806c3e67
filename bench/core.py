"""The master's core alone, without sockets: `master_core.py` as one row."""

from __future__ import annotations

from figures import Bound, Findings, Row, Samples
from master_core import TARGET_PER_S, Bench

SLAVES, FRAMEWORKS, SLOTS, SEED = 2, 1, 100, 1


def measure(quick: bool) -> Findings:
    """Run the same core several times."""
    runs, tasks = (2, 50_000) if quick else (5, 200_000)
    bench = Bench(SLAVES, FRAMEWORKS, SLOTS, SEED)
    bench.run(2_000)
    rates = Samples.of(bench.run(tasks) for _ in range(runs))
    return Findings(
        [Row("master core alone, life-cycles of tasks", "tasks/s", rates, bound=Bound(TARGET_PER_S))]
    )
