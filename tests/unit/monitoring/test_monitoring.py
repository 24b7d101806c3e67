"""What deploy/monitoring and docs/metrics.md say of metrics is what gateways and slaves serve."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.busy_slave import busy_slave
from helpers.documents import ROOT
from helpers.prometheus import Described, Exposition, promtool
from helpers.views import WALL, busy_cluster, view_of
from offerd_cli.commands import web
from offerd_slave import metrics as slave_metrics
from offerd_slave.host_figures import HostFigures
from offerd_web.services.metrics import GatewayFigures, exposition

MONITORING = ROOT / "deploy/monitoring"
RULE_TESTS = ROOT / "tests/unit/monitoring/alerts.test.yml"
SERVED_BY_PROMETHEUS = {"up"}
"""What Prometheus itself says of each target."""
OWN = GatewayFigures(is_following=True, requests={("/v1/tasks", 200): 1}, history_lag_s=0.5)
HOST = HostFigures(2, 0.5, {"total": 2, "available": 1}, {"total": 2, "available": 1}, {"cpu": 0.5})


@pytest.fixture
def slave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exposition:
    """A slave's metrics, all of them, whatever this host's kernel can say."""
    monkeypatch.setattr(slave_metrics, "host_figures", lambda work_dir: HOST)
    with busy_slave(tmp_path) as (_, sources):
        return Exposition(slave_metrics.exposition(sources, 0))


@pytest.fixture
def gateway() -> Exposition:
    cluster, _, _ = busy_cluster()
    return Exposition(exposition(view_of(cluster), WALL + cluster.now, OWN))


@pytest.fixture
def served(slave: Exposition, gateway: Exposition) -> dict[str, set[str]]:
    """The name of each series to the names of its labels, beside those that Prometheus adds."""
    found: dict[str, set[str]] = {name: set() for name in SERVED_BY_PROMETHEUS}
    for name, labels in (*slave.values, *gateway.values):
        found.setdefault(name, set()).update(label for label, _ in labels)
    return found


# -- docs/metrics.md ----------------------------------------------------------------------------------------------------

Row = tuple[Described, str]
"""A metric and its meaning."""


def documented(section: str) -> set[Row]:
    """The rows of the tables between a heading and the next one of the same level."""
    text = (ROOT / "docs/metrics.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    found = {
        (Described(name.strip("`"), kind, frozenset(re.findall(r"`(\w+)`", labels))), meaning)
        for name, kind, labels, meaning in rows
    }
    assert len(found) == len(rows), "a metric is listed twice"
    return found


def rows_of(exposition: Exposition, *, of_process: bool = False) -> set[Row]:
    texts = dict(re.findall(r"^# HELP (\w+) (.*)$", exposition.text.decode(), re.MULTILINE))
    return {
        (each, texts.get(each.name) or texts[each.name.removesuffix("_total")])
        for each in exposition.described
        if each.name.startswith("process_") is of_process
    }


def test_the_document_lists_what_a_gateway_serves_and_no_more(gateway: Exposition) -> None:
    assert documented("The cluster and its master") | documented("The gateway") == rows_of(gateway)


def test_the_document_lists_what_a_slave_serves_and_no_more(slave: Exposition) -> None:
    assert documented("Slaves") == rows_of(slave)


def test_the_document_lists_what_both_say_of_their_process(slave: Exposition, gateway: Exposition) -> None:
    assert documented("Processes") == rows_of(slave, of_process=True) == rows_of(gateway, of_process=True)


# -- deploy/monitoring --------------------------------------------------------------------------------------------------

_STRING = re.compile(r'"[^"]*"')
_NAME = re.compile(r"\b(?:offerd_|process_|up\b)\w*")
_MATCHED = re.compile(r"(\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"\b(?:by|without|ignoring|on) \(([\w, ]*)\)")
ADDED = {"job", "instance", "slave"}
"""Labels that Prometheus and its list of targets add."""


def faults(expression: str, served: dict[str, set[str]]) -> list[str]:
    """The metrics of a query that nobody serves, and labels of them that they do not have."""
    bare = _STRING.sub("", expression)
    names = set(_NAME.findall(bare))
    assert names, f"no metric in {expression}"
    found = [name for name in names if name not in served]
    has = set().union(*(served.get(name, set()) for name in names)) | ADDED
    for name, matchers in _MATCHED.findall(bare):
        labels = set(re.findall(r"(\w+)\s*[=!~]", matchers))
        found += [f"{name}{{{label}}}" for label in labels - served.get(name, set()) - ADDED]
    for group in _GROUPED.findall(bare):
        found += [label for label in group.replace(" ", "").split(",") if label not in has]
    return found


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def alerts() -> dict[str, str]:
    """Name of each alert to its expression."""
    text = (MONITORING / "alerts.yml").read_text()
    found = re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text)
    assert len(found) == text.count("- alert:")
    return dict(found)


def test_the_dashboard_shows_only_what_is_served(served: dict[str, set[str]]) -> None:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert len(queries) > 50
    assert {query: found for query in queries if (found := faults(query, served))} == {}
    legends = {
        (target["expr"], label)
        for panel in panels()
        for target in panel["targets"]
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
    }
    unknown = {
        (query, label)
        for query, label in legends
        if label not in ADDED.union(*(served[name] for name in _NAME.findall(_STRING.sub("", query))))
    }
    assert unknown == set()


def test_the_panels_of_the_dashboard_have_places_and_numbers_of_their_own() -> None:
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(covered)) == len(covered), "panels overlap"
    assert max(x for x, _ in covered) < 24


def test_alerts_look_only_at_what_is_served(served: dict[str, set[str]]) -> None:
    assert {name: found for name, query in alerts().items() if (found := faults(query, served))} == {}


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(offerd_offers_made_total[5m])", []),
        ('offerd_slaves{state="lost", job="offerd"}', []),
        ("offerd_offers_mode_total", ["offerd_offers_mode_total"]),
        ('offerd_slaves{stat="lost"}', ["offerd_slaves{stat}"]),
        ("sum by (instance, kinds) (offerd_resources)", ["kinds"]),
    ],
)
def test_a_planted_fault_is_found(query: str, wrong: list[str], served: dict[str, set[str]]) -> None:
    assert faults(query, served) == wrong


def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    (tmp_path / "offerd.token").write_text("token")
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_prometheus_asks_at_the_port_where_a_gateway_listens() -> None:
    (port,) = (option.default for option in web.command.params if option.name == "port")
    text = (MONITORING / "prometheus.yml").read_text()
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", text)) == {str(port)}
    assert f"127.0.0.1:{port}" in (ROOT / "docs/metrics.md").read_text()


def test_each_alert_fires_when_it_should() -> None:
    tested = RULE_TESTS.read_text()
    assert [name for name in alerts() if name not in tested] == []
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


@pytest.mark.parametrize("always", ["vector(0) > 1", "vector(1)"])
def test_the_tests_of_alerts_see_each_that_never_fires_or_always(tmp_path: Path, always: str) -> None:
    (tmp_path / "deploy/monitoring").mkdir(parents=True)
    (tmp_path / "a/b/c").mkdir(parents=True)
    tests = shutil.copy(RULE_TESTS, tmp_path / "a/b/c")
    changed = re.sub(r"( +expr: ).+", rf"\g<1>{always}", (MONITORING / "alerts.yml").read_text())
    (tmp_path / "deploy/monitoring/alerts.yml").write_text(changed)
    said = promtool("test", "rules", str(tests), fails=True)
    assert [name for name in alerts() if name not in said] == []
