"""Scalability (the paper's section 6.5): how long a task waits for a master with up to 50,000 slaves.

200 frameworks launch one task for each offered slave; tasks take N(30 s, 10 s), with at most two on a slave. In steady state a
probe registers and launches one task of 10 s. Its extra delay is the time from its registration to the end of its task, less 10
s; the result is the mean of five probes. One more registers a millisecond after the master has begun to ping all slaves, which
is the worst moment.

The master computes in real time: the processor time of each turn of its core is measured, and the master is busy for as long in
virtual time. Pings have their default interval. Nothing else takes time: no network, no encoding, no sockets. So the delay is
that of the core and the allocation module, and of waiting for a free slot.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from offerd import messages as m
from offerd.resources import Resources
from offerd_master.settings import MasterSettings
from offerd_simulator.cluster import Cluster
from offerd_simulator.engine import Engine
from offerd_simulator.frameworks.probe import OnePerSlave, Probe
from offerd_simulator.results import Column, Figure, Line, Options, Panel, Progress, Result, Row, Table
from offerd_simulator.slaves import add_slaves
from offerd_simulator.statistics import Estimate, stream

PAPER_S = {
    1_000: 0.14, 5_000: 0.18, 10_000: 0.23, 15_000: 0.27, 20_000: 0.38, 30_000: 0.39, 40_000: 0.54, 50_000: 0.75,
}  # fmt: skip
SLAVES = (1_000, 5_000, 10_000, 20_000, 50_000)
QUICK_SLAVES = (200, 1_000)
FRAMEWORKS = 200
TASK_MEAN_S, TASK_SD_S, PROBE_S = 30.0, 10.0, 10.0
PROBES = 5
PROBE_EVERY_S = 2.7
"""Not a divisor of the ping interval, so that probes meet the master at different moments."""
SETTLE_S = 12.0
TURN_S = 0.0
"""How soon an idle master takes up a message."""
BOUND_S = 0.1
NODE = Resources.of(cpus=2, mem="2G")


@dataclass(frozen=True, slots=True)
class Measured:
    """The result for one size of cluster."""

    slaves: int
    probes_s: tuple[float, ...]
    load: float
    longest_turn_s: float
    launches_per_s: float
    among_pings_s: float


def task_s(source: Random) -> float:
    """N(30 s, 10 s), but at least 0.1 s."""
    return max(0.1, source.gauss(TASK_MEAN_S, TASK_SD_S))


def residual_s(source: Random) -> float:
    """What is left of a running task at a random moment: long tasks are met more often, anywhere in their time."""
    while True:
        duration_s = task_s(source)
        if source.random() < duration_s / (TASK_MEAN_S + 5 * TASK_SD_S):
            return duration_s * source.random()


def measure(
    slaves: int, seed: int, tick: Callable[[float], None], clock: Callable[[], float] = time.process_time
) -> Measured:
    """Fill a cluster, let it settle, and send the probes. `clock` measures the core."""
    engine = Engine()
    cluster = Cluster(engine, settings=MasterSettings(), turn_s=TURN_S)
    source = stream(seed, "scale", slaves)
    frameworks = [OnePerSlave(f"load{i}", cluster, lambda: residual_s(source)) for i in range(FRAMEWORKS)]
    engine.run(0.1)
    add_slaves(cluster, [m.SlaveInfo(f"slave{i}", NODE, long_fraction=1.0) for i in range(slaves)])
    engine.run(0.5)
    for framework in frameworks:
        framework.draw = lambda: task_s(source)
    # More than the simulator's own million objects: collecting those is no part of a master's work.
    gc.collect()
    gc.freeze()
    try:
        cluster.clock = clock
        step_s = SETTLE_S / 8
        for i in range(8):
            engine.run(engine.now + step_s)
            tick(0.4 * (i + 1) / 8)
        started_at, busy_s, ended = engine.now, cluster.busy_s, sum(f.finished for f in frameworks)
        cluster.longest_turn_s = 0.0
        probes = []
        for i in range(PROBES):
            probes.append(Probe(f"probe{i}", cluster, PROBE_S))
            engine.run(engine.now + PROBE_EVERY_S)
            tick(0.4 + 0.4 * (i + 1) / PROBES)
        interval_s = cluster.settings.ping_interval_s
        engine.run((engine.now // interval_s + 1) * interval_s + 0.001)
        unlucky = Probe("unlucky", cluster, PROBE_S)
        engine.run_while(lambda: any(probe.extra_s is None for probe in [*probes, unlucky]), limit=1e4)
        tick(1.0)
    finally:
        gc.unfreeze()
    span_s = engine.now - started_at
    return Measured(
        slaves,
        tuple(probe.extra_s or 0.0 for probe in probes),
        (cluster.busy_s - busy_s) / span_s,
        cluster.longest_turn_s,
        (sum(f.finished for f in frameworks) - ended) / span_s,
        unlucky.extra_s or 0.0,
    )


def run(options: Options, progress: Progress) -> Result:
    sizes = options.slaves or (QUICK_SLAVES if options.quick else SLAVES)
    measured = []
    for i, slaves in enumerate(sizes):
        before, whole = sum(sizes[:i]), sum(sizes)
        measured.append(
            measure(
                slaves,
                options.seed,
                lambda part: progress((before + part * slaves) / whole, f"{slaves:,} slaves"),  # noqa: B023
            )
        )
    result = Result(
        "scale",
        "Scalability: a probe among many slaves",
        options.seed,
        {"frameworks": FRAMEWORKS, "task_s": [TASK_MEAN_S, TASK_SD_S], "probe_s": PROBE_S, "probes": PROBES},
        [_table(measured)],
    )
    largest = measured[-1]
    mean_s = sum(largest.probes_s) / PROBES
    verdict = "within" if mean_s <= BOUND_S else "above"
    result.findings = [
        f"With {largest.slaves:,} slaves the probe waits {1000 * mean_s:.1f} ms, {verdict} the bound of "
        f"{1000 * BOUND_S:.0f} ms; {1000 * largest.among_pings_s:.0f} ms if it comes while all slaves are "
        "pinged."
    ]
    result.figures = [_figure(measured)]
    return result


def _table(measured: list[Measured]) -> Table:
    columns = [
        Column("slaves", "slaves"),
        Column("paper_s", "paper: probe, s"),
        Column("probe_s", "probe, s, 95 %", 4),
        Column("worst_s", "worst, s", 4),
        Column("among_pings_s", "among pings, s", 4),
        Column("load", "core busy, %", 1),
        Column("longest_turn_ms", "longest turn, ms", 1),
        Column("launches_per_s", "launches/s", 0),
    ]
    rows: list[Row] = [
        [
            found.slaves,
            PAPER_S.get(found.slaves),
            Estimate.of(found.probes_s),
            max(found.probes_s),
            found.among_pings_s,
            100 * found.load,
            1000 * found.longest_turn_s,
            found.launches_per_s,
        ]
        for found in measured
    ]
    note = (
        "The paper's probe went over a network, with 99 machines of slaves; ours counts the processor time "
        "of the master's core, measured here and now, and the wait for a free slot. Processor times differ "
        "from run to run, whatever the seed."
    )
    return Table("scale", "Extra delay of the probe", columns, rows, note)


def _figure(measured: list[Measured]) -> Figure:
    x = [float(found.slaves) for found in measured]
    estimates = [Estimate.of(found.probes_s) for found in measured]
    paper = Line("paper, network and all", list(map(float, PAPER_S)), list(PAPER_S.values()), "marked")
    ours = Line("offerd, core alone", x, [e.mean for e in estimates], "marked")
    busy = Line("", x, [100 * found.load for found in measured], "marked")
    return Figure(
        "scale",
        "A probe among many slaves",
        [
            Panel("Extra delay of the probe", "slaves", "s", [paper, ours], log_y=True),
            Panel("The master's core", "slaves", "busy, %", [busy]),
        ],
    )
