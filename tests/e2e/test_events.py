"""`offerd events`: what has happened, and what happens, also with the next master."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from helpers.cli import begin, offerd, wait_until
from offerd_cli.local_cluster import LocalCluster

Event = dict[str, object]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1) as running:
        yield running


@contextmanager
def followed(cluster: LocalCluster) -> Iterator[list[Event]]:
    """What `offerd events -f` prints, as it comes."""
    seen: list[Event] = []
    process: subprocess.Popen[bytes] = begin(cluster, "events", "-f", "--json")
    assert process.stdout is not None
    lines = process.stdout
    reader = threading.Thread(target=lambda: seen.extend(map(json.loads, lines)))
    reader.start()
    try:
        yield seen
    finally:
        process.terminate()
        process.wait(30)
        reader.join()
        lines.close()
        assert process.stderr is not None
        process.stderr.close()


def of_task(events: list[Event], name: str) -> list[object]:
    return [event["event"] for event in events if event.get("task_name") == name]


def test_what_has_happened_is_listed_with_names_in_order(cluster: LocalCluster) -> None:
    assert offerd(cluster, "run", "--name", "brief", "--timeout", "30s", "--", "true").returncode == 0
    done = offerd(cluster, "events", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert of_task(events, "brief") == ["task-launched", "task-running", "task-ended"]
    assert events[0]["event"] == "slave-registered"
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert {event["hostname"] for event in events if "task_id" in event} == {"slave-1"}
    text = offerd(cluster, "events", "--framework", "brief").stdout.decode()
    assert "task brief-" in text
    assert "finished on slave-1" in text
    assert "slave slave-1 has registered" not in text


def test_a_follower_sees_a_task_at_once_and_goes_on_with_the_next_master(cluster: LocalCluster) -> None:
    with followed(cluster) as seen:
        wait_until(lambda: seen, "the past")
        assert offerd(cluster, "run", "--name", "first", "--timeout", "30s", "--", "true").returncode == 0
        wait_until(lambda: "task-ended" in of_task(seen, "first"), "the end of the first task")
        cluster.restart_master()
        wait_until(lambda: any(event["event"] == "master-leads" for event in seen), "the next master")
        assert offerd(cluster, "run", "--name", "second", "--timeout", "30s", "--", "false").returncode == 1
        wait_until(lambda: "task-ended" in of_task(seen, "second"), "the end of the second task")
    assert of_task(seen, "first") == ["task-launched", "task-running", "task-ended"]
    assert of_task(seen, "second") == ["task-launched", "task-running", "task-ended"]
    (end,) = [event for event in seen if event["event"] == "task-ended" and event["task_name"] == "second"]
    assert (end["state"], end["reason"], end["exit_status"]) == ("TASK_FAILED", "COMMAND_EXITED", 1)
