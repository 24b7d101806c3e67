"""How soon one task runs on an idle cluster: a Python call, a process in a running executor, a new executor."""

from __future__ import annotations

import time

from figures import Bound, Findings, Row, Samples, percentile
from offerd import ClusterExecutor
from offerd.driver import SchedulerDriver
from offerd.messages import TaskStatus
from offerd.python_calls.calls import pack_call
from pipeline_baseline import Pipeline
from probe import COMMAND, DEADLINE_S, PYTHON, Heard, framework
from throughput import cluster, noop

CALL_P50_MS, CALL_P99_MS = 2.0, 10.0
PROCESS_P50_MS = 6.0
NEW_EXECUTOR_MS = 60.0
REST_S = 0.02
"""Pause between two tasks: on an idle cluster there has been no task just before."""


class CallTimer:
    """Times calls through one `ClusterExecutor`, one at a time: until RUNNING, and until the future has its result."""

    def __init__(self, executor: ClusterExecutor) -> None:
        self._executor = executor
        self._heard_at: list[float] = []
        original = executor._scheduler.status_update

        def note(driver: SchedulerDriver, status: TaskStatus) -> None:
            self._heard_at.append(time.perf_counter())
            original(driver, status)

        # Replaced on this one object: the public interface shows results only, and RUNNING is to be measured.
        setattr(executor._scheduler, "status_update", note)  # noqa: B010
        executor.submit(noop, 0).result(DEADLINE_S)

    def time(self, count: int, rest_s: float = 0.0) -> list[Heard]:
        """`count` calls, each after a pause."""
        times = []
        for number in range(count):
            time.sleep(rest_s)
            self._heard_at.clear()
            started = time.perf_counter()
            self._executor.submit(noop, number).result(DEADLINE_S)
            ended = time.perf_counter()
            times.append(Heard((self._heard_at[0] - started) * 1e3, (ended - started) * 1e3))
        return times


def calling(address: str) -> ClusterExecutor:
    """The executor for timed calls."""
    return ClusterExecutor(address, cpus="0.1", mem="16M", timeout=60)


def time_calls(address: str, count: int, rest_s: float) -> list[Heard]:
    """`count` calls by a new executor, each after a pause."""
    with calling(address) as executor:
        return CallTimer(executor).time(count, rest_s)


def time_processes(address: str, count: int) -> list[Heard]:
    """`/bin/true`, one at a time, by an executor that is already running."""
    times = []
    with framework(address, COMMAND) as (probe, driver):
        probe.run_one(driver, argv=("/bin/true",))
        for _ in range(count):
            time.sleep(REST_S)
            times.append(probe.run_one(driver, argv=("/bin/true",)))
    return times


def time_first_commands(address: str, count: int) -> list[Heard]:
    """The first process of a framework, each time of a new one."""
    times = []
    for _ in range(count):
        with framework(address, COMMAND) as (probe, driver):
            times.append(probe.run_one(driver, argv=("/bin/true",)))
    return times


def time_first_calls(address: str, count: int) -> list[Heard]:
    """The first Python call of a framework, each time of a new one."""
    call = pack_call(noop, (1,))
    times = []
    for _ in range(count):
        with framework(address, PYTHON) as (probe, driver):
            times.append(probe.run_one(driver, data=call))
    return times


def measure(quick: bool) -> Findings:
    """Several runs of each; percentiles are taken within a run."""
    runs, count, fresh = (2, 100, 5) if quick else (3, 200, 20)
    bare: list[float] = []
    bare_rested: list[float] = []
    calls: list[list[Heard]] = []
    rested: list[list[Heard]] = []
    processes: list[list[Heard]] = []
    with cluster() as local:
        for _ in range(runs):
            with Pipeline("one frame each") as pipeline:
                pipeline.round_trips_ms(50)
                bare.append(percentile(pipeline.round_trips_ms(count), 50))
                bare_rested.append(percentile(pipeline.round_trips_ms(count, REST_S), 50))
            calls.append(time_calls(local.address, count, 0.0))
            rested.append(time_calls(local.address, count, REST_S))
            processes.append(time_processes(local.address, count))
        first_commands = time_first_commands(local.address, fresh)
        first_calls = time_first_calls(local.address, fresh)
    trip, rested_trip = Samples.of(bare), Samples.of(bare_rested)
    findings = Findings()
    add = findings.rows.append
    for when, times, bare_trip in (
        ("one after another", calls, trip),
        (f"each after {REST_S * 1e3:.0f} ms of rest", rested, rested_trip),
    ):
        name = f"Python call, {when}, submit to"
        add(_row(f"{name} RUNNING, p50", times, 50, "running_ms", bare_trip, CALL_P50_MS))
        add(_row(f"{name} RUNNING, p99", times, 99, "running_ms", None, CALL_P99_MS))
        add(_row(f"{name} result, p50", times, 50, "ended_ms", bare_trip))
        add(_row(f"{name} result, p99", times, 99, "ended_ms", None))
    add(_row("process, submit to RUNNING, p50", processes, 50, "running_ms", rested_trip, PROCESS_P50_MS))
    add(_row("process, submit to RUNNING, p99", processes, 99, "running_ms", None))
    add(_row("process, submit to its end, p50", processes, 50, "ended_ms", rested_trip))
    at_most = Bound(NEW_EXECUTOR_MS, at_least=False)
    for what, firsts in (("command", first_commands), ("python", first_calls)):
        samples = Samples.of(heard.running_ms for heard in firsts)
        add(Row(f"new {what} executor, submit to RUNNING", "ms", samples, bound=at_most))
    return findings


def _row(
    measure: str,
    runs: list[list[Heard]],
    percent: float,
    which: str,
    baseline: Samples | None,
    limit: float | None = None,
) -> Row:
    values = [percentile([getattr(heard, which) for heard in run], percent) for run in runs]
    ratios = None
    if baseline is not None:
        ratios = Samples.of(ours / theirs for ours, theirs in zip(values, baseline.values, strict=True))
    return Row(
        measure,
        "ms",
        Samples.of(values),
        baseline,
        "round trip of the bare pipeline, as rested" if baseline else "",
        ratios,
        None if limit is None else Bound(limit, at_least=False),
    )
