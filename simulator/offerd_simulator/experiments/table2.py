"""The paper's Table 2: a framework takes over `k` slots of a busy cluster, as the tasks on them end.

Times are in units of T, the mean duration of tasks. Each slot is a slave of one cpu, on which a task of another framework has
been running for a time. What is left of it is uniform on 0..T if all tasks take T, and exponential if they are exponential.
That framework wants no more at time 0, when ours arrives, so each slot becomes ours when its task ends.

* Elastic: computes on each slot as soon as it has it. The paper assumes that the last tasks end together, so the completion is
  that of divisible work: when the slots have computed beta*k*T together. The table also has whole tasks: the end of the last of
  the first beta*k tasks.
* Rigid: holds slots idle until it has all of them, then computes for beta*T.

Utilization is the time computed over the time held, over all runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from offerd import messages as m
from offerd_master.allocation.policy import Policy
from offerd_master.settings import MasterSettings
from offerd_simulator.cluster import NO_PINGS_S, Cluster
from offerd_simulator.curves import Curve
from offerd_simulator.engine import Engine
from offerd_simulator.frameworks.base import SLOT
from offerd_simulator.frameworks.slots import Background, Elastic, Rigid
from offerd_simulator.results import Column, Figure, Line, Options, Panel, Progress, Result, Row, Table
from offerd_simulator.slaves import add_slaves
from offerd_simulator.statistics import Estimate, harmonic, stream

T = 1000.0
"""Mean duration, in seconds: long in comparison with the milliseconds that offers take."""
CONSTANT, EXPONENTIAL = "constant", "exponential"
DISTRIBUTIONS = (CONSTANT, EXPONENTIAL)
_POINTS = 60
_PLOTTED_T = 4.0


@dataclass(frozen=True, slots=True)
class Size:
    """The number of slots, the amount of work, the number of runs."""

    ks: tuple[int, ...] = (20, 100)
    betas: tuple[int, ...] = (1, 3, 10)
    runs: int = 100
    n: int = 1000
    claim: int = 100
    claim_runs: int = 40


QUICK = Size(ks=(5, 10), betas=(1, 3), runs=60, n=60, claim=10, claim_runs=20)


@dataclass(slots=True)
class Sample:
    """The results of many runs with one k and distribution; times in units of T, by beta."""

    ramp_up: list[float] = field(default_factory=list)
    divisible: dict[int, list[float]] = field(default_factory=dict)
    whole: dict[int, list[float]] = field(default_factory=dict)
    elastic_use: list[float] = field(default_factory=list)
    rigid_ramp_up: list[float] = field(default_factory=list)
    rigid: dict[int, list[float]] = field(default_factory=dict)
    rigid_held: dict[int, list[float]] = field(default_factory=dict)
    share: list[float] = field(default_factory=lambda: [0.0] * _POINTS)


# -- One run ------------------------------------------------------------------------------------------------------------


def draws(distribution: str, seed: int, *purpose: object) -> tuple[Callable[[], float], Callable[[], float]]:
    """Durations of new tasks, and what is left of tasks that have been running for long."""
    random = stream(seed, distribution, *purpose)
    if distribution == CONSTANT:
        return (lambda: T), (lambda: random.uniform(0.0, T))
    exponential: Callable[[], float] = lambda: random.expovariate(1 / T)  # noqa: E731
    return exponential, exponential


def busy_cluster(
    n: int, distribution: str, seed: int, run: int, settings: MasterSettings | None = None, role: str = "*"
) -> tuple[Engine, Cluster, Background]:
    """`n` slots, each with a task that will end."""
    engine = Engine()
    cluster = Cluster(engine, settings=settings)
    add_slaves(cluster, [m.SlaveInfo(f"slot{i}", SLOT, long_fraction=1.0) for i in range(n)])
    draw, first = draws(distribution, seed, "background", n, run)
    background = Background("background", cluster, draw, first=first, n=n, role=role)
    engine.run(engine.now + 10 * cluster.turn_s)
    assert len(background.tasks) == n
    return engine, cluster, background


def run_elastic(k: int, distribution: str, betas: tuple[int, ...], seed: int, run: int, into: Sample) -> None:
    """One run gives the completion for every beta: the job is the first part of what the framework computes."""
    engine, cluster, background = busy_cluster(k, distribution, seed, run)
    background.stop()
    draw, _ = draws(distribution, seed, "elastic", k, run)
    ours = Elastic("ours", cluster, draw, k)
    most = max(betas) * k
    while ours.ramped_up_at is None or len(ours.ends) < most or any(map(math.isnan, ours.ends[:most])):
        engine.run(engine.now + T / 4)
    start = ours.started_at
    into.ramp_up.append((ours.ramped_up_at - start) / T)
    for beta in betas:
        done_at = time_of_integral(ours.held, beta * k * T * SLOT.millicpus)
        into.divisible.setdefault(beta, []).append((done_at - start) / T)
        into.whole.setdefault(beta, []).append((max(ours.ends[: beta * k]) - start) / T)
    computed_s = ours.useful_s + sum(
        engine.now - (task.started_at or engine.now) for task in ours.tasks.values()
    )
    held_s = ours.held.integral(start, engine.now) / SLOT.millicpus
    into.elastic_use.append(computed_s / held_s)
    held = ours.held.sampled(start, start + _PLOTTED_T * T, _POINTS)
    into.share = [total + value / SLOT.millicpus / k for total, value in zip(into.share, held, strict=True)]


def run_rigid(k: int, distribution: str, beta: int, seed: int, run: int, into: Sample) -> None:
    engine, cluster, background = busy_cluster(k, distribution, seed, run)
    background.stop()
    ours = Rigid("ours", cluster, k, beta * T)
    while ours.ended_at is None:
        engine.run(engine.now + T)
    assert ours.ramped_up_at is not None
    start = ours.started_at
    into.rigid_ramp_up.append((ours.ramped_up_at - start) / T)
    into.rigid.setdefault(beta, []).append((ours.ended_at - start) / T)
    held = ours.held.integral(start, ours.ended_at) / SLOT.millicpus
    into.rigid_held.setdefault(beta, []).append(held / (k * T))


def claim_any(n: int, k: int, distribution: str, seed: int, run: int) -> float:
    """Ramp-up if any `k` of `n` slots will do and the others go on: fair shares give our framework the first claim."""
    settings = MasterSettings(
        ping_interval_s=NO_PINGS_S, policy=Policy.of_weights({"ours": k, "others": n - k})
    )
    engine, cluster, _ = busy_cluster(n, distribution, seed, run, settings, role="others")
    draw, _ = draws(distribution, seed, "claim", n, run)
    ours = Elastic("ours", cluster, draw, k, role="ours")
    while ours.ramped_up_at is None:
        engine.run(engine.now + T / 100)
    return (ours.ramped_up_at - ours.started_at) / T


def time_of_integral(curve: Curve, amount: float) -> float:
    """When the area under a curve reaches this amount. Raises `ValueError` if it never does."""
    total = 0.0
    for i, value in enumerate(curve.values):
        end = curve.times[i + 1] if i + 1 < len(curve.times) else math.inf
        if value and total + value * (end - curve.times[i]) >= amount:
            return curve.times[i] + (amount - total) / value
        total += value * (end - curve.times[i]) if value else 0.0
    raise ValueError("the curve does not reach this area")


# -- Theory -------------------------------------------------------------------------------------------------------------


def exact_ramp_up(k: int, distribution: str) -> float:
    """The mean of the largest of `k` residual times."""
    return k / (k + 1) if distribution == CONSTANT else harmonic(k)


def elastic_exponential(beta: float) -> float:
    """Completion for many slots: the root of x - 1 + exp(-x) = beta. The paper's 1 + beta is larger for small beta."""
    low, high = 0.0, beta + 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if middle - 1 + math.exp(-middle) < beta else (low, middle)
    return high


def formulas(k: int, beta: float, distribution: str) -> dict[str, tuple[float, float]]:
    """By quantity: the paper's formula, and the exact value of what is simulated."""
    ramp_up = exact_ramp_up(k, distribution)
    if distribution == CONSTANT:
        return {
            "ramp-up": (1.0, ramp_up),
            "elastic": (0.5 + beta, 0.5 + beta),
            "rigid": (1.0 + beta, ramp_up + beta),
            "use": (beta / (0.5 + beta), beta / (ramp_up - 0.5 + beta)),
        }
    return {
        "ramp-up": (math.log(k), ramp_up),
        "elastic": (1.0 + beta, elastic_exponential(beta)),
        "rigid": (math.log(k) + beta, ramp_up + beta),
        "use": (beta / (math.log(k) - 1 + beta), beta / (ramp_up - 1 + beta)),
    }


# -- The experiment -----------------------------------------------------------------------------------------------------


def run(options: Options, progress: Progress) -> Result:
    size = QUICK if options.quick else Size()
    samples: dict[tuple[int, str], Sample] = {}
    steps = [(k, d, i) for k in size.ks for d in DISTRIBUTIONS for i in range(size.runs)]
    weight = sum(k for k, _, _ in steps)
    done = 0
    for k, distribution, i in steps:
        sample = samples.setdefault((k, distribution), Sample())
        run_elastic(k, distribution, size.betas, options.seed, i, sample)
        for beta in size.betas:
            run_rigid(k, distribution, beta, options.seed, i, sample)
        done += k
        progress(0.9 * done / weight, f"{k} slots, {distribution} durations")
    claims = {
        d: [claim_any(size.n, size.claim, d, options.seed, i) for i in range(size.claim_runs)]
        for d in DISTRIBUTIONS
    }
    progress(1.0, "first claim")
    result = Result(
        "table2",
        "Table 2: ramp-up, completion and utilization",
        options.seed,
        {"k": size.ks, "beta": size.betas, "runs": size.runs, "T_s": T},
    )
    result.tables = [
        _ramp_up_table(size, samples, claims),
        _completion_table(size, samples),
        _utilization_table(size, samples),
    ]
    result.figures = [_figure(size, samples)]
    result.findings = [
        "The paper's exponential ramp-up, T ln k, leaves out Euler's constant: the exact mean is T H_k "
        "(5.19 T and not 4.61 T for 100 slots), and every rigid formula that contains it is as much too "
        "small.",
        "The elastic, exponential completion (1 + beta) T is an upper bound: it counts slots that a short "
        "job never gets. Many slots complete at the root of x - 1 + exp(-x) = beta: 1.84 T for beta = 1, "
        "and 1 + beta from about beta = 5 on.",
        "The paper's completion assumes that the last tasks end together. With whole tasks an elastic job "
        "of constant durations takes as long as a rigid one: its last slot comes at T and computes beta "
        "tasks like all others.",
        "All this is the case of k specific slots. With the first claim on any freed slot, which fair "
        "shares give to a newcomer, the ramp-up is about k/n T: ten times shorter with a tenth of the "
        "cluster.",
    ]
    return result


def _ramp_up_table(
    size: Size, samples: dict[tuple[int, str], Sample], claims: dict[str, list[float]]
) -> Table:
    columns = [
        Column("slots", "slots"),
        Column("durations", "durations"),
        Column("paper", "paper"),
        Column("exact", "exact", 3),
        Column("simulated", "simulated, 95 %", 3),
        Column("contains_exact", "exact in it"),
    ]
    rows: list[Row] = []
    for (k, distribution), sample in samples.items():
        paper, exact = formulas(k, 1, distribution)["ramp-up"]
        found = Estimate.of(sample.rigid_ramp_up[:: len(size.betas)])
        rows.append([f"k={k}, specific", distribution, paper, exact, found, found.contains(exact)])
    for distribution, values in claims.items():
        n, k = size.n, size.claim
        exact = k / (n + 1) if distribution == CONSTANT else harmonic(n) - harmonic(n - k)
        found = Estimate.of(values)
        label = f"any k={k} of n={n}"
        rows.append([label, distribution, k / n, exact, found, found.contains(exact)])
    note = "In units of T. Exact: the mean of the latest of k residual durations; of any of n slots, the k-th earliest."
    return Table("ramp_up", "Ramp-up", columns, rows, note)


def _completion_table(size: Size, samples: dict[tuple[int, str], Sample]) -> Table:
    columns = [
        Column("k", "k"),
        Column("beta", "beta"),
        Column("framework", "framework"),
        Column("durations", "durations"),
        Column("paper", "paper"),
        Column("exact", "exact"),
        Column("simulated", "simulated, 95 %"),
        Column("whole_tasks", "whole tasks"),
    ]
    rows: list[Row] = []
    for (k, distribution), sample in samples.items():
        for beta in size.betas:
            for framework in ("elastic", "rigid"):
                paper, exact = formulas(k, beta, distribution)[framework]
                values = sample.divisible if framework == "elastic" else sample.rigid
                whole = Estimate.of(sample.whole[beta]) if framework == "elastic" else None
                rows.append(
                    [k, beta, framework, distribution, paper, exact, Estimate.of(values[beta]), whole]
                )
    note = (
        "In units of T. Exact: of what is simulated, with divisible work; elastic and exponential: the "
        "limit for many slots. Whole tasks: without the paper's assumption that the last tasks end "
        "together."
    )
    return Table("completion", "Completion", columns, rows, note)


def _utilization_table(size: Size, samples: dict[tuple[int, str], Sample]) -> Table:
    columns = [
        Column("k", "k"),
        Column("beta", "beta"),
        Column("framework", "framework"),
        Column("durations", "durations"),
        Column("paper", "paper", 3),
        Column("exact", "exact", 3),
        Column("simulated", "simulated, 95 %", 3),
    ]
    rows: list[Row] = []
    for (k, distribution), sample in samples.items():
        rows.append([k, None, "elastic", distribution, 1.0, 1.0, Estimate.of(sample.elastic_use)])
        for beta in size.betas:
            paper, exact = formulas(k, beta, distribution)["use"]
            found = Estimate.of(sample.rigid_held[beta]).reciprocal(beta)
            rows.append([k, beta, "rigid", distribution, paper, exact, found])
    note = "Time computed over time held. An elastic framework loses only the milliseconds between two tasks."
    return Table("utilization", "Utilization", columns, rows, note)


def _figure(size: Size, samples: dict[tuple[int, str], Sample]) -> Figure:
    k = max(size.ks)
    x = [_PLOTTED_T * (i + 0.5) / _POINTS for i in range(_POINTS)]
    ramps, completions = [], []
    betas = [b / 10 for b in range(5, 10 * max(size.betas) + 1, 5)]
    for colour, distribution in enumerate(DISTRIBUTIONS):
        sample = samples[k, distribution]
        shares = [100 * value / size.runs for value in sample.share]
        theory = [min(t, 1.0) if distribution == CONSTANT else 1 - math.exp(-t) for t in x]
        ramps += [
            Line(f"{distribution}, simulated", x, shares, colour=colour),
            Line(f"{distribution}, theory", x, [100 * share for share in theory], "dashes", colour=colour),
        ]
        for framework, style in (("elastic", "line"), ("rigid", "dashes")):
            found = sample.divisible if framework == "elastic" else sample.rigid
            estimates = [Estimate.of(found[beta]) for beta in size.betas]
            paper = [formulas(k, beta, distribution)[framework][0] - beta for beta in betas]
            completions.append(Line(f"{framework}, {distribution}", betas, paper, style, colour=colour))
            excess = [e.mean - beta for e, beta in zip(estimates, size.betas, strict=True)]
            errors = [e.half_width for e in estimates]
            completions.append(Line("", list(size.betas), excess, "points", errors, colour=colour))
    completions.append(Line("simulated", [], [], "points", colour=6))
    return Figure(
        "table2",
        f"A framework takes over {k} slots",
        [
            Panel("Ramp-up", "time / T", "slots held, %", ramps),
            Panel(
                "Completion, the paper's formulas and simulated", "beta", "completion / T - beta", completions
            ),
        ],
    )
