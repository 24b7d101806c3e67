"""What a slave serves as `GET /metrics`, for operators: its host, its containers and itself, in the text format of Prometheus.
Names and labels are only ever added; docs/metrics.md lists them.

Each container has a few series, with the ids of its framework and executor; tasks have none of their own. Of a great many
containers, those that were launched first are listed, and how many were left out is a metric, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from offerd import __version__
from offerd.core.usual_units import usual_amount
from offerd.daemons.timings import Histogram, buckets_of
from offerd.values.screen_text import printable
from offerd_isolation.base import Usage
from offerd_slave.core.state import Container, Phase
from offerd_slave.host_figures import host_figures
from offerd_slave.metric_sources import MetricSources

MAX_CONTAINERS = 1000
"""The most containers, or rather pairs of framework and executor, that have series of their own."""


def exposition(sources: MetricSources, refused: int) -> bytes:
    """One scrape. `refused`: requests to the file server without a good token. Raises `OSError` if /proc cannot be read."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(
        _Once(
            [
                *_of_host(sources),
                *_of_slave(sources),
                *_of_tasks(sources),
                *_of_containers(sources),
                *_of_daemon(sources, refused),
            ]
        )
    )
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_host(sources: MetricSources) -> Iterator[Metric]:
    host = host_figures(sources.work_dir)
    yield GaugeMetricFamily("offerd_slave_host_cpus", "Processors of the host.", host.cpus)
    yield GaugeMetricFamily(
        "offerd_slave_host_load1", "Processes that ran or waited, averaged over a minute.", host.load1
    )
    yield _by(
        "offerd_slave_host_memory_bytes", "Memory of the host: total, available.", "kind", host.mem_bytes
    )
    yield _by(
        "offerd_slave_host_disk_bytes",
        "The file system of the work directory: total, available.",
        "kind",
        host.disk_bytes,
    )
    yield _by(
        "offerd_slave_host_pressure_ratio",
        "Part of the last ten seconds in which some process of the host waited for the resource.",
        "resource",
        host.pressure,
    )


def _of_slave(sources: MetricSources) -> Iterator[Metric]:
    state = sources.core.state
    info = GaugeMetricFamily(
        "offerd_slave_info",
        "1, with what does not change while the slave runs.",
        labels=["slave_id", "hostname", "isolation", "version"],
    )
    info.add_metric(
        [state.slave_id, printable(state.info.hostname, limit=None), sources.isolation, __version__], 1
    )
    yield info
    yield GaugeMetricFamily(
        "offerd_slave_registered", "1 while the slave is registered with a master.", state.registered
    )
    yield GaugeMetricFamily(
        "offerd_slave_disk_full",
        "1 while the slave takes no tasks because its disk is full.",
        state.is_disk_full,
    )
    resources = GaugeMetricFamily(
        "offerd_slave_resources",
        "Resources that the slave offers: total, held, and what long tasks may hold (long_total) and hold (long_held).",
        labels=["resource", "kind"],
    )
    kinds = {
        "total": state.total, "held": state.used, "long_total": state.long_total, "long_held": state.long_used,
    }  # fmt: skip
    for kind, amounts in kinds.items():
        for name, amount in dict(amounts).items():
            resources.add_metric([printable(name), kind], usual_amount(name, amount))
    yield resources


def _of_tasks(sources: MetricSources) -> Iterator[Metric]:
    state, counts = sources.core.state, sources.core.state.counts
    # list() and dict() of a dictionary run no Python code, so the slave's loop cannot change the dictionary meanwhile.
    states = Counter(task.state.value for task in list(state.tasks.values()))
    yield _by("offerd_slave_tasks", "Tasks that have not ended.", "state", states)
    yield _count_by("offerd_slave_tasks_ended", "Tasks that have ended.", "state", dict(counts.tasks_ended))
    yield _count_by(
        "offerd_slave_tasks_limited",
        "Tasks that ended after they had hit this limit; memory.max and mem: for lack of memory.",
        "limit",
        dict(counts.tasks_limited),
    )
    yield CounterMetricFamily(
        "offerd_slave_tasks_delivered", "Tasks sent to their executors.", counts.tasks_delivered
    )
    yield CounterMetricFamily(
        "offerd_slave_tasks_refused", "Tasks that the slave did not take.", counts.tasks_refused
    )
    phases = Counter(container.phase for container in list(state.containers.values()))
    yield _by(
        "offerd_slave_containers",
        "Containers, each with one executor.",
        "phase",
        {phase.value: phases[phase] for phase in Phase},
    )
    yield CounterMetricFamily(
        "offerd_slave_launches", "Containers that were to be launched.", counts.launches
    )
    yield CounterMetricFamily(
        "offerd_slave_launches_failed", "Containers that no process was started in.", counts.launches_failed
    )
    waiting = [len(stream.statuses) for stream in list(sources.core.statuses.streams.values())]
    yield GaugeMetricFamily(
        "offerd_slave_statuses_waiting", "Statuses that no scheduler has acknowledged.", sum(waiting)
    )
    yield CounterMetricFamily(
        "offerd_slave_statuses_stored", "Statuses written to the journal.", counts.statuses_stored
    )
    yield CounterMetricFamily(
        "offerd_slave_statuses_repeated",
        "Statuses that were sent to the master again.",
        counts.statuses_repeated,
    )


# -- Containers ---------------------------------------------------------------------------------------------------------


class _Sum(NamedTuple):
    """What the containers of one framework and executor use. There are two while one ends and the next one begins."""

    usages: list[Usage]
    tasks: int
    millicpus: int
    mem_bytes: int


def _of_containers(sources: MetricSources) -> Iterator[Metric]:
    measured = [usage for _, usage in list(sources.measured.values())]
    cpus = sum(cpus for cpus, _ in list(sources.measured.values()))
    yield GaugeMetricFamily("offerd_slave_used_cpus", "Cpus that the containers use, as last measured.", cpus)
    yield GaugeMetricFamily(
        "offerd_slave_used_memory_bytes",
        "Memory that the containers use, as last measured.",
        sum(usage.mem_bytes for usage in measured),
    )
    by_executor: dict[tuple[str, str], list[Container]] = {}
    dropped = 0
    for container in list(sources.core.state.containers.values()):
        ids = (container.framework_id, container.executor.executor_id)
        key = (printable(ids[0], limit=None), printable(ids[1], limit=None))
        if key in by_executor or len(by_executor) < MAX_CONTAINERS:
            by_executor.setdefault(key, []).append(container)
        else:
            dropped += 1
    yield GaugeMetricFamily(
        "offerd_slave_containers_dropped",
        f"Containers without metrics of their own, as there are more than {MAX_CONTAINERS}.",
        dropped,
    )
    yield from _each_container({key: _sum(sources, mine) for key, mine in by_executor.items()})


def _sum(sources: MetricSources, containers: list[Container]) -> _Sum:
    tasks = [task.info.resources for container in containers for task in list(container.tasks.values())]
    held = [*tasks, *(container.executor.resources for container in containers)]
    usages = [sources.measured.get(container.container_id, (0.0, Usage()))[1] for container in containers]
    return _Sum(
        usages,
        len(tasks),
        sum(resources.millicpus for resources in held),
        sum(resources.mem_bytes for resources in held),
    )


def _each_container(sums: dict[tuple[str, str], _Sum]) -> Iterator[Metric]:
    labels = ["framework_id", "executor_id"]
    cpu = CounterMetricFamily(
        "offerd_container_cpu_seconds", "Cpu time that the container has used.", labels=labels
    )
    throttled = CounterMetricFamily(
        "offerd_container_throttled_seconds",
        "How long the container's processes were stopped because its cpu quota was used up.",
        labels=labels,
    )
    memory = GaugeMetricFamily(
        "offerd_container_memory_bytes", "Memory that the container uses.", labels=labels
    )
    peak = GaugeMetricFamily(
        "offerd_container_peak_memory_bytes", "The most memory that the container has used.", labels=labels
    )
    processes = GaugeMetricFamily("offerd_container_processes", "Processes of the container.", labels=labels)
    pressure = GaugeMetricFamily(
        "offerd_container_pressure_ratio",
        "Part of the last ten seconds in which some process of the container waited for the resource.",
        labels=[*labels, "resource"],
    )
    tasks = GaugeMetricFamily("offerd_container_tasks", "Tasks that run in the container.", labels=labels)
    cpus = GaugeMetricFamily(
        "offerd_container_held_cpus", "Cpus that the container's executor and tasks hold.", labels=labels
    )
    held = GaugeMetricFamily(
        "offerd_container_held_memory_bytes",
        "Memory that the container's executor and tasks hold.",
        labels=labels,
    )
    for key, found in sums.items():
        who, usages = list(key), found.usages
        cpu.add_metric(who, sum(usage.cpu_s for usage in usages))
        throttled.add_metric(who, sum(usage.throttled_s for usage in usages))
        memory.add_metric(who, sum(usage.mem_bytes for usage in usages))
        peak.add_metric(who, max(usage.peak_mem_bytes for usage in usages))
        processes.add_metric(who, sum(usage.processes for usage in usages))
        pressure.add_metric([*who, "cpu"], max(usage.cpu_pressure for usage in usages) / 100)
        pressure.add_metric([*who, "memory"], max(usage.mem_pressure for usage in usages) / 100)
        pressure.add_metric([*who, "io"], max(usage.io_pressure for usage in usages) / 100)
        tasks.add_metric(who, found.tasks)
        cpus.add_metric(who, found.millicpus / 1000)
        held.add_metric(who, found.mem_bytes)
    yield from (cpu, throttled, memory, peak, processes, pressure, tasks, cpus, held)


# -- The daemon itself --------------------------------------------------------------------------------------------------


def _of_daemon(sources: MetricSources, refused: int) -> Iterator[Metric]:
    yield GaugeMetricFamily("offerd_slave_shims", "Shims that run.", sources.exits.watched)
    yield GaugeMetricFamily(
        "offerd_slave_launches_under_way",
        "Launches that the zygote has not answered yet.",
        sources.zygote.under_way,
    )
    yield CounterMetricFamily(
        "offerd_slave_zygote_starts",
        "Zygotes started: one at the slave's start, and one for each that has died.",
        sources.zygote.starts,
    )
    yield GaugeMetricFamily(
        "offerd_slave_journal_bytes", "Length of the journal.", sources.journal.size_bytes
    )
    yield CounterMetricFamily(
        "offerd_slave_journal_written_bytes", "Bytes written to the journal.", sources.journal.written_bytes
    )
    yield _histogram(
        "offerd_slave_journal_sync_seconds", "Time of one sync of the journal to the disk.", sources.syncs
    )
    yield _histogram(
        "offerd_slave_loop_lag_seconds",
        "In each turn of the loop, how long what it had to do has waited for it at most.",
        sources.loop_lag,
    )
    yield CounterMetricFamily(
        "offerd_slave_requests_refused", "Requests to the file server without a good token.", refused
    )


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    timing = histogram.timing()
    return HistogramMetricFamily(name, text, buckets_of(timing), timing.sum_s)


def _by(name: str, text: str, label: str, values: dict[str, int] | dict[str, float] | Counter[str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _count_by(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
