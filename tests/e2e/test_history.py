"""The history outlives masters and gateways: `offerd tasks --ended`, `offerd report`."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import listing, offerd, wait_until
from offerd_cli.local_cluster import LocalCluster
from offerd_web.services.past import FILE


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, web_port=0) as running:
        yield running


def run(cluster: LocalCluster, name: str, *command: str) -> int:
    return offerd(cluster, "run", "--name", name, "--timeout", "30s", "--", *command).returncode


def ended(cluster: LocalCluster, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = listing(cluster, "tasks", "--ended", *options)["tasks"]
    return found


def restart_gateway(cluster: LocalCluster) -> None:
    """`kill -9`, and another on the same history."""
    assert cluster.web is not None
    cluster.web.is_wanted = False
    cluster.web.signal(signal.SIGKILL)
    assert cluster.web.wait(10)
    (cluster.base / "web" / "address").unlink()
    cluster.web.start()
    wait_until(lambda: (cluster.base / "web" / "address").exists(), "the next gateway")


def test_what_ran_is_listed_once_after_gateway_and_master_were_killed(cluster: LocalCluster) -> None:
    assert run(cluster, "early", "sh", "-c", "exit 3") == 3
    wait_until(lambda: ended(cluster), "the first task in the history")
    restart_gateway(cluster)
    assert run(cluster, "late", "true") == 0
    wait_until(lambda: len(ended(cluster)) == 2, "the second task in the history")
    cluster.kill_master()
    late, early = ended(cluster, "--since", "2d")
    assert (early["framework_name"], early["state"], early["exit_status"]) == ("early", "TASK_FAILED", 3)
    assert (late["framework_name"], late["state"], late["hostname"]) == ("late", "TASK_FINISHED", "slave-1")
    text = offerd(cluster, "tasks", "--ended", "--framework", "early").stdout.decode()
    assert "COMMAND_EXITED" in text
    assert "late" not in text
    cluster.restart_master()
    wait_until(lambda: listing(cluster, "slaves")["slaves"], "the slave at the next master")
    assert run(cluster, "last", "true") == 0
    wait_until(lambda: len(ended(cluster)) >= 3, "the third task in the history")
    assert [task["framework_name"] for task in ended(cluster)] == ["last", "late", "early"]


def test_a_report_adds_up_what_was_held_and_wasted(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--name", "slow", "--timeout", "1s", "--", "sleep", "60")
    assert done.returncode == 124

    def rows(by: str) -> dict[str, dict[str, Any]]:
        document = json.loads(offerd(cluster, "report", "--by", by, "--json").stdout)
        return {row["framework_name"] or row["name"]: row for row in document["rows"]}

    wait_until(lambda: "slow" in rows("framework"), "the task's account")
    slow = rows("framework")["slow"]
    assert slow["tasks"] == 1
    assert slow["cpu_s_wasted"] == slow["cpu_s_held"] >= 1.0
    (role,) = rows("role").values()
    assert role["tasks"] == len(ended(cluster))
    assert "100%" in offerd(cluster, "report").stdout.decode()


def test_sqlite3_reads_the_file_while_it_is_written(cluster: LocalCluster) -> None:
    path = cluster.base / "web" / FILE
    assert path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (count,) = database.execute("SELECT count(*) FROM tasks").fetchone()
    database.close()
    assert count == len(ended(cluster))


def test_without_a_gateway_one_line_says_what_to_do(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERD_WEB", "http://127.0.0.1:1")
    done = offerd(cluster, "report")
    assert done.returncode == 1
    assert b"the gateway at 127.0.0.1:1 does not answer" in done.stderr


def test_a_web_token_is_made_only_for_the_owner_of_a_key(cluster: LocalCluster, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path))
    done = offerd(cluster, "web", "token", "new", "--for", "nobody-here", *state)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"the master knows no key of nobody-here" in done.stderr
    assert offerd(cluster, "web", "token", "new", "--for", "slave-1", *state).stdout.startswith(b"ow_")
    assert b"slave-1" in offerd(cluster, "web", "token", "list", *state).stdout
