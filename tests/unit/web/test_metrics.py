"""The gateway's exposition, read back by Prometheus' own parser, of clusters that a real core has."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from helpers.busy_slave import busy_slave
from helpers.files_site import FilesSite
from helpers.master_harness import ClusterHarness, task
from helpers.prometheus import Exposition, promtool
from helpers.views import MEASURED, WALL, busy_cluster, view_of
from offerd.ids import FrameworkID
from offerd.messages import SetNeedsOffers, TaskState
from offerd.protocol.change_messages import TIMING_BOUNDS_S
from offerd_master.core.counts import Counts
from offerd_slave.metrics import exposition as slave_exposition
from offerd_web.core.view import ClusterView
from offerd_web.services import metrics
from offerd_web.services.metrics import GatewayFigures, exposition
from offerd_web.services.slave_metrics import SlaveMetricsUnavailable, fetch

FIGURES = GatewayFigures(
    is_following=True, requests={("/v1/tasks", 200): 3, ("/v1/tasks", 403): 1}, streams=2,
    history_lag_s=0.5, history_dropped=4, history_bytes=4096,
)  # fmt: skip


def scrape(cluster: ClusterHarness, own: GatewayFigures | None = None) -> Exposition:
    return Exposition(exposition(view_of(cluster), WALL + cluster.now, own))


def who(framework_id: FrameworkID, name: str, role: str = "*") -> dict[str, str]:
    return {"framework_id": framework_id, "name": name, "role": role}


def test_every_number_of_the_cluster_is_found_under_its_name_and_labels() -> None:
    cluster, framework, _ = busy_cluster()
    got = scrape(cluster)
    kinds = ("total", "used", "offered", "withheld", "in_use")
    cpus = {kind: got.value("offerd_resources", resource="cpus", kind=kind) for kind in kinds}
    assert cpus == {"total": 8, "used": 3, "offered": 5, "withheld": 0, "in_use": 0}
    assert got.value("offerd_resources", resource="mem", kind="total") == 8 << 30
    assert got.value("offerd_resources", resource="ports", kind="total") == 10, "a number of ports"
    assert got.value("offerd_tasks", state="TASK_RUNNING") == 1
    assert got.value("offerd_tasks", state="TASK_STAGING") == 1
    assert got.value("offerd_tasks", state="TASK_KILLED") == 1
    assert got.series("offerd_tasks_ended_total") == {frozenset({("state", "TASK_KILLED")}): 1}
    assert got.value("offerd_wasted_resource_seconds_total", resource="cpus") == pytest.approx(2.0)
    assert got.value("offerd_slaves", state="active") == 2
    assert got.value("offerd_slaves", state="lost") == 0
    assert got.value("offerd_slaves_silent") == 0
    assert got.value("offerd_slaves_disk_full") == 0
    assert got.value("offerd_frameworks", state="active") == 1
    assert got.value("offerd_frameworks", state="ended") == 1
    mine = who(framework.framework_id, 'a "quoted" name', "prod")
    assert got.value("offerd_framework_dominant_share", **mine) == 1.0, "offers count"
    assert got.value("offerd_framework_tasks", state="TASK_RUNNING", **mine) == 1
    assert got.value("offerd_framework_held", resource="cpus", **mine) == 3
    assert got.value(
        "offerd_framework_wasted_resource_seconds_total", resource="cpus", **mine
    ) == pytest.approx(2.0)
    assert got.value("offerd_framework_under_share_seconds", **mine) == 0
    assert got.value("offerd_framework_ramp_up_seconds", **mine) >= 0


def test_what_has_ended_has_no_share_but_a_completion_time() -> None:
    cluster, framework, _ = busy_cluster()
    got = scrape(cluster)
    (name,) = {name for name, labels in got.values if ("name", "gone") in labels} - {
        "offerd_framework_ramp_up_seconds"
    }
    assert name == "offerd_framework_completion_seconds"
    ((labels, value),) = got.series(name).items()
    assert dict(labels)["role"] == "*"
    assert value == pytest.approx(1.0)
    assert framework.framework_id not in dict(labels).values()


def test_the_master_is_in_it() -> None:
    cluster, _, _ = busy_cluster()
    cluster.advance(4.0)
    cluster.turn(MEASURED)
    got = scrape(cluster)
    assert got.value("offerd_master_epoch") == 10
    assert got.value("offerd_master_up_seconds") == pytest.approx(7.0)
    ((labels, one),) = got.series("offerd_master_info").items()
    assert (dict(labels)["master_id"], dict(labels)["allocator"], one) == ("M-test", "drf", 1)
    for name in (
        "offerd_dropped_peers",
        "offerd_refused",
        "offerd_failed_messages",
        "offerd_unsent_messages",
    ):
        assert got.value(f"{name}_total") == 0
    assert got.value("offerd_offers_made_total") >= 2
    assert got.value("offerd_offers_accepted_total") == 1
    assert got.value("offerd_tasks_launched_total") == 3
    assert got.value("offerd_task_timeouts_total") == 1
    assert got.value("offerd_status_updates_total") == 2
    assert got.value("offerd_master_messages_sent_total") == 70
    assert got.value("offerd_master_connections") == 3
    assert got.value("offerd_master_peers") == 3
    assert got.value("offerd_offers") == 2
    assert got.value("offerd_master_tick_seconds_bucket", le="0.0001") == 2
    assert got.value("offerd_master_tick_seconds_bucket", le="+Inf") == 2 * (len(TIMING_BOUNDS_S) + 1)
    assert got.value("offerd_master_tick_seconds_count") == 2 * (len(TIMING_BOUNDS_S) + 1)
    assert got.value("offerd_master_loop_lag_seconds_sum") == 1.5


def test_all_that_a_master_counts_and_measures_has_a_metric() -> None:
    cluster, _, _ = busy_cluster()
    master = view_of(cluster).replica.master
    assert master is not None
    assert metrics.COUNTS.keys() == {*Counts().tallies(), "messages_sent"} == master.counts.keys()
    assert metrics.GAUGES.keys() == master.gauges.keys()
    assert metrics.TIMINGS.keys() == master.timings.keys()


def test_a_silent_slave_is_counted_until_it_is_lost() -> None:
    cluster, _, slave = busy_cluster()
    cluster.lose_peer(slave)
    assert scrape(cluster).value("offerd_slaves_silent") == 1
    cluster.advance(cluster.settings.ping_interval_s * (cluster.settings.max_missed_pings + 2))
    got = scrape(cluster)
    assert got.value("offerd_slaves_silent") == 0
    assert got.value("offerd_slaves", state="lost") == 1
    assert got.value("offerd_resources", resource="cpus", kind="total") == 4


def test_a_view_that_came_in_small_answers_gives_the_same() -> None:
    cluster, _, _ = busy_cluster()
    now = WALL + cluster.now
    whole = Exposition(exposition(view_of(cluster), now)).values
    parts = Exposition(exposition(view_of(cluster, limit=1), now)).values
    assert whole == parts


def test_frameworks_beyond_a_number_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_FRAMEWORKS", 2)
    cluster = ClusterHarness()
    for number in range(4):
        framework = cluster.framework(f"f{number}")
        cluster.slave(f"cpus={number + 1},mem={number + 1}G")
        held = [task(f"t{i}", "cpus=1,mem=1G") for i in range(number + 1)]
        framework.accept(framework.offer(), tasks=held, refuse_seconds=1e6)
        framework.send(SetNeedsOffers(False))
        cluster.core.cluster.frameworks[framework.framework_id].wasted_resource_s["cpus"] = 10.0
    got = scrape(cluster)
    shares = {
        dict(labels)["name"]: value for labels, value in got.series("offerd_framework_dominant_share").items()
    }
    assert shares.keys() == {"f3", "f2", "other"}, "those with the largest shares have series of their own"
    other = {"framework_id": "other", "name": "other", "role": "other"}
    assert got.value("offerd_framework_held", resource="cpus", **other) == 1 + 2
    assert got.value("offerd_framework_tasks", state="TASK_STAGING", **other) == 1 + 2
    assert got.value("offerd_framework_wasted_resource_seconds_total", resource="cpus", **other) == 20.0
    assert got.value("offerd_frameworks", state="active") == 4
    all_held = sum(
        value
        for labels, value in got.series("offerd_framework_held").items()
        if ("resource", "cpus") in labels
    )
    assert all_held == got.value("offerd_resources", resource="cpus", kind="used")


def test_of_very_many_frameworks_two_hundred_have_series() -> None:
    cluster = ClusterHarness(checks_invariants=False)
    for number in range(230):
        cluster.framework(f"f{number}")
    got = scrape(cluster)
    assert len(got.series("offerd_framework_dominant_share")) == metrics.MAX_FRAMEWORKS + 1


def test_names_that_frameworks_choose_break_no_line_and_take_no_others_series() -> None:
    cluster = ClusterHarness()
    for name in ('a"} 1\nfake_total 7', "\x1b[31m", "\x1b[31m", "b" * 1000, "other", "\u202ex"):
        cluster.framework(name, role=name if len(name) < 20 and name.isprintable() else "*")
    got = scrape(cluster)
    names = [dict(labels)["name"] for labels in got.series("offerd_framework_dominant_share")]
    assert len(names) == 6
    assert max(map(len, names)) == metrics.MAX_LABEL
    assert all(name.isprintable() for name in names)
    assert not got.series("fake_total")


def test_resources_whose_names_look_alike_share_a_series() -> None:
    view = view_of(busy_cluster()[0])
    master = view.replica.master
    assert master is not None
    odd = {"a\x00": 1.0, "a\\x00": 2.0}
    view.replica.master = msgspec.structs.replace(master, wasted_resource_s=odd)
    got = Exposition(exposition(view, WALL))
    assert got.value("offerd_wasted_resource_seconds_total", resource="a\\x00") == 3.0


def test_a_master_of_an_older_version_has_no_counts_and_no_made_up_zeros() -> None:
    view = view_of(busy_cluster()[0])
    master = view.replica.master
    assert master is not None
    view.replica.master = msgspec.structs.replace(master, counts={}, gauges={"odd": 1}, timings={})
    got = Exposition(exposition(view, WALL))
    assert got.value("offerd_slaves", state="active") == 2
    assert not {name for name, _ in got.values if name.startswith(("offerd_offers", "offerd_master_tick"))}


# -- The gateway's own --------------------------------------------------------------------------------------------------


def test_a_gateway_without_a_master_says_that_it_does_not_follow() -> None:
    got = Exposition(exposition(ClusterView(), WALL, GatewayFigures(is_following=False)))
    assert got.value("offerd_gateway_following") == 0
    assert not {name for name, _ in got.values if not name.startswith(("offerd_gateway_", "process_"))}


def test_the_gateway_is_in_it_if_it_asks() -> None:
    cluster, _, _ = busy_cluster()
    got = Exposition(exposition(view_of(cluster), WALL + cluster.now + 2.5, FIGURES))
    assert got.value("offerd_gateway_following") == 1
    assert got.value("offerd_gateway_lag_seconds") == pytest.approx(2.5)
    assert got.value("offerd_gateway_streams") == 2
    assert got.value("offerd_gateway_requests_total", route="/v1/tasks", status="200") == 3
    assert got.value("offerd_gateway_requests_total", route="/v1/tasks", status="403") == 1
    assert got.value("offerd_gateway_history_lag_seconds") == 0.5
    assert got.value("offerd_gateway_history_dropped_total") == 4
    assert got.value("offerd_gateway_history_bytes") == 4096
    assert not {name for name, _ in scrape(cluster).values if name.startswith(("offerd_gateway", "process_"))}


def test_routes_beyond_a_number_are_counted_together() -> None:
    requests = {(f"/{number}", 404): 2 for number in range(metrics.MAX_ROUTES + 5)}
    own = GatewayFigures(is_following=True, requests=requests)
    got = Exposition(exposition(ClusterView(), WALL, own))
    assert len(got.series("offerd_gateway_requests_total")) == metrics.MAX_ROUTES + 1
    assert got.value("offerd_gateway_requests_total", route="other", status="other") == 10


def test_promtool_finds_nothing_wrong() -> None:
    cluster, _, _ = busy_cluster()
    text = exposition(view_of(cluster), WALL + cluster.now, FIGURES)
    assert promtool("check", "metrics", stdin=text) == ""


# -- A slave's, fetched -------------------------------------------------------------------------------------------------


def test_a_slaves_metrics_are_fetched_with_an_operators_access(tmp_path: Path) -> None:
    site = FilesSite(tmp_path)
    with busy_slave(tmp_path) as (_, sources):
        site.server.metrics = lambda: slave_exposition(sources, 0)
        got = Exposition(fetch(site.access("root", operator=True)))
        assert got.value("offerd_slave_registered") == 1
        with pytest.raises(SlaveMetricsUnavailable, match="403: metrics are for operators"):
            fetch(site.access())
        site.server.metrics = lambda: b"x" * (9 << 20)
        with pytest.raises(SlaveMetricsUnavailable, match="sends more than it was asked for"):
            fetch(site.access("root", operator=True))
    access = site.access("root", operator=True)
    site.close()
    with pytest.raises(SlaveMetricsUnavailable, match="refused"):
        fetch(access)


def test_a_task_that_ends_counts_no_more_as_running() -> None:
    cluster, framework, slave = busy_cluster()
    slave.status(framework, "t1", TaskState.FINISHED, 2)
    got = scrape(cluster)
    assert ("offerd_tasks", frozenset({("state", "TASK_RUNNING")})) not in got.values
    assert got.value("offerd_tasks_ended_total", state="TASK_FINISHED") == 1
