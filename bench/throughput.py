"""No-op Python calls through `ClusterExecutor` on a real cluster of two slaves, beside the bare pipeline; and the CPU time of
each role for them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import cloudpickle

from figures import Bound, Findings, Row, Samples, beside, number
from offerd import ClusterExecutor
from offerd_cli.local_cluster import LocalCluster
from pipeline_baseline import Pipeline
from processes import Snapshot, Spent

SLAVES = 2
CPUS_EACH = 2
DEADLINE_S = 120.0
BOUND_PER_S = 10_000
BOUND_PER_SLOT = 400


def noop(value: int) -> int:
    """The function that is called."""
    return value


# The slaves do not have this module, so the function must travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def cluster(cpus_each: int = CPUS_EACH) -> LocalCluster:
    """Two slaves without isolation: the path of a task is to be measured, not the kernel."""
    return LocalCluster(SLAVES, cpus=str(cpus_each), isolation="noop")


def call_all(executor: ClusterExecutor, calls: int) -> float:
    """Seconds from the first submit to the last result of `calls` calls."""
    started = time.perf_counter()
    futures = [executor.submit(noop, value) for value in range(calls)]
    give_up_at = started + DEADLINE_S
    for value, future in enumerate(futures):
        assert future.result(give_up_at - time.perf_counter()) == value
    return time.perf_counter() - started


def measure(quick: bool) -> Findings:
    """Small slots beside the bare pipeline, then slots of one cpu."""
    runs, calls = (2, 20_000) if quick else (5, 50_000)
    findings = Findings()
    rates: list[float] = []
    spent: list[Spent] = []
    bare: dict[str, list[float]] = {"batches": [], "one frame each": []}
    with cluster() as local, ClusterExecutor(local.address, cpus="0.02", mem="1M", timeout=60) as executor:
        call_all(executor, calls // 10)
        for _ in range(runs):
            for shape in ("batches", "one frame each"):
                with Pipeline(shape) as pipeline:
                    pipeline.rate(calls // 10)
                    bare[shape].append(pipeline.rate(calls))
            before = Snapshot.take(local)
            rates.append(calls / call_all(executor, calls))
            spent.append(before.until(Snapshot.take(local)))
    ours = Samples.of(rates)
    for shape, theirs in bare.items():
        findings.rows.append(
            Row(
                "no-op Python calls, slots of 0.02 cpu",
                "tasks/s",
                ours,
                Samples.of(theirs),
                f"bare pipeline, {shape}",
                beside(rates, theirs),
                Bound(BOUND_PER_S),
            )
        )
    findings.notes.append(where_time_goes(f"{runs * calls:,} no-op calls", spent, runs * calls))
    for cpus_each in (1, CPUS_EACH):
        slots = _one_cpu_slots(quick, cpus_each)
        findings = Findings(findings.rows + slots.rows, findings.notes + slots.notes)
    return findings


def _one_cpu_slots(quick: bool, cpus_each: int) -> Findings:
    """A slot is empty from a task's end until an offer of it is accepted, so the round trip bounds the rate. With one slot on
    each slave only that bounds it; with two, on a host of two cores, the cores do, too.
    """
    runs, calls = (2, 1_500) if quick else (3, 5_000)
    slots = SLAVES * cpus_each
    rates: list[float] = []
    bare: list[float] = []
    spent: list[Spent] = []
    with (
        cluster(cpus_each) as local,
        ClusterExecutor(local.address, cpus=1, mem="1M", timeout=60) as executor,
    ):
        call_all(executor, calls // 10)
        for _ in range(runs):
            with Pipeline("one frame each") as pipeline:
                pipeline.rate(calls // 10, slots)
                bare.append(pipeline.rate(calls, slots) / slots)
            before = Snapshot.take(local)
            rates.append(calls / call_all(executor, calls) / slots)
            spent.append(before.until(Snapshot.take(local)))
    row = Row(
        f"the same, {slots} slots of 1 cpu",
        "tasks/s a slot",
        Samples.of(rates),
        Samples.of(bare),
        f"bare pipeline, {slots} in flight",
        beside(rates, bare),
        Bound(BOUND_PER_SLOT),
    )
    what = f"{runs * calls:,} no-op calls in {slots} slots of 1 cpu"
    return Findings([row], [where_time_goes(what, spent, runs * calls)])


def where_time_goes(what: str, spent: list[Spent], tasks: int) -> str:
    """A table: CPU microseconds per task for each role."""
    wall_s = sum(one.wall_s for one in spent)
    names = sorted({name for one in spent for name in one.by_role})
    totals = {name: sum(one.by_role.get(name, 0.0) for one in spent) for name in names}
    ours_s = sum(totals.values())
    lines = [
        f"Where the time goes, {what} in {wall_s:.1f} s:",
        "",
        "| process | CPU us a task | part |",
        "|---|--:|--:|",
        *(
            f"| {name} | {number(totals[name] / tasks * 1e6)} | {totals[name] / ours_s:.0%} |"
            for name in sorted(names, key=lambda name: -totals[name])
            if totals[name] > 0
        ),
        f"| all | {number(ours_s / tasks * 1e6)} | 100% |",
        "",
        f"All cores: {_mean(spent, Spent.idle_share):.0%} idle, "
        f"{_mean(spent, Spent.others_share):.0%} used by others or not accounted to a process.",
    ]
    return "\n".join(lines)


def _mean(spent: list[Spent], share: Callable[[Spent], float]) -> float:
    wall_s = sum(one.wall_s for one in spent)
    return sum(share(one) * one.wall_s for one in spent) / wall_s
