"""`GET /metrics` of a slave, read back by Prometheus' own parser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.busy_slave import USAGE, busy_slave
from helpers.files_site import FilesSite
from helpers.prometheus import Exposition, promtool
from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import __version__
from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID
from offerd_isolation.base import Limitation
from offerd_slave import metrics
from offerd_slave.core import events as ev
from offerd_slave.host_figures import host_figures
from offerd_slave.metric_sources import MetricSources
from offerd_slave.settings import SlaveSettings

RETRY_S = SlaveSettings().update_retry_s
WHO = {"framework_id": "F-1", "executor_id": "command"}


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Bench, MetricSources]]:
    with busy_slave(tmp_path) as made:
        yield made


def scrape(sources: MetricSources, refused: int = 0) -> Exposition:
    return Exposition(metrics.exposition(sources, refused))


def test_the_slave_its_resources_and_tasks_are_in_it(busy: tuple[Bench, MetricSources]) -> None:
    got = scrape(busy[1], refused=4)
    names = {"slave_id": "S-1", "hostname": "host", "isolation": "noop", "version": __version__}
    assert got.value("offerd_slave_info", **names) == 1
    assert got.value("offerd_slave_registered") == 1
    assert got.value("offerd_slave_disk_full") == 0
    resources = {
        (kind, name): got.value("offerd_slave_resources", resource=name, kind=kind)
        for kind in ("total", "held", "long_total", "long_held")
        for name in ("cpus", "mem")
    }
    assert resources == {
        ("total", "cpus"): 4, ("total", "mem"): 4 << 30, ("held", "cpus"): 1, ("held", "mem"): 64 << 20,
        ("long_total", "cpus"): 2, ("long_total", "mem"): 2 << 30, ("long_held", "cpus"): 1, ("long_held", "mem"): 64 << 20,
    }  # fmt: skip
    assert got.value("offerd_slave_resources", resource="ports", kind="total") > 0
    assert got.value("offerd_slave_tasks", state="TASK_RUNNING") == 1
    assert got.value("offerd_slave_tasks_ended_total", state="TASK_FAILED") == 1
    assert got.value("offerd_slave_tasks_limited_total", limit="memory.max") == 1
    assert got.value("offerd_slave_tasks_delivered_total") == 2
    assert got.value("offerd_slave_tasks_refused_total") == 1
    assert got.value("offerd_slave_containers", phase="registered") == 1
    assert got.value("offerd_slave_containers", phase="ending") == 0
    assert got.value("offerd_slave_launches_total") == 1
    assert got.value("offerd_slave_statuses_stored_total") == 4, "two that run, one that ended, one refused"
    assert got.value("offerd_slave_statuses_waiting") == 4
    assert got.value("offerd_slave_requests_refused_total") == 4
    assert got.value("offerd_slave_shims") == 2
    assert got.value("offerd_slave_launches_under_way") == 3
    assert got.value("offerd_slave_zygote_starts_total") == 1


def test_statuses_that_are_sent_again_are_counted_until_they_are_acknowledged(
    busy: tuple[Bench, MetricSources],
) -> None:
    bench, sources = busy
    before = scrape(sources).value("offerd_slave_statuses_repeated_total")
    bench.turn(after_s=RETRY_S)
    after = scrape(sources).value("offerd_slave_statuses_repeated_total")
    assert after == before + 4
    for name, sequence in (("runs", 1), ("ends", 2), ("huge", 1)):
        bench.acknowledge(name, sequence)
    bench.turn(after_s=RETRY_S)
    got = scrape(sources)
    assert got.value("offerd_slave_statuses_waiting") == 0
    assert got.value("offerd_slave_statuses_repeated_total") == after


def test_what_a_container_uses_is_under_its_framework_and_executor(busy: tuple[Bench, MetricSources]) -> None:
    got = scrape(busy[1])
    assert got.value("offerd_container_cpu_seconds_total", **WHO) == 12.5
    assert got.value("offerd_container_throttled_seconds_total", **WHO) == 0.5
    assert got.value("offerd_container_memory_bytes", **WHO) == 1 << 20
    assert got.value("offerd_container_peak_memory_bytes", **WHO) == 1 << 21
    assert got.value("offerd_container_processes", **WHO) == 3
    assert got.value("offerd_container_tasks", **WHO) == 1
    assert got.value("offerd_container_held_cpus", **WHO) == 1
    assert got.value("offerd_container_held_memory_bytes", **WHO) == 64 << 20
    pressure = [
        got.value("offerd_container_pressure_ratio", resource=resource, **WHO)
        for resource in ("cpu", "memory", "io")
    ]
    assert pressure == pytest.approx([0.1, 0.2, 0.3])
    assert got.value("offerd_slave_used_cpus") == 0.25
    assert got.value("offerd_slave_used_memory_bytes") == 1 << 20
    values = {value for _, labels in got.values for _, value in labels}
    assert "command" in values
    assert not values & {"runs", "ends", "huge"}, "no task has a series of its own"


def test_two_containers_of_one_executor_share_a_series(busy: tuple[Bench, MetricSources]) -> None:
    bench, sources = busy
    bench.from_master(m.ShutdownFramework(FRAMEWORK.framework_id))
    bench.run(task("next"))
    assert len(bench.core.state.containers) == 2, "one ends while the other begins"
    (later,) = bench.core.state.containers.keys() - sources.measured.keys()
    sources = replace(sources, measured={**sources.measured, later: (0.5, replace(USAGE, cpu_s=1.0))})
    assert scrape(sources).value("offerd_container_cpu_seconds_total", **WHO) == 13.5


def test_of_too_many_containers_some_are_only_counted(
    busy: tuple[Bench, MetricSources], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, sources = busy
    monkeypatch.setattr(metrics, "MAX_CONTAINERS", 2)
    assert scrape(sources).value("offerd_slave_containers_dropped") == 0
    for number in range(3):
        executor = m.ExecutorInfo(ExecutorID(f"e{number}"), module=COMMAND.module)
        info = m.TaskInfo(
            task(f"t{number}").task_id, task().resources, executor.executor_id, time_limit_s=5.0
        )
        bench.from_master(m.RunTasks(FRAMEWORK, executor, [info]))
    got = scrape(sources)
    assert len(got.series("offerd_container_tasks")) == 2
    assert got.value("offerd_slave_containers_dropped") == 2
    assert got.value("offerd_slave_containers", phase="launching") == 3


def test_a_limit_that_an_executor_makes_up_has_no_series_of_its_own(
    busy: tuple[Bench, MetricSources],
) -> None:
    bench, sources = busy
    for number, limit in enumerate(("a=1", "b=2", 'c"\n')):
        name = f"more{number}"
        bench.run(task(name))
        bench.update(name, m.TaskState.FAILED, 1, 10 + number, limit=limit)
    got = scrape(sources)
    assert got.value("offerd_slave_tasks_limited_total", limit="other") == 3
    assert len(got.series("offerd_slave_tasks_limited_total")) == 2


def test_a_task_that_its_slave_ends_for_a_limit_is_counted(busy: tuple[Bench, MetricSources]) -> None:
    bench, sources = busy
    hit = Limitation(bench.container_id, "disk=1000", "too much", task("runs").task_id)
    bench.event(ev.OverDisk(hit))
    bench.update("runs", m.TaskState.KILLED, 2, 4)
    assert scrape(sources).value("offerd_slave_tasks_limited_total", limit="disk") == 1


def test_the_journal_and_its_syncs_are_measured(busy: tuple[Bench, MetricSources]) -> None:
    bench, sources = busy
    sources.journal.append(bench.disk)
    got = scrape(sources)
    size = sources.journal.path.stat().st_size
    assert got.value("offerd_slave_journal_bytes") == size > 0
    assert got.value("offerd_slave_journal_written_bytes_total") == size
    sources.journal.compact([])
    got = scrape(sources)
    assert got.value("offerd_slave_journal_bytes") == 0
    assert got.value("offerd_slave_journal_written_bytes_total") == size, "it never falls"
    assert got.value("offerd_slave_journal_sync_seconds_count") == 1
    assert got.value("offerd_slave_journal_sync_seconds_sum") == 0.002
    assert got.value("offerd_slave_journal_sync_seconds_bucket", le="0.001") == 0
    assert got.value("offerd_slave_journal_sync_seconds_bucket", le="0.003") == 1
    assert got.value("offerd_slave_loop_lag_seconds_bucket", le="+Inf") == 1


def test_the_host_and_the_process_are_measured(busy: tuple[Bench, MetricSources]) -> None:
    got = scrape(busy[1])
    memory = {kind: got.value("offerd_slave_host_memory_bytes", kind=kind) for kind in ("total", "available")}
    disk = {kind: got.value("offerd_slave_host_disk_bytes", kind=kind) for kind in ("total", "available")}
    assert 0 < memory["available"] < memory["total"]
    assert 0 < disk["available"] < disk["total"]
    assert got.value("offerd_slave_host_cpus") >= 1
    assert 0 < got.value("process_open_fds") < got.value("process_max_fds")
    assert got.value("process_resident_memory_bytes") > 1 << 20


def test_a_kernel_without_pressure_files_has_no_such_series(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8 kB\nMemAvailable:  4 kB\n")
    found = host_figures(tmp_path, proc=tmp_path)
    assert found.mem_bytes == {"total": 8192, "available": 4096}
    assert found.pressure == {}
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/io").write_text(
        "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00 ...\n"
    )
    assert host_figures(tmp_path, proc=tmp_path).pressure == {"io": 0.125}


def test_promtool_finds_nothing_wrong(busy: tuple[Bench, MetricSources]) -> None:
    assert promtool("check", "metrics", stdin=metrics.exposition(busy[1], 0)) == ""


# -- Over HTTP ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilesSite]:
    made = FilesSite(tmp_path)
    yield made
    made.close()


def test_only_operators_are_answered(site: FilesSite) -> None:
    operator = site.token("GET", "/metrics", "root", operator=True)
    assert site.ask("GET", "/metrics", token=operator)[0] == 503, "the slave is still starting"
    site.server.metrics = lambda: b"figures\n"
    status, body, headers = site.ask("GET", "/metrics", token=operator)
    assert (status, body) == (200, b"figures\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    status, body, _ = site.ask("GET", "/metrics")
    assert (status, body) == (403, b"metrics are for operators; /statistics has those of your own tasks\n")
    for wrong in ("", site.token("GET", "/statistics", "root", operator=True)):
        assert site.ask("GET", "/metrics", token=wrong)[0] == 401
    assert (
        site.ask("PUT", "/metrics", b"x", token=site.token("PUT", "/metrics", "root", operator=True))[0]
        == 405
    )


def test_prometheus_client_is_loaded_by_the_first_scrape_and_not_before(tmp_path: Path) -> None:
    work_dir = tmp_path / "work"
    program = f"""
import sys
from pathlib import PosixPath
import offerd_slave.process, offerd_slave.launch.zygote, offerd_slave.launch.shim
import offerd_executors.command, offerd_executors.python
from offerd_slave.daemon import SlaveDaemon
from offerd_slave.options import SlaveOptions
daemon = SlaveDaemon(SlaveOptions(master="127.0.0.1:1", insecure=True, http_port=0, work_dir={work_dir!r},
                                  isolation="noop"))
before = "prometheus_client" in sys.modules
text = daemon._files._server.metrics().decode()
daemon.close()
print(before, "prometheus_client" in sys.modules, "offerd_slave_zygote_starts_total 1.0" in text)
"""
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stdout == "False True True\n"


def test_a_container_that_was_just_measured_away_counts_as_unused(busy: tuple[Bench, MetricSources]) -> None:
    got = scrape(replace(busy[1], measured={ContainerID("gone"): (0.1, USAGE)}))
    assert got.value("offerd_container_cpu_seconds_total", **WHO) == 0
