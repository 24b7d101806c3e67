"""`offerd local` and `LocalCluster`: everything starts, and nothing is left, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import begin, offerd, processes_with, wait_until
from offerd.errors import BadInput
from offerd_cli.local_cluster import LocalCluster
from offerd_cli.sweep import members

AS_AN_ACCOUNT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
"""Runs a command without root's capabilities on other users' files."""


def start_local(*options: str, under: tuple[str, ...] = ()) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """A running `offerd local --json` on a free port, and its first line."""
    words = ("local", "--port", "0", "--cpus", "2", "--mem", "256M", "--json")
    process = begin(None, *words, *options, under=under)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return process, json.loads(line)


def run_sleeper(master: str) -> tuple[subprocess.Popen[bytes], str]:
    """A running task with a child that has left its session and its environment."""
    duration = f"600.{uuid.uuid4().int % 10**12:012d}"
    script = f"setsid env -i sleep {duration} & exec sleep {duration}"
    client = begin(None, "run", "--master", master, "--", "sh", "-c", script)
    wait_until(lambda: len(processes_with(duration)) == 2, "the task to run")
    return client, duration


def assert_nothing_is_left(base: str, duration: str = "") -> None:
    wait_until(lambda: not members(Path(base)) and not os.path.exists(base), "processes and files to be gone")
    assert not duration or processes_with(duration) == []


def end(process: subprocess.Popen[bytes], number: int) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


def test_a_signal_to_record_is_passed_on_to_all_daemons() -> None:
    process, said = start_local("--slaves", "2")
    base = Path(said["base"])
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: len([*base.rglob("*.recording")]) == 3, "the master and both slaves to have recorded")
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: len([*base.rglob("*.recording")]) == 6, "all to have recorded again")
    assert end(process, signal.SIGINT) == 0
    assert_nothing_is_left(said["base"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_and_leaves_nothing(number: int) -> None:
    process, said = start_local("--slaves", "2")
    client, duration = run_sleeper(said["master"])
    assert end(process, number) == 0
    assert_nothing_is_left(said["base"], duration)
    end(client, signal.SIGKILL)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_directories_without_permissions_are_removed_too(number: int, status: int) -> None:
    process, said = start_local(under=AS_AN_ACCOUNT)
    script = "mkdir -p a/b && touch a/b/f && chmod 0 a/b a && mkdir c && touch c/f && chmod 500 c"
    assert offerd(None, "run", "--master", said["master"], "--", "sh", "-c", script).returncode == 0
    assert end(process, number) == status
    assert_nothing_is_left(said["base"])


def test_an_owner_that_is_killed_leaves_nothing_either() -> None:
    process, said = start_local("--slaves", "2")
    client, duration = run_sleeper(said["master"])
    end(process, signal.SIGKILL)
    assert_nothing_is_left(said["base"], duration)
    end(client, signal.SIGKILL)


def test_a_slave_that_was_killed_leaves_nothing_at_the_end() -> None:
    process, said = start_local()
    client, duration = run_sleeper(said["master"])
    os.kill(said["slaves"][0]["pid"], signal.SIGKILL)
    assert process.stderr is not None
    assert b"slave-1 was killed by SIGKILL" in process.stderr.readline()
    assert len(processes_with(duration)) == 2
    assert end(process, signal.SIGINT) == 0
    assert_nothing_is_left(said["base"], duration)
    end(client, signal.SIGKILL)


def test_when_every_daemon_is_gone_it_ends_with_a_failure() -> None:
    process, said = start_local()
    for pid in (said["slaves"][0]["pid"], said["pid"]):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"every daemon has ended" in err
    assert_nothing_is_left(said["base"])


def test_the_banner_says_what_to_type_next() -> None:
    process = begin(None, "local", "--slaves", "0", "--port", "0")
    assert process.stdout is not None
    said = b"".join(iter(process.stdout.readline, b"Ctrl-C ends everything and leaves nothing behind.\n"))
    assert b"  in another terminal:\n  offerd run -- sh -c 'echo hello'" in said
    second = begin(None, "local", "--slaves", "0", "--port", "0")
    assert second.stdout is not None
    said = b"".join(iter(second.stdout.readline, b"Ctrl-C ends everything and leaves nothing behind.\n"))
    assert b"export OFFERD_MASTER=127.0.0.1:" in said
    assert [end(each, signal.SIGINT) for each in (process, second)] == [0, 0]


def test_without_memory_limits_the_banner_says_so_and_greedy_tasks_are_ended() -> None:
    process = begin(None, "local", "--slaves", "1", "--port", "0", "--isolation", "noop", "--mem", "1G")
    assert process.stdout is not None
    said = b"".join(iter(process.stdout.readline, b"Ctrl-C ends everything and leaves nothing behind.\n"))
    assert b"isolation noop: memory is watched, not limited" in said
    master = f"127.0.0.1:{said.partition(b'master on 127.0.0.1:')[2].partition(b',')[0].decode()}"
    words = ("run", "--master", master, "--mem", "64M", "--timeout", "50s", "--", sys.executable, "-c")
    modest = begin(None, *words, "held = bytearray(b'x') * (16 << 20); import time; time.sleep(1000)")

    def running() -> list[dict[str, Any]]:
        listed = offerd(None, "tasks", "--master", master, "--json")
        return [each for each in json.loads(listed.stdout)["tasks"] if each["state"] == "TASK_RUNNING"]

    wait_until(running, "it to run")
    assert running()[0]["message"] == "memory is watched, not limited (isolation noop)"
    greedy = offerd(None, *words, "held = bytearray(b'x') * (200 << 20); import time; time.sleep(1000)")
    assert greedy.returncode == 1, greedy.stderr
    assert b"LIMIT_EXCEEDED" in greedy.stderr
    assert b"more than the 64M that it may have; memory is watched here, not limited" in greedy.stderr
    assert modest.poll() is None
    assert [end(each, signal.SIGINT) for each in (modest, process)] == [130, 0]


def test_a_port_in_use_is_one_line_and_exit_status_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for words in (("local", "--port", port), ("master", "--insecure", "--port", port)):
            done = offerd(None, *words)
            assert done.returncode == 2
            assert b"in use" in done.stderr
            assert done.stderr.count(b"\n") == 1


def test_an_unknown_isolation_is_one_line_and_exit_status_2() -> None:
    done = offerd(None, "local", "--port", "0", "--isolation", "bubble-wrap")
    assert done.returncode == 2
    assert b"bubble-wrap" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_work_directory_that_is_a_file_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ("--master", "127.0.0.1:1", "--insecure", "--http-port", "0")
    done = offerd(None, "slave", *options, "--work-dir", str(tmp_path / "file"))
    assert done.returncode == 2
    assert str(tmp_path / "file").encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_second_slave_on_a_work_directory_is_refused() -> None:
    with LocalCluster(1, cpus="2", mem="256M") as cluster:
        done = offerd(cluster, "slave", "--work-dir", str(cluster.slaves[0].work_dir), "--http-port", "0")
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1


def test_a_cluster_that_cannot_start_raises_and_leaves_nothing() -> None:
    cluster = LocalCluster(2, isolation="bubble-wrap")
    with pytest.raises(BadInput, match="bubble-wrap"):
        cluster.start()
    assert_nothing_is_left(str(cluster.base))


def test_a_run_goes_on_over_the_restart_of_its_slave_and_of_the_master() -> None:
    with LocalCluster(1, cpus="2", mem="256M") as cluster:
        script = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 5"
        client = begin(cluster, "run", "--", "sh", "-c", script)
        assert client.stdout is not None
        first = client.stdout.readline()
        cluster.restart_master()
        cluster.restart_slave(0)
        rest, err = client.communicate(timeout=60)
        assert (first + rest, client.returncode) == (b"1\n2\n3\n4\n5\n6\n", 5)
        # On a busy machine the restart takes long enough to be reported.
        notices = (b"offerd run: no master for ", b"offerd run: a master answers, after ")
        assert all(line.startswith(notices) for line in err.splitlines()), err
        assert b"another key" not in err


def test_a_slave_killed_and_started_again_still_has_its_task() -> None:
    with LocalCluster(1, cpus="2", mem="256M") as cluster:
        client, duration = run_sleeper(cluster.address)
        cluster.kill_slave(0)
        cluster.restart_slave(0)
        cluster.wait_for_slaves(1)
        assert len(processes_with(duration)) == 2
        assert end(client, signal.SIGINT) == 130
        assert processes_with(duration) == []
        base = str(cluster.base)
    assert_nothing_is_left(base)


def test_draining_on_its_own_host_at_its_deadline_ends_the_tasks(tmp_path: Path) -> None:
    with LocalCluster(0) as cluster:
        work_dir = str(tmp_path / "slave")
        slave = begin(
            cluster, "slave", "--work-dir", work_dir, "--http-port", "0", "--resources", "cpus=2,mem=256M"
        )
        cluster.wait_for_slaves(1)
        client, duration = run_sleeper(cluster.address)
        drained = offerd(None, "slave", "--drain", "--deadline", "100ms", "--work-dir", work_dir)
        assert drained.returncode == 0, drained.stderr
        assert processes_with(duration) == []
        _, err = client.communicate(timeout=10)
        assert b"SLAVE_DRAINING" in err
        assert slave.poll() is None
        assert end(slave, signal.SIGTERM) == 0
        again = offerd(None, "slave", "--drain", "--work-dir", work_dir)
        assert (again.returncode, again.stderr.count(b"\n")) == (2, 1)
