"""Long tasks: how often a node fills with them, and whether killing by the clock causes inefficient re-execution.

1. The paper (section 4.4): if a fraction phi of a cluster's time is used by long tasks without a bound, a node of S slots is
   full of them with probability phi^S. Simulated with a framework that draws lots for each task, and nodes inspected at
   intervals; and the same with a long fraction of one half.
2. A question that the paper leaves open. A batch framework always has work, does not know how long it takes, and declares it by
   a policy; people run short jobs beside it, with a fair share. A task killed at its limit starts again from nothing.
   Varied: the limit of short tasks, the part of a slave for long ones, the distribution of durations.
3. Slaves with few cpus. Half of one cpu holds no task of one cpu: by that rule alone, long tasks could run nowhere on such a
   cluster. What it gains and costs that the part for long tasks is at least one cpu.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from offerd import messages as m
from offerd.core.slots import ONE_CPU, long_quantities
from offerd.resources import Resources
from offerd_simulator.cluster import Cluster
from offerd_simulator.durations import KINDS, Durations, Exponential
from offerd_simulator.engine import Engine
from offerd_simulator.frameworks.limited import Batch, Interactive, Lots, Policy
from offerd_simulator.results import Column, Figure, Line, Options, Panel, Progress, Result, Row, Table
from offerd_simulator.slaves import add_slaves
from offerd_simulator.statistics import Estimate, quantile, stream

MEAN_S = 60.0
"""Resources of the batch framework's tasks."""
INTERACTIVE_LOAD = 0.15
"""The fraction of the cluster that short jobs use."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size and length of the simulation."""

    nodes: int = 200
    looks: int = 10
    phis: tuple[float, ...] = (0.3, 0.5, 0.7)
    slots: tuple[int, ...] = (2, 4, 8)
    slaves: int = 10
    slots_per_slave: int = 8
    limits_s: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0, 240.0)
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75)
    cpus: tuple[int, ...] = (1, 2, 4)
    warm_up_s: float = 600.0
    measured_s: float = 2400.0


QUICK = Size(
    nodes=60, looks=6, phis=(0.5,), slots=(2, 4), slaves=3, slots_per_slave=4, limits_s=(30.0, 60.0), fractions=(0.5,),
    cpus=(1, 4), warm_up_s=120.0, measured_s=900.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """The result of one setting: fractions of the cluster's time, times in seconds."""

    limit_s: float
    fraction: float
    policy: Policy
    useful: float
    wasted: float
    wasted_of_batch: float
    median_s: float
    p95_s: float


# -- 1: nodes full of long tasks ----------------------------------------------------------------------------------------


def full_nodes(
    phi: float, slots: int, fraction: float, nodes: int, looks: int, seed: int
) -> tuple[Estimate, float]:
    """The fraction of nodes full of long tasks, over several inspections; and the most that long tasks held of a node."""
    long, short = Exponential(100.0), Exponential(50.0)
    # The fraction of tasks that must be long for a fraction phi of the time to be long.
    p = phi * short.mean_s / (phi * short.mean_s + (1 - phi) * long.mean_s)
    engine = Engine()
    cluster = Cluster(engine)
    resources = Resources.of(cpus=slots, mem=f"{slots}G")
    infos = [
        m.SlaveInfo(f"node{i}", resources, long_fraction=fraction, short_limit_s=1e6) for i in range(nodes)
    ]
    add_slaves(cluster, infos)
    framework = Lots(cluster, p, long=long, short=short, source=stream(seed, "lots", phi, slots, fraction))
    engine.run(5 * long.mean_s)
    parts, most = [], 0.0
    for _ in range(looks):
        engine.run(engine.now + 2 * long.mean_s)
        held: dict[str, int] = {}
        for task in framework.tasks.values():
            if task.owner == "long":
                held[task.slave_id] = held.get(task.slave_id, 0) + 1
        parts.append(sum(count == slots for count in held.values()) / nodes)
        most = max(most, max(held.values(), default=0) / slots)
    return Estimate.of(parts), most


# -- 2: killing by the clock --------------------------------------------------------------------------------------------


def work(
    durations: Durations, policy: Policy, limit_s: float, fraction: float, size: Size, seed: int
) -> Point:
    """Simulate one cluster with one batch framework and one stream of short jobs."""
    engine = Engine()
    cluster = Cluster(engine)
    per_slave = size.slots_per_slave
    capacity = size.slaves * per_slave
    resources = Resources.of(cpus=per_slave, mem=f"{per_slave}G")
    add_slaves(
        cluster,
        [
            m.SlaveInfo(f"node{i}", resources, long_fraction=fraction, short_limit_s=limit_s)
            for i in range(size.slaves)
        ],
    )
    source = partial(stream, seed, durations.name)
    batch = Batch(
        cluster, durations, policy=policy, short_limit_s=limit_s, population=2 * capacity, source=source("batch")
    )  # fmt: skip
    task_s = sum(Interactive.durations) / 2
    rate = INTERACTIVE_LOAD * capacity / (task_s * Interactive.tasks_per_job)
    people = Interactive(cluster, rate, source("people"))
    engine.run(size.warm_up_s)
    useful_s, wasted_s = batch.useful_s + people.useful_s, batch.wasted_s
    batch_useful_s = batch.useful_s
    engine.run(size.warm_up_s + size.measured_s)
    whole_s = capacity * size.measured_s
    lost_s = batch.wasted_s - wasted_s
    ran_s = batch.useful_s - batch_useful_s + lost_s
    responses = [response for arrived, response in people.responses if arrived >= size.warm_up_s]
    return Point(
        limit_s,
        fraction,
        policy,
        (batch.useful_s + people.useful_s - useful_s) / whole_s,
        lost_s / whole_s,
        lost_s / ran_s if ran_s else 0.0,
        quantile(responses, 0.5),
        quantile(responses, 0.95),
    )


# -- 3: slaves of few cpus ----------------------------------------------------------------------------------------------


def of_few_cpus(cpus: int, size: Size, seed: int) -> tuple[Point, Point, Point]:
    """The same number of cpus in slaves of `cpus`; all batch tasks are long, with one cpu each. The cap on long tasks is half
    of a slave; half, but at least one cpu; and none.
    """
    capacity = size.slaves * size.slots_per_slave
    cut = replace(size, slaves=capacity // cpus, slots_per_slave=cpus)
    half, whole = (work(Exponential(MEAN_S), Policy.LONG, MEAN_S, part, cut, seed) for part in (0.5, 1.0))
    # Half of one cpu holds no task, so it is as if long tasks might hold nothing.
    alone = work(Exponential(MEAN_S), Policy.LONG, MEAN_S, 0.0, cut, seed) if cpus == 1 else half
    return alone, half, whole


def _few_cpus_table(size: Size, seed: int, done: Callable[[float], None]) -> Table:
    columns = [
        Column("cpus", "cpus of a slave"),
        Column("tasks", "long tasks of one cpu at once, by half alone"),
        Column("tasks_now", "now"),
        Column("useful", "useful, %: by half alone", 0),
        Column("useful_now", "now", 0),
        Column("useful_uncapped", "no cap", 0),
        Column("p95", "short jobs' p95, s: by half alone", 1),
        Column("p95_now", "now", 1),
        Column("p95_uncapped", "no cap", 1),
    ]
    rows: list[Row] = []
    for i, cpus in enumerate(size.cpus):
        points = of_few_cpus(cpus, size, seed)
        row: Row = [
            cpus,
            cpus // 2,
            long_quantities(Resources.of(cpus=cpus), 0.5)["cpus"] // ONE_CPU,
        ]
        row += [100 * point.useful for point in points]
        row += [point.p95_s for point in points]
        rows.append(row)
        done((i + 1) / len(size.cpus))
    note = (
        "All batch tasks are long and of one cpu, exponential, 60 s on average; the same number of cpus, in larger or smaller "
        "slaves."
    )
    return Table(
        "few_cpus",
        "Slaves of few cpus, half of each for long tasks, but one cpu at least",
        columns,
        rows,
        note,
    )


# -- The experiment -----------------------------------------------------------------------------------------------------


def run(options: Options, progress: Progress) -> Result:
    size = QUICK if options.quick else Size()
    result = Result(
        "long-tasks",
        "Long tasks, and killing by the clock",
        options.seed,
        {
            "mean_s": MEAN_S,
            "slots": size.slaves * size.slots_per_slave,
            "measured_s": size.measured_s,
            "interactive_load": INTERACTIVE_LOAD,
        },
    )
    fill = _fill_table(size, options.seed, lambda done: progress(0.3 * done, "nodes full of long tasks"))
    few = _few_cpus_table(size, options.seed, lambda done: progress(0.3 + 0.05 * done, "slaves of few cpus"))
    kinds = [kind(MEAN_S) for kind in KINDS]
    points: dict[str, list[Point]] = {}
    settings: list[tuple[Durations, Policy, float, float]] = []
    for kind in kinds:
        settings += [
            (kind, Policy.RETRY, limit, part) for limit, part in product(size.limits_s, size.fractions)
        ]
        settings.append((kind, Policy.LONG, MEAN_S, 1.0))
        settings += [(kind, policy, MEAN_S, 0.5) for policy in (Policy.LONG, Policy.DOUBLE, Policy.LEARN)]
    for i, (kind, policy, limit, part) in enumerate(settings):
        points.setdefault(kind.name, []).append(work(kind, policy, limit, part, size, options.seed))
        progress(0.35 + 0.65 * (i + 1) / len(settings), f"{kind.name}: {policy}")
    result.tables = [fill, _waste_table(kinds, points, size), _policy_table(points), few]
    result.figures = [_waste_figure(kinds, points, size), _latency_figure(points, size)]
    result.findings = _findings(kinds, points)
    return result


def _fill_table(size: Size, seed: int, done: Callable[[float], None]) -> Table:
    columns = [
        Column("phi", "phi", 1),
        Column("slots", "slots S"),
        Column("paper", "paper: phi^S, %"),
        Column("simulated", "simulated, 95 %"),
        Column("capped", "long fraction 0.5, %"),
        Column("most", "most held by long ones"),
    ]
    rows: list[Row] = []
    cells = list(product(size.phis, size.slots))
    for i, (phi, slots) in enumerate(cells):
        found, _ = full_nodes(phi, slots, 1.0, size.nodes, size.looks, seed)
        capped, most = full_nodes(phi, slots, 0.5, max(size.nodes // 8, 10), size.looks, seed)
        rows.append([phi, slots, 100 * phi**slots, found.scaled(100), 100 * capped.mean, most])
        done((i + 1) / len(cells))
    return Table("full_nodes", "Nodes full of long tasks", columns, rows)


def _waste_table(kinds: list[Durations], points: dict[str, list[Point]], size: Size) -> Table:
    columns = [
        Column("durations", "durations"),
        Column("limit", "limit / mean"),
        Column("formula", "lost by formula, %", 1),
        Column("lost", "lost, % of batch time", 1),
        *(Column(f"useful_{part}", f"useful at {part}, %", 0) for part in size.fractions),
        *(Column(f"p95_{part}", f"p95 at {part}, s", 1) for part in size.fractions),
    ]
    rows: list[Row] = []
    for kind in kinds:
        for limit_s in size.limits_s:
            mine = {
                point.fraction: point
                for point in points[kind.name]
                if point.policy is Policy.RETRY and point.limit_s == limit_s
            }
            widest = mine[max(size.fractions)]
            row: Row = [
                kind.name, limit_s / MEAN_S, 100 * kind.wasted(limit_s), 100 * widest.wasted_of_batch
            ]  # fmt: skip
            row += [100 * mine[part].useful for part in size.fractions]
            row += [mine[part].p95_s for part in size.fractions]
            rows.append(row)
    note = (
        "Each task is tried once as short, then as long. Useful: of the whole cluster's time; lost: at the largest long "
        "fraction; p95: response of short jobs (10 tasks of 2 to 8 s). Columns `at 0.5`: with that long "
        "fraction."
    )
    return Table("sweep", "Killing by the clock: limit, long fraction, durations", columns, rows, note)


def _policy_table(points: dict[str, list[Point]]) -> Table:
    columns = [
        Column("durations", "durations"),
        Column("policy", "declared"),
        Column("fraction", "long fraction", 1),
        Column("useful", "useful, %", 0),
        Column("wasted", "lost, %", 1),
        Column("median", "short jobs: median, s", 1),
        Column("p95", "p95, s", 1),
    ]
    rows: list[Row] = []
    for name, mine in points.items():
        chosen = [p for p in mine if p.limit_s == MEAN_S and (p.fraction == 0.5 or p.policy is Policy.LONG)]
        chosen.sort(key=lambda p: (-p.fraction, list(Policy).index(p.policy)))
        rows += [
            [name, p.policy.value, p.fraction, 100 * p.useful, 100 * p.wasted, p.median_s, p.p95_s]
            for p in chosen
        ]
    note = "The limit is the mean, the worst for exponential durations. A long fraction of 1, all tasks long: no limits."
    return Table("policies", "How a framework declares what it does not know", columns, rows, note)


def _findings(kinds: list[Durations], points: dict[str, list[Point]]) -> list[str]:
    every = [(kind, point) for kind in kinds for point in points[kind.name]]
    retried = [(kind, p) for kind, p in every if p.policy is Policy.RETRY]
    off = max(100 * abs(p.wasted_of_batch - kind.wasted(p.limit_s)) for kind, p in retried)
    worst = max(100 * p.wasted_of_batch for _, p in retried)

    def span(policy: Policy, of: Callable[[Point], float]) -> str:
        """The range over the distributions, with the mean as the limit and half of a slave for long tasks."""
        found = [of(p) for _, p in every if (p.policy, p.limit_s, p.fraction) == (policy, MEAN_S, 0.5)]
        return f"{100 * min(found):.0f} to {100 * max(found):.0f} %"

    return [
        "Without a bound a node is full of long tasks as often as phi^S says; with a long fraction of one half it never is.",
        "Killing by the clock cannot waste without bound: for tasks that are tried once with a limit and then run as "
        "long, at most half of the time is lost (Markov: limit x P(X > limit) <= E[X]), whatever the "
        "distribution and the limit.",
        "The loss found here agrees with the formula, limit x P(X > limit) over E[X] and that, within "
        f"{off:.1f} percentage points; {worst:.0f} % at the worst point of the sweep.",
        "With the mean as the limit, if a batch framework declares everything long, the cluster is "
        f"{span(Policy.LONG, lambda p: p.useful)} useful, because half of it is reserved; if it tries tasks as short "
        f"first, {span(Policy.RETRY, lambda p: p.useful)}, although it loses "
        f"{span(Policy.RETRY, lambda p: p.wasted)}: what it loses would mostly be idle.",
        f"Trying again and again is what is inefficient: doubled limits lose {span(Policy.DOUBLE, lambda p: p.wasted)}.",
    ]


def _waste_figure(kinds: list[Durations], points: dict[str, list[Point]], size: Size) -> Figure:
    limits = [min(size.limits_s) * (max(size.limits_s) / min(size.limits_s)) ** (i / 60) for i in range(61)]
    lost, useful = [], []
    ticks = [limit_s / MEAN_S for limit_s in size.limits_s]
    for colour, kind in enumerate(kinds):
        mine = [p for p in points[kind.name] if p.policy is Policy.RETRY]
        widest = [p for p in mine if p.fraction == max(size.fractions)]
        x = [p.limit_s / MEAN_S for p in widest]
        formula = [100 * kind.wasted(limit_s) for limit_s in limits]
        lost.append(Line("", [s / MEAN_S for s in limits], formula, "dashes", colour=colour))
        lost.append(Line(kind.name, x, [100 * p.wasted_of_batch for p in widest], "points", colour=colour))
        half = [p for p in mine if p.fraction == 0.5]
        useful.append(Line(kind.name, x, [100 * p.useful for p in half], "marked", colour=colour))
    lost.append(Line("bound", [limits[0] / MEAN_S, limits[-1] / MEAN_S], [50.0, 50.0], "dashes", colour=6))
    return Figure(
        "long-tasks-waste",
        "Killing by the clock, one retry as long",
        [
            Panel("Lost work", "short limit / mean duration", "% of the batch time", lost, log_x=True, y_max=55,
                  x_ticks=ticks),
            Panel("Useful work, long fraction 0.5", "short limit / mean duration", "% of the cluster", useful,
                  log_x=True, y_max=105, x_ticks=ticks),
        ],
    )  # fmt: skip


def _latency_figure(points: dict[str, list[Point]], size: Size) -> Figure:
    panels = []
    ticks = [limit_s / MEAN_S for limit_s in size.limits_s]
    for name, mine in points.items():
        lines = []
        for part in size.fractions:
            chosen = [p for p in mine if p.policy is Policy.RETRY and p.fraction == part]
            x = [p.limit_s / MEAN_S for p in chosen]
            lines.append(Line(f"long fraction {part}", x, [p.p95_s for p in chosen], "marked"))
        unlimited = next(p for p in mine if p.fraction == 1.0)
        ends = [min(size.limits_s) / MEAN_S, max(size.limits_s) / MEAN_S]
        if not math.isnan(unlimited.p95_s):
            lines.append(Line("no limits", ends, [unlimited.p95_s] * 2, "dashes", colour=6))
        panels.append(
            Panel(
                name, "short limit / mean duration", "p95 of short jobs, s", lines, log_x=True, x_ticks=ticks
            )
        )
    return Figure("long-tasks-latency", "Response of short jobs", panels)
