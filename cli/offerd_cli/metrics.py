"""What a master knows, as metrics in the text format of Prometheus. Names and labels are only ever added.

Amounts are in usual units, as in `documents`: `cpus` in cpus, `mem` and `disk` in bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from offerd.core.usual_units import usual_amount
from offerd.operator_messages import Cluster, FrameworkSummary, SlaveSummary
from offerd.values.screen_text import printable

SLAVE_STATES = ("active", "deactivated", "draining", "drained", "lost")


def exposition(
    cluster: Cluster, slaves: Sequence[SlaveSummary], frameworks: Sequence[FrameworkSummary]
) -> str:
    """One scrape."""
    registry = CollectorRegistry()
    registry.register(_Once([*_of_cluster(cluster), *_of_slaves(slaves), *_of_frameworks(frameworks)]))
    return generate_latest(registry).decode()


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_cluster(cluster: Cluster) -> Iterator[Metric]:
    yield GaugeMetricFamily("offerd_master_epoch", "Epoch of the leading master.", cluster.epoch)
    yield GaugeMetricFamily("offerd_master_up_seconds", "How long the master has led.", cluster.up_s)
    resources = GaugeMetricFamily("offerd_resources", "Resources of all slaves.", labels=["resource", "kind"])
    for kind, amount in (
        ("total", cluster.total),
        ("withheld", cluster.withheld),
        ("used", cluster.used),
        ("offered", cluster.offered),
    ):
        for name, quantity in amount.scalars.items():
            resources.add_metric([printable(name), kind], usual_amount(name, quantity))
    yield resources
    tasks = GaugeMetricFamily(
        "offerd_tasks", "Tasks that are in a state now, or have ever ended in it.", labels=["state"]
    )
    for state, number in cluster.tasks.items():
        tasks.add_metric([state], number)
    yield tasks
    wasted = CounterMetricFamily(
        "offerd_wasted_resource_seconds",
        "Amount x seconds lost to tasks that were killed by their time limit.",
        labels=["resource"],
    )
    for name, value in cluster.wasted_resource_s.items():
        wasted.add_metric([printable(name)], value)
    yield wasted
    yield CounterMetricFamily(
        "offerd_dropped_peers", "Peers dropped because of what they sent.", cluster.dropped_peers
    )
    yield CounterMetricFamily(
        "offerd_refused", "Handshakes and messages refused by their keys.", cluster.refused
    )
    yield CounterMetricFamily(
        "offerd_failed_messages", "Messages that the master failed to handle.", cluster.failed_messages
    )
    yield CounterMetricFamily(
        "offerd_unsent_messages", "Messages of the master that no frame could hold.", cluster.unsent_messages
    )


def _of_slaves(slaves: Sequence[SlaveSummary]) -> Iterator[Metric]:
    states = Counter(slave.state for slave in slaves)
    by_state = GaugeMetricFamily("offerd_slaves", "Slaves in each state.", labels=["state"])
    for state in SLAVE_STATES:
        by_state.add_metric([state], states[state])
    yield by_state
    yield GaugeMetricFamily(
        "offerd_slaves_disk_full",
        "Slaves that are not offered for this reason.",
        sum(slave.disk_full for slave in slaves),
    )


def _of_frameworks(frameworks: Sequence[FrameworkSummary]) -> Iterator[Metric]:
    labels = ["framework_id", "name", "role"]
    share = GaugeMetricFamily(
        "offerd_framework_dominant_share", "Dominant share of the cluster, 0 to 1.", labels=labels
    )
    under = GaugeMetricFamily(
        "offerd_framework_under_share_seconds",
        "How long the framework has been under its fair share.",
        labels=labels,
    )
    tasks = GaugeMetricFamily("offerd_framework_tasks", "As offerd_tasks.", labels=[*labels, "state"])
    wasted = CounterMetricFamily(
        "offerd_framework_wasted_resource_seconds",
        "As offerd_wasted_resource_seconds.",
        labels=[*labels, "resource"],
    )
    ramp_up = GaugeMetricFamily(
        "offerd_framework_ramp_up_seconds",
        "Time from the first wish for offers to the fair share, or to all that was wanted.",
        labels=labels,
    )
    completion = GaugeMetricFamily(
        "offerd_framework_completion_seconds", "Time from registration to end.", labels=labels
    )
    for framework in frameworks:
        names = (framework.framework_id, framework.name, framework.role)
        values = [printable(name, limit=None) for name in names]  # prometheus_client escapes only line ends
        if framework.ramp_up_s is not None:
            ramp_up.add_metric(values, framework.ramp_up_s)
        if framework.completion_s is not None:
            completion.add_metric(values, framework.completion_s)
        if framework.state == "ended":
            continue
        share.add_metric(values, framework.dominant_share)
        under.add_metric(values, framework.under_share_s or 0.0)
        for state, number in framework.tasks.items():
            tasks.add_metric([*values, state], number)
        for name, value in framework.wasted_resource_s.items():
            wasted.add_metric([*values, printable(name)], value)
    yield from (share, under, tasks, wasted, ramp_up, completion)
