"""A real Prometheus, with the configuration of deploy/monitoring, watches a local cluster through its gateway."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest

from helpers.cli import offerd, wait_until
from helpers.documents import ROOT
from helpers.prometheus import Exposition, promtool
from offerd_cli.local_cluster import LocalCluster
from offerd_cli.web_access import is_installed

pytestmark = [
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="needs Prometheus (apt-get install prometheus)"
    ),
    pytest.mark.skipif(not is_installed(), reason="needs what the gateway needs (pip install offerd[web])"),
]
SLAVES = 2
TIMEOUT_S = 20.0
MONITORING = ROOT / "deploy/monitoring"


class Prometheus:
    """A Prometheus that reads the gateway at this address every second, with this token."""

    def __init__(self, directory: Path, gateway: str, token: str) -> None:
        text = (MONITORING / "prometheus.yml").read_text()
        text = re.sub(r"(scrape_interval|evaluation_interval|refresh_interval): \w+", r"\1: 1s", text)
        assert text.count("127.0.0.1:5070") == 2
        (directory / "prometheus.yml").write_text(text.replace("127.0.0.1:5070", gateway))
        shutil.copy(MONITORING / "alerts.yml", directory)
        (directory / "offerd.token").write_text(token)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address={self.address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series, each with its labels and its value as text."""
        url = f"http://{self.address}/api/v1/query?{urlencode({'query': expression})}"
        with urlopen(url, timeout=TIMEOUT_S) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        series: list[dict[str, Any]] = found["data"]["result"]
        return series

    def value(self, expression: str) -> float | None:
        """Of the only series; None while there is none, or Prometheus does not listen yet."""
        assert self._process.poll() is None, self._log.read_text()
        with suppress(URLError, ConnectionError):
            found = self.query(expression)
            assert len(found) <= 1, found
            return float(found[0]["value"][1]) if found else None
        return None

    def wait_for(self, expression: str, value: float) -> None:
        wait_until(lambda: self.value(expression) == value, f"{expression} to be {value:g}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(SLAVES, cpus="2", mem="512M", isolation="noop", web_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(cluster: LocalCluster) -> tuple[str, str]:
    """Its `HOST:PORT`, and a web token of an operator."""
    parts = urlsplit(cluster.web_address)
    (token,) = parse_qs(parts.query)["token"]
    return parts.netloc, token


@pytest.fixture
def prometheus(tmp_path: Path, gateway: tuple[str, str]) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path, *gateway)
    yield running
    running.close()


def get(gateway: tuple[str, str], path: str) -> bytes:
    host, token = gateway
    request = Request(f"http://{host}{path}", headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=TIMEOUT_S) as answer:
        body: bytes = answer.read()
        return body


def test_prometheus_watches_the_cluster_and_each_slave(cluster: LocalCluster, prometheus: Prometheus) -> None:
    for number in range(3):
        status = 3 if number == 2 else 0
        ran = offerd(cluster, "run", "--", "sh", "-c", f"exit {status}")
        assert ran.returncode == status, ran.stderr
    prometheus.wait_for('offerd_slaves{state="active"}', SLAVES)
    prometheus.wait_for("offerd_gateway_following", 1)
    prometheus.wait_for('sum(offerd_tasks_ended_total{state="TASK_FINISHED"})', 2)
    prometheus.wait_for('sum(offerd_tasks_ended_total{state="TASK_FAILED"})', 1)
    prometheus.wait_for("offerd_tasks_launched_total", 3)
    prometheus.wait_for('count(up{job="offerd-slaves"} == 1)', SLAVES)
    prometheus.wait_for("sum(offerd_slave_registered)", SLAVES)
    prometheus.wait_for("sum(offerd_slave_tasks_delivered_total)", 3)
    prometheus.wait_for("sum(offerd_slave_journal_sync_seconds_count) > bool 0", 1)
    slaves = json.loads(offerd(cluster, "slaves", "--json").stdout)["slaves"]
    found = {
        (each["metric"]["slave"], each["metric"]["instance"])
        for each in prometheus.query("offerd_slave_info")
    }
    assert found == {(slave["slave_id"], slave["hostname"]) for slave in slaves}
    assert prometheus.query('ALERTS{alertstate="firing"}') == [], "nothing is wrong with the cluster"
    assert prometheus.query("scrape_samples_post_metric_relabeling == 0") == []


def test_what_is_served_passes_promtool(cluster: LocalCluster, gateway: tuple[str, str]) -> None:
    text = get(gateway, "/metrics")
    assert promtool("check", "metrics", stdin=text) == ""
    assert Exposition(text).value("offerd_gateway_following") == 1
    targets = json.loads(get(gateway, "/v1/prometheus/targets"))
    assert len(targets) == SLAVES
    for target in targets:
        assert target["targets"] == [gateway[0]]
        text = get(gateway, target["labels"]["__metrics_path__"])
        assert promtool("check", "metrics", stdin=text) == ""
        assert Exposition(text).value("offerd_slave_registered") == 1
