"""A job's progress and its summary: plain data, and the lines of text for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from offerd_frameworks.mapreduce.work import JobState, Kind, Phase


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job. The counters are the framework's (`map output bytes`) and the commands' (`GROUP:NAME`)."""

    phase: Phase = Phase.MAP
    maps: int = 0
    maps_done: int = 0
    maps_running: int = 0
    reduces: int = 0
    reduces_done: int = 0
    reduces_running: int = 0
    shuffle_bytes: int = 0
    shuffled_bytes: int = 0
    elapsed_s: float = 0.0
    status: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a finished job."""

    job_id: str
    output: str
    elapsed_s: float
    maps: int
    reduces: int
    counters: Mapping[str, int]
    slowest_s: float
    slowest_task: str
    slowest_host: str
    median_map_s: float
    median_reduce_s: float
    utilization: float  # the part of the cluster's cpus that its tasks held, on average
    wasted_s: float  # seconds of attempts whose results were not used

    @property
    def locality(self) -> float | None:
        """The part of the maps that read their block in place; None if there were no blocks."""
        local, remote = self.counters.get("local maps", 0), self.counters.get("remote maps", 0)
        return local / (local + remote) if local + remote else None


def progress_of(state: JobState, shuffled: Mapping[str, int], status: str, now: float) -> Progress:
    """A job's progress now. `shuffled`: bytes that each running reduce has reported as fetched, by task."""
    by_kind = {Kind.MAP: state.maps, Kind.REDUCE: state.reduces}
    done = {kind: sum(work.output is not None for work in works) for kind, works in by_kind.items()}
    running = {kind: sum(len(work.running) for work in works) for kind, works in by_kind.items()}
    shuffled_bytes = sum(
        work.output.report.get("shuffled_local_bytes", 0) + work.output.report.get("shuffled_remote_bytes", 0)
        if work.output is not None
        else max((shuffled.get(task_id, 0) for task_id in work.running), default=0)
        for work in state.reduces
    )
    return Progress(
        phase=state.phase,
        maps=len(state.maps),
        maps_done=done[Kind.MAP],
        maps_running=running[Kind.MAP],
        reduces=len(state.reduces),
        reduces_done=done[Kind.REDUCE],
        reduces_running=running[Kind.REDUCE],
        shuffle_bytes=state.output_bytes() if state.reduces else 0,
        shuffled_bytes=shuffled_bytes,
        elapsed_s=(state.ended_s if state.ended_s is not None else now) - state.submitted_s,
        status=status,
        counters=dict(state.counters),
    )


def summary_of(state: JobState, output: str, cluster_cpus: float) -> Summary:
    """The summary of a job that is over."""
    assert state.ended_s is not None
    elapsed_s = state.ended_s - state.submitted_s
    slowest_s, task, host = state.slowest
    return Summary(
        job_id=state.job_id,
        output=output,
        elapsed_s=elapsed_s,
        maps=len(state.maps),
        reduces=len(state.reduces),
        counters={name: amount for name, amount in sorted(state.counters.items()) if amount},
        slowest_s=slowest_s,
        slowest_task=task,
        slowest_host=host,
        median_map_s=state.median_s(Kind.MAP) or 0.0,
        median_reduce_s=state.median_s(Kind.REDUCE) or 0.0,
        utilization=min(1.0, state.busy_cpu_s / (elapsed_s * cluster_cpus))
        if elapsed_s and cluster_cpus
        else 0.0,
        wasted_s=state.waste_s,
    )
