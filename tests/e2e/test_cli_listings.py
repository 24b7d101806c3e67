"""What `offerd` shows of a running cluster: JSON for programs, tables for people, logs; and kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from helpers.cli import begin, listing, offerd, processes_with, wait_until
from offerd import ClusterExecutor
from offerd.files_connection import FilesConnection
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One slave with an attribute."""
    with LocalCluster(1, cpus="4", mem="1G", slave_options=("--attributes", "rack=7")) as running:
        yield running


@pytest.fixture
def sleeper(cluster: LocalCluster) -> Iterator[subprocess.Popen[bytes]]:
    """A running task called `sleeper` that has written a line."""
    duration = f"600.{uuid.uuid4().int % 10**12:012d}"
    process = begin(
        cluster,
        "run",
        "--name",
        "sleeper",
        "--",
        "sh",
        "-c",
        f"echo to-out; echo to-err >&2; exec sleep {duration}",
    )
    wait_until(lambda: processes_with(duration), "the task to run")
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    wait_until(lambda: not processes_with(duration), "the task to end")


def running_task(cluster: LocalCluster) -> str:
    """The id of the only running task, when the master knows it."""
    seen: list[dict[str, object]] = []

    def is_running() -> bool:
        seen[:] = [task for task in listing(cluster, "tasks")["tasks"] if task["state"] == "TASK_RUNNING"]
        return bool(seen)

    wait_until(is_running, "RUNNING")
    (task,) = seen  # taken from the same look, as a short task may be over at the next
    assert isinstance(task["task_id"], str)
    return task["task_id"]


def test_details_of_a_running_and_an_ended_task(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    task = running_task(cluster)
    found = listing(cluster, "tasks", task)
    assert (found["task_id"], found["hostname"], found["state"]) == (task, "slave-1", "TASK_RUNNING")
    wait_until(lambda: listing(cluster, "tasks", task)["usage"], "the slave to have measured it")
    shown = offerd(cluster, "tasks", task).stdout.decode()
    assert "of 128M asked for" in shown
    assert offerd(cluster, "kill", task).returncode == 0
    sleeper.wait(30)
    ended = listing(cluster, "tasks", task)
    assert (ended["state"], ended["user"]) == ("TASK_KILLED", found["user"])
    assert offerd(cluster, "tasks", "--host", "slave-2").stdout == b""


def test_top_shows_what_tasks_use_and_each_slave_serves_it(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    def rows() -> list[dict[str, object]]:
        found: list[dict[str, object]] = listing(cluster, "top", "--every", "200ms")["rows"]
        return [row for row in found if row["processes"]]

    wait_until(rows, "a row of the task's processes")
    (row,) = rows()
    assert (row["framework"], row["hostname"], row["tasks"], row["held_cpus"]) == (
        "sleeper",
        "slave-1",
        1,
        1.0,
    )
    done = offerd(cluster, "top", "--once", "--every", "100ms")
    assert done.stdout.split()[:3] == [b"TASK", b"FRAMEWORK", b"HOST"]
    with cluster.ask() as client:
        (slave,) = client.slaves()
    with closing(FilesConnection(slave.files, timeout_s=5)) as connection:
        document = json.load(connection.ask("GET", "/statistics"))
    assert [task["state"] for task in document["tasks"]] == ["TASK_RUNNING"]


def test_slaves_are_listed_with_their_resources(cluster: LocalCluster) -> None:
    (slave,) = listing(cluster, "slaves")["slaves"]
    assert (slave["hostname"], slave["state"], slave["attributes"]) == ("slave-1", "active", {"rack": "7"})
    assert (slave["total"]["cpus"], slave["total"]["mem"]) == (4.0, 1 << 30)
    assert slave["total"]["ports"] == [[31000, 31999]]


def test_status_is_everything_in_one_document(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    running_task(cluster)
    status = listing(cluster, "status")
    assert status["cluster"]["used"] == {"cpus": 1.0, "mem": 128 << 20}
    assert [framework["name"] for framework in status["frameworks"]] == ["sleeper"]
    assert status["frameworks"][0]["dominant_share"] == pytest.approx(0.25)
    assert [slave["tasks"] for slave in status["slaves"]] == [1]


def test_status_for_people_shows_the_shares(cluster: LocalCluster, sleeper: subprocess.Popen[bytes]) -> None:
    running_task(cluster)
    done = offerd(cluster, "status")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "sleeper" in text
    assert "25%" in text
    assert "\x1b" not in text


def test_a_table_in_a_pipe_is_neither_cut_nor_padded(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    task_id = running_task(cluster)
    lines = offerd(cluster, "tasks").stdout.decode().splitlines()
    assert lines[0].startswith("TASK ")
    assert lines[1].startswith(f"{task_id} ")
    assert all(line == line.rstrip() for line in lines)


def test_tasks_are_found_by_framework_and_remembered_when_they_have_ended(cluster: LocalCluster) -> None:
    assert offerd(cluster, "run", "--name", "brief", "--", "sh", "-c", "exit 3").returncode == 3
    (task,) = listing(cluster, "tasks", "--all", "--framework", "brief")["tasks"]
    assert (task["state"], task["exit_status"], task["reason"]) == ("TASK_FAILED", 3, "COMMAND_EXITED")
    assert listing(cluster, "tasks", "--framework", "brief")["tasks"] == []
    frameworks = listing(cluster, "frameworks", "--all")["frameworks"]
    (brief,) = (framework for framework in frameworks if framework["name"] == "brief")
    assert brief["state"] == "ended"
    assert 0 <= brief["ramp_up_s"] <= brief["completion_s"]
    metrics = offerd(cluster, "metrics").stdout.decode()
    for name in ("ramp_up", "completion"):
        assert (
            f'offerd_framework_{name}_seconds{{framework_id="{brief["framework_id"]}",name="brief"' in metrics
        )


def test_logs_are_read_while_the_task_runs(cluster: LocalCluster, sleeper: subprocess.Popen[bytes]) -> None:
    task_id = running_task(cluster)
    assert offerd(cluster, "logs", task_id).stdout == b"to-out\n"
    assert offerd(cluster, "logs", "--stderr", task_id).stdout == b"to-err\n"


def test_following_a_log_ends_with_the_task_and_has_all_of_it(cluster: LocalCluster) -> None:
    runner = begin(
        cluster, "run", "--name", "talker", "--", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.4; done"
    )
    follower = begin(cluster, "logs", "-f", running_task(cluster))
    out, err = follower.communicate(timeout=30)
    assert (follower.returncode, out, err) == (0, b"1\n2\n3\n4\n", b"")
    runner.communicate(timeout=30)


def test_logs_of_an_ended_task_are_still_there(cluster: LocalCluster) -> None:
    offerd(cluster, "run", "--name", "past", "--", "echo", "gone by")
    (task,) = listing(cluster, "tasks", "--all", "--framework", "past")["tasks"]
    assert offerd(cluster, "logs", task["task_id"]).stdout == b"gone by\n"


def test_logs_of_a_call_say_how_much_of_its_executors_log_is_gone(cluster: LocalCluster) -> None:
    with ClusterExecutor(cluster.address, cpus=0.1, mem="32M") as executor:
        call = executor.submit(os.system, "head -c 12000000 /dev/zero")
        assert call.result(60) == 0
        words = ("logs", "--framework", executor.framework_id, call.task_id)

        def is_complete() -> bool:
            """A part of the output may still be in a pipe."""
            done = offerd(cluster, *words)
            reported = re.search(
                r"the first (\d+) bytes of its executor's stdout are gone", done.stderr.decode()
            )
            return (
                done.returncode == 1
                and reported is not None
                and int(reported[1]) + len(done.stdout) == 12_000_000
            )

        wait_until(is_complete, "the lines and the count of missing bytes to add up")


def test_logs_of_an_unknown_task_fail_with_one_line(cluster: LocalCluster) -> None:
    done = offerd(cluster, "logs", "no-such-task")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no-such-task" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_kill_ends_another_programs_task_which_reports_it(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    assert offerd(cluster, "kill", running_task(cluster)).returncode == 0
    _, err = sleeper.communicate(timeout=30)
    assert sleeper.returncode == 137
    assert b"killed" in err


def test_killing_an_unknown_task_fails_with_one_line(cluster: LocalCluster) -> None:
    done = offerd(cluster, "kill", "no-such-task")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


def test_explain_says_why_a_framework_gets_no_offers(
    cluster: LocalCluster, sleeper: subprocess.Popen[bytes]
) -> None:
    running_task(cluster)
    document = listing(cluster, "explain", "sleeper")
    assert document["share"] == pytest.approx(0.25)
    assert [cause["slaves"] for cause in document["causes"]] == [1]
    nobody = offerd(cluster, "explain", "nobody")
    assert (nobody.returncode, nobody.stdout) == (2, b"")
    assert nobody.stderr == b"offerd: no framework nobody is registered; `offerd frameworks` lists them\n"
