"""The cluster as metrics in the text format of Prometheus, and with them the gateway's own: `GET /metrics` of a gateway, and
`offerd metrics`. Names and labels are only ever added; docs/metrics.md lists them.

Amounts are in usual units (`offerd.core.usual_units`). Frameworks are listed one by one up to a number, those with the largest
shares first, and the others together; there are no series of tasks, and none of slaves, which serve their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from offerd.core.usual_units import usual_amount
from offerd.daemons.timings import buckets_of
from offerd.ids import FrameworkID
from offerd.protocol.change_messages import FrameworkNow, MasterNow
from offerd.values.screen_text import printable
from offerd_web.core.view import NO_TALLY, Amounts, ClusterView

SLAVE_STATES = ("active", "deactivated", "draining", "drained", "lost")
FRAMEWORK_STATES = ("active", "disconnected", "ended")
MAX_FRAMEWORKS = 200
"""The most frameworks with series of their own; and the most that have ended."""
OTHER = "other"
"""The labels of all other frameworks together, and of requests beyond `MAX_ROUTES`."""
MAX_ROUTES = 300
"""The most pairs of route and status."""
MAX_LABEL = 200
"""Longest value of a label, in characters."""

COUNTS = {
    "messages_received": ("offerd_master_messages_received", "Messages that the master has received."),
    "messages_sent": ("offerd_master_messages_sent", "Messages that the master has sent."),
    "offers_made": ("offerd_offers_made", "Offers made."),
    "offers_accepted": ("offerd_offers_accepted", "Offers that were accepted with tasks."),
    "offers_declined": ("offerd_offers_declined", "Offers that were declined."),
    "offers_rescinded": ("offerd_offers_rescinded", "Offers that the master has taken back."),
    "offers_unanswered": (
        "offerd_offers_unanswered",
        "Offers that were taken back, as they were not answered in time.",
    ),
    "tasks_launched": ("offerd_tasks_launched", "Tasks sent to slaves."),
    "timeouts": ("offerd_task_timeouts", "Tasks that were ended by their time limit."),
    "revocations": ("offerd_revocations", "Tasks that frameworks were given notice to give up (revocation)."),
    "revocation_kills": ("offerd_revocation_kills", "Tasks that were killed after a notice of revocation."),
    "status_updates": ("offerd_status_updates", "Statuses of tasks that slaves have sent."),
    "status_repeats": (
        "offerd_status_repeats",
        "Statuses of tasks that said nothing new; most were repeated.",
    ),
}
"""For each of `MasterNow.counts` the name of its metric, without `_total`, and its text."""
GAUGES = {
    "followers": ("offerd_master_followers", "Clients that follow the master, gateways among them."),
    "peers": ("offerd_master_peers", "Slaves and schedulers that are registered."),
    "connections": ("offerd_master_connections", "TCP connections to the master."),
    "peers_waiting": ("offerd_master_inbox_peers", "Peers that have sent what is not handled yet."),
    "bytes_waiting": ("offerd_master_inbox_bytes", "What was received and is not handled yet."),
    "peers_with_backlog": ("offerd_master_backlog_peers", "Peers that do not read what is sent to them."),
    "offers": ("offerd_offers", "Offers that are not answered yet."),
    "dirty_slaves": ("offerd_master_dirty_slaves", "Slaves whose free resources are to be offered."),
    "idle_slaves": ("offerd_master_idle_slaves", "Slaves whose free resources no framework wants."),
}
"""The same for `MasterNow.gauges`."""
TIMINGS = {
    "tick": (
        "offerd_master_tick_seconds",
        "Time of one tick of the master: what is due, a turn of allocation, answers to followers.",
    ),
    "loop_lag": (
        "offerd_master_loop_lag_seconds",
        "In each turn of the master's loop, how long what it had to do has waited for it at most.",
    ),
}
"""The same for `MasterNow.timings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFigures:
    """What a gateway knows of itself."""

    is_following: bool
    """The master answers, and has sent everything that it knows."""
    requests: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Route (its pattern, not the path of a request) and status to the number of requests."""
    streams: int = 0
    """Open streams of events."""
    history_lag_s: float | None = None
    """How long what is to be written to the history has waited. None: there is no history."""
    history_dropped: int = 0
    """Answers of the master that the history has lost: its disk was full, or too slow."""
    history_bytes: int = 0
    """Size of the history's file."""


def exposition(view: ClusterView, now: float, own: GatewayFigures | None = None) -> bytes:
    """One scrape at this time, in seconds of the clock that the view was given. `own`: the gateway's own metrics, if one asks.
    Before the first answer of a master there are no others.
    """
    registry = CollectorRegistry()
    metrics: list[Metric] = []
    master = view.replica.master
    if master is not None:
        metrics += [*_of_master(view, master, now), *_of_cluster(view, master), *_of_slaves(view)]
        metrics += [*_of_frameworks(view, now)]
    if own is not None:
        ProcessCollector(registry=registry)
        metrics += _of_gateway(view, own, now)
    registry.register(_Once(metrics))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


# -- The master ---------------------------------------------------------------------------------------------------------


def _of_master(view: ClusterView, master: MasterNow, now: float) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "offerd_master_info",
        "1, with what does not change while the master leads.",
        labels=["master_id", "version", "allocator"],
    )
    info.add_metric([_label(master.master_id), _label(master.version), _label(master.allocator)], 1)
    yield info
    yield GaugeMetricFamily("offerd_master_epoch", "Epoch of the leading master.", master.epoch)
    yield GaugeMetricFamily(
        "offerd_master_up_seconds",
        "How long the master has led.",
        max(0.0, now - view.wall(master.started_at)),
    )
    yield CounterMetricFamily(
        "offerd_dropped_peers", "Peers dropped because of what they sent.", master.dropped_peers
    )
    yield CounterMetricFamily(
        "offerd_refused", "Handshakes and messages refused by their keys.", master.refused
    )
    yield CounterMetricFamily(
        "offerd_failed_messages", "Messages that the master failed to handle.", master.failed_messages
    )
    yield CounterMetricFamily(
        "offerd_unsent_messages", "Messages of the master that no frame could hold.", master.unsent_messages
    )
    # A master of another version may have fewer of these, or more.
    for name, (metric, text) in COUNTS.items():
        if name in master.counts:
            yield CounterMetricFamily(metric, text, master.counts[name])
    for name, (metric, text) in GAUGES.items():
        if name in master.gauges:
            yield GaugeMetricFamily(metric, text, master.gauges[name])
    for name, (metric, text) in TIMINGS.items():
        if (timing := master.timings.get(name)) is not None:
            yield HistogramMetricFamily(metric, text, buckets_of(timing), timing.sum_s)


# -- The cluster and its slaves -----------------------------------------------------------------------------------------


def _of_cluster(view: ClusterView, master: MasterNow) -> Iterator[Metric]:
    resources = GaugeMetricFamily(
        "offerd_resources",
        "Resources of all slaves: total; used, which tasks and executors hold; offered; withheld, which are free on slaves "
        "that are not offered; in_use, as slaves measure it.",
        labels=["resource", "kind"],
    )
    in_use: Amounts = Counter(
        cpus=sum(slave.used_millicpus for slave in view.replica.slaves.values()),
        mem=sum(slave.used_mem_bytes for slave in view.replica.slaves.values()),
    )
    total = view.total()
    for kind, amounts in (
        ("total", total),
        ("withheld", view.withheld()),
        ("used", view.everything.held),
        ("offered", view.everything.offered),
        ("in_use", in_use),
    ):
        names = in_use if kind == "in_use" else total
        for label, value in _usual({name: amounts[name] for name in names}).items():
            resources.add_metric([label, kind], value)
    yield resources
    tasks = GaugeMetricFamily(
        "offerd_tasks", "Tasks that are in a state now, or have ever ended in it.", labels=["state"]
    )
    open_tasks = {state.value: number for state, number in view.everything.tasks.items() if number}
    for state, number in {**view.ended_counts(), **open_tasks}.items():
        tasks.add_metric([_label(state)], number)
    yield tasks
    ended = CounterMetricFamily(
        "offerd_tasks_ended",
        "Tasks that have ended in a state, of all that the master counts.",
        labels=["state"],
    )
    for state, number in view.ended_counts().items():
        ended.add_metric([_label(state)], number)
    yield ended
    wasted = CounterMetricFamily(
        "offerd_wasted_resource_seconds",
        "Amount x seconds lost to tasks that were killed by their time limit.",
        labels=["resource"],
    )
    for name, value in _by_label(master.wasted_resource_s).items():
        wasted.add_metric([name], value)
    yield wasted


def _of_slaves(view: ClusterView) -> Iterator[Metric]:
    slaves = view.replica.slaves.values()
    states = Counter(slave.state for slave in slaves)
    by_state = GaugeMetricFamily("offerd_slaves", "Slaves in each state.", labels=["state"])
    for state in SLAVE_STATES:
        by_state.add_metric([state], states[state])
    yield by_state
    yield GaugeMetricFamily(
        "offerd_slaves_silent",
        "Slaves without a connection that are not lost yet.",
        sum(not slave.is_connected and slave.state != "lost" for slave in slaves),
    )
    yield GaugeMetricFamily(
        "offerd_slaves_disk_full",
        "Slaves that are not offered for this reason.",
        sum(slave.is_disk_full and slave.state != "lost" for slave in slaves),
    )


# -- Frameworks ---------------------------------------------------------------------------------------------------------


class _Sums(NamedTuple):
    """What the series of one framework say, or those of all that have none of their own."""

    share: float
    under_share_s: float
    tasks: Counter[str]
    held: Amounts
    wasted_resource_s: dict[str, float]


def _of_frameworks(view: ClusterView, now: float) -> Iterator[Metric]:
    frameworks = view.replica.frameworks
    states = Counter(framework.state for framework in frameworks.values())
    by_state = GaugeMetricFamily("offerd_frameworks", "Frameworks in each state.", labels=["state"])
    for state in FRAMEWORK_STATES:
        by_state.add_metric([state], states[state])
    yield by_state
    there = sorted(
        (framework for framework in frameworks.values() if framework.state != "ended"),
        key=lambda framework: (-framework.share, framework.framework_id),
    )
    sums = {framework.framework_id: _sums(view, framework, now) for framework in there}
    listed = {
        _names(view, framework.framework_id): sums[framework.framework_id]
        for framework in there[:MAX_FRAMEWORKS]
    }
    if rest := [sums[framework.framework_id] for framework in there[MAX_FRAMEWORKS:]]:
        listed[OTHER, OTHER, OTHER] = _together(rest)
    yield from _series(listed)
    ended = sorted(
        (framework for framework in frameworks.values() if framework.ended_at is not None),
        key=lambda framework: framework.ended_at or 0.0,
    )
    yield from _durations(view, there[:MAX_FRAMEWORKS], ended[-MAX_FRAMEWORKS:])


def _names(view: ClusterView, framework_id: FrameworkID) -> tuple[str, str, str]:
    """Its labels. The id, which is whole, tells frameworks apart."""
    shown_id = printable(framework_id, limit=None)
    info = view.replica.framework_infos.get(framework_id)
    if info is None:
        return shown_id, "", ""
    return shown_id, _label(info.name), _label(info.role)


def _sums(view: ClusterView, framework: FrameworkNow, now: float) -> _Sums:
    tally = view.by_framework.get(framework.framework_id, NO_TALLY)
    tasks = Counter(framework.ended_counts)
    tasks.update({state.value: number for state, number in tally.tasks.items() if number})
    since = framework.under_share_since
    under_s = 0.0 if since is None else max(0.0, now - view.wall(since))
    return _Sums(framework.share, under_s, tasks, tally.held, framework.wasted_resource_s)


def _together(rest: list[_Sums]) -> _Sums:
    """Sums; of times under the share, the longest."""
    tasks: Counter[str] = Counter()
    held: Amounts = Counter()
    wasted: Counter[str] = Counter()
    for each in rest:
        tasks.update(each.tasks)
        held.update(each.held)
        wasted.update(each.wasted_resource_s)
    return _Sums(
        sum(each.share for each in rest), max(each.under_share_s for each in rest), tasks, held, dict(wasted)
    )


def _series(listed: dict[tuple[str, str, str], _Sums]) -> Iterator[Metric]:
    labels = ["framework_id", "name", "role"]
    share = GaugeMetricFamily(
        "offerd_framework_dominant_share",
        "The framework's dominant share of the cluster, 0 to 1; its offers count.",
        labels=labels,
    )
    under = GaugeMetricFamily(
        "offerd_framework_under_share_seconds",
        "How long the framework has been under its fair share.",
        labels=labels,
    )
    tasks = GaugeMetricFamily(
        "offerd_framework_tasks",
        "Tasks of the framework that are in a state now, or have ever ended in it.",
        labels=[*labels, "state"],
    )
    held = GaugeMetricFamily(
        "offerd_framework_held",
        "Resources that the framework's tasks and executors hold.",
        labels=[*labels, "resource"],
    )
    wasted = CounterMetricFamily(
        "offerd_framework_wasted_resource_seconds",
        "Amount x seconds of the framework lost to its tasks that were killed by their time limit.",
        labels=[*labels, "resource"],
    )
    for names, sums in listed.items():
        values = list(names)
        share.add_metric(values, sums.share)
        under.add_metric(values, sums.under_share_s)
        for state, number in sums.tasks.items():
            tasks.add_metric([*values, _label(state)], number)
        for resource, value in _usual(sums.held).items():
            held.add_metric([*values, resource], value)
        for resource, value in _by_label(sums.wasted_resource_s).items():
            wasted.add_metric([*values, resource], value)
    yield from (share, under, tasks, held, wasted)


def _durations(view: ClusterView, there: list[FrameworkNow], ended: list[FrameworkNow]) -> Iterator[Metric]:
    labels = ["framework_id", "name", "role"]
    ramp_up = GaugeMetricFamily(
        "offerd_framework_ramp_up_seconds",
        "Time from the framework's first wish for offers to its fair share, or to all that it wanted.",
        labels=labels,
    )
    completion = GaugeMetricFamily(
        "offerd_framework_completion_seconds",
        "Time from the framework's registration to its end.",
        labels=labels,
    )
    for framework in (*there, *ended):
        values = list(_names(view, framework.framework_id))
        if framework.ramp_up_s is not None:
            ramp_up.add_metric(values, framework.ramp_up_s)
        if framework.ended_at is not None:
            completion.add_metric(values, framework.ended_at - framework.since)
    yield from (ramp_up, completion)


# -- The gateway itself -------------------------------------------------------------------------------------------------


def _of_gateway(view: ClusterView, own: GatewayFigures, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "offerd_gateway_following",
        "1 while the master answers. Otherwise the cluster's metrics are as they were last.",
        own.is_following,
    )
    if view.heard_at:
        yield GaugeMetricFamily(
            "offerd_gateway_lag_seconds",
            "Time since the master's last answer.",
            max(0.0, now - view.heard_at),
        )
    yield GaugeMetricFamily("offerd_gateway_streams", "Open streams of events.", own.streams)
    requests = CounterMetricFamily(
        "offerd_gateway_requests", "Requests that were answered.", labels=["route", "status"]
    )
    rest = 0
    for number, ((route, status), count) in enumerate(own.requests.items()):
        if number < MAX_ROUTES:
            requests.add_metric([_label(route), str(status)], count)
        else:
            rest += count
    if rest:
        requests.add_metric([OTHER, OTHER], rest)
    yield requests
    if own.history_lag_s is not None:
        yield GaugeMetricFamily(
            "offerd_gateway_history_lag_seconds",
            "How long what is to be written to the history has waited.",
            own.history_lag_s,
        )
        yield CounterMetricFamily(
            "offerd_gateway_history_dropped",
            "Answers of the master that the history has lost.",
            own.history_dropped,
        )
        yield GaugeMetricFamily(
            "offerd_gateway_history_bytes", "Size of the history's file.", own.history_bytes
        )


# -- Labels and amounts -------------------------------------------------------------------------------------------------


def _label(text: str) -> str:
    """prometheus_client escapes only line ends, quotes and backslashes."""
    return printable(text, limit=MAX_LABEL)


def _by_label(values: Mapping[str, float]) -> dict[str, float]:
    """Two names that look the same share a series: Prometheus refuses a scrape that has one twice."""
    found: dict[str, float] = {}
    for name, value in values.items():
        label = _label(name)
        found[label] = found.get(label, 0) + value
    return found


def _usual(amounts: Mapping[str, int]) -> dict[str, float]:
    """Amounts in usual units."""
    return _by_label({name: usual_amount(name, amount) for name, amount in amounts.items()})
