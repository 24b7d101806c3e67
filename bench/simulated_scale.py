"""The paper's probe among many slaves (its section 6.5), in virtual time but with the core's real computing time, as rows."""

from __future__ import annotations

from figures import Bound, Findings, Row, Samples
from offerd_simulator.experiments import scale

SLAVES, QUICK_SLAVES, SEED = (10_000, 50_000), (10_000,), 1


def measure(quick: bool) -> Findings:
    """Five probes for each number of slaves; the bound is for the largest."""
    rows = []
    for slaves in QUICK_SLAVES if quick else SLAVES:
        found = scale.measure(slaves, SEED, lambda done: None)
        paper = Samples.of([1000 * scale.PAPER_S[slaves]])
        probes = Samples.of(1000 * probe_s for probe_s in found.probes_s)
        bound = Bound(1000 * scale.BOUND_S, at_least=False) if slaves == max(SLAVES) else None
        name = "the paper's Mesos, over a network"
        rows.append(Row(f"probe among {slaves:,} slaves", "ms", probes, paper, name, bound=bound))
        busy = Samples.of([100 * found.load])
        rows.append(Row(f"core busy with {slaves:,} slaves, {found.launches_per_s:,.0f} tasks/s", "%", busy))
    return Findings(rows)
