"""`offerd map` against a real cluster."""

from __future__ import annotations

import os
import pwd
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import begin, offerd, processes_with, wait_until
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two slaves, so that outputs come from more than one place."""
    with LocalCluster(2, cpus="2", mem="1G") as running:
        yield running


def test_each_argument_runs_once_and_outputs_come_whole(cluster: LocalCluster) -> None:
    arguments = [str(number) for number in range(200)]
    script = 'echo "$1-a"; echo "$1-b"'
    done = offerd(cluster, "map", "--timeout", "60s", "--", "sh", "-c", script, "sh", ":::", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().split()
    assert sorted(lines) == sorted(f"{n}-{x}" for n in arguments for x in "ab")
    assert all(lines[i][:-1] == lines[i + 1][:-1] for i in range(0, 400, 2))
    assert done.stderr == b""


def test_with_keep_order_outputs_come_in_the_order_of_the_arguments(cluster: LocalCluster) -> None:
    script = 'sleep 0.$((3 - $1)); echo "$1"'
    done = offerd(cluster, "map", "-k", "--", "sh", "-c", script, "sh", ":::", "0", "1", "2")
    assert done.stdout == b"0\n1\n2\n"


def test_arguments_may_come_from_stdin_and_have_a_place_shown(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "-k", "echo", "<{}>", "::::", "-", stdin=b"a b\nc\n")
    assert done.stdout == b"<a b>\n<c>\n"


def test_several_sources_are_combined_and_places_want_parts(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "-k", "echo", ":::", "a", "b", ":::", "c", "d")
    assert done.stdout == b"a c\na d\nb c\nb d\n"
    parts = offerd(cluster, "map", "-k", "echo", "{#}", "{1/.}", "{2}", ":::", "x/y.z", "w", ":::+", "1", "2")
    assert parts.stdout == b"1 y 1\n2 w 2\n"


def test_arguments_that_end_with_zero_bytes_may_be_empty(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "-k", "-0", "--", "echo", "x", stdin=b"a\0\0b\0")
    assert done.stdout == b"x a\nx \nx b\n"


def test_many_long_arguments_of_short_commands_are_no_message_too_large(cluster: LocalCluster) -> None:
    arguments = b"".join(b"%05d%s\n" % (number, b"x" * 30_000) for number in range(400))
    done = offerd(cluster, "map", "--timeout", "60s", "--", "true", "::::", "-", stdin=arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_tasks_have_the_surroundings_that_were_asked_for(cluster: LocalCluster) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    asked = ["-e", "COLOUR=red", "--user", me, "--long"]
    script = 'echo "$COLOUR $1 $(id -un)"'
    done = offerd(cluster, "map", "-k", *asked, "--", "sh", "-c", script, "sh", ":::", *map(str, range(40)))
    assert done.stdout.decode() == "".join(f"red {number} {me}\n" for number in range(40))
    nowhere = begin(cluster, "map", "--attributes", "rack=7", "--", "echo", ":::", "a")
    assert nowhere.stderr is not None
    assert b"--attributes" in nowhere.stderr.readline()
    nowhere.send_signal(signal.SIGINT)
    nowhere.communicate(timeout=30)


def test_tasks_have_no_time_limit_by_default_and_a_note_says_what_that_costs(
    cluster: LocalCluster,
) -> None:
    words = ("map", "--cpus", "1", "--", "sh", "-c", "sleep 4; echo $1", "sh", ":::", "a", "b", "c")
    done = offerd(cluster, *words)
    assert sorted(done.stdout) == sorted(b"a\nb\nc\n")
    assert done.stderr.count(b"\n") == 1
    assert b"--timeout 60s, or less, would end this wait" in done.stderr


def test_the_exit_status_is_how_many_failed(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "--", "sh", "-c", "exit $1", "sh", ":::", "0", "1", "0", "2", "3")
    assert done.returncode == 3
    assert b"3 of 5 failed" in done.stderr


def test_more_than_a_hundred_failures_are_101(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "--", "false", ":::", *map(str, range(150)))
    assert done.returncode == 101


def test_outputs_too_large_for_a_status_are_fetched_whole(cluster: LocalCluster) -> None:
    script = 'head -c 300000 /dev/zero | tr "\\0" "$1"; echo; echo "$1" >&2'
    done = offerd(cluster, "map", "-k", "--", "sh", "-c", script, "sh", ":::", "x", "y")
    assert done.stdout == b"x" * 300_000 + b"\n" + b"y" * 300_000 + b"\n"
    assert sorted(done.stderr.split()) == [b"x", b"y"]


def test_an_output_larger_than_two_log_files_comes_whole_too(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "--", "head", "-c", "21000000", ":::", "/dev/zero")
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 21_000_000, b"")


def test_a_lost_output_is_a_failure_and_reported_with_its_size(cluster: LocalCluster) -> None:
    script = 'rmdir "$PWD"; head -c 9000 /dev/zero'
    done = offerd(cluster, "map", "--", "sh", "-c", script, ":::", "one", "two")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"one: 9000 of 9000 bytes of its stdout are lost\n" in done.stderr
    assert b"2 of 2 failed" in done.stderr


def test_a_failed_task_is_run_again_as_often_as_asked(cluster: LocalCluster, tmp_path: Path) -> None:
    script = 'echo x >> "$1"; [ $(wc -l < "$1") -ge 3 ]'
    once = offerd(
        cluster, "map", "--retries", "1", "--", "sh", "-c", script, "sh", ":::", str(tmp_path / "a")
    )
    assert once.returncode == 1
    twice = offerd(
        cluster, "map", "--retries", "2", "--", "sh", "-c", script, "sh", ":::", str(tmp_path / "b")
    )
    assert twice.returncode == 0
    assert (tmp_path / "b").read_text() == "x\nx\nx\n"


def test_tasks_begin_in_an_empty_directory_or_the_given_one(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    lost = offerd(cluster, "map", "--", "wc", "-l", ":::", "a.txt", cwd=tmp_path)
    assert lost.returncode == 1
    found = offerd(cluster, "map", "-C", ".", "--", "wc", "-l", ":::", "a.txt", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, b"1 a.txt\n")
    run = offerd(cluster, "run", "-C", str(tmp_path), "--", "pwd")
    assert run.stdout.decode().strip() == str(tmp_path.resolve())


def test_an_argument_that_is_no_utf_8_reaches_its_command_and_costs_no_other(cluster: LocalCluster) -> None:
    odd = os.fsdecode(b"caf\xe9")
    done = offerd(cluster, "map", "-k", "--", "echo", ":::", "ok", odd, "a-longer-argument")
    assert (done.returncode, done.stdout) == (0, b"ok\ncaf\xe9\na-longer-argument\n")
    read = offerd(cluster, "map", "-k", "--", "echo", "{}{}", "::::", "-", stdin=b"\xff\nb\n")
    assert (read.returncode, read.stdout) == (0, b"\xff\xff\nbb\n")


def test_halt_kills_the_rest_at_the_first_failure(cluster: LocalCluster) -> None:
    duration = f"600.{uuid.uuid4().int % 10**12:012d}"
    script = f'[ "$1" != bad ] || {{ sleep 0.5; exit 1; }}; exec sleep {duration}'
    done = offerd(cluster, "map", "--halt", "--", "sh", "-c", script, "sh", ":::", "good", "bad", "good")
    assert done.returncode == 1
    assert processes_with(duration) == []


def test_no_more_than_so_many_run_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    script = 'mkdir "$1/lock" || exit 1; sleep 0.05; rmdir "$1/lock"'
    done = offerd(cluster, "map", "-j", "1", "--", "sh", "-c", script, "sh", ":::", *[str(tmp_path)] * 5)
    assert done.returncode == 0, done.stderr


def test_a_task_past_its_time_limit_is_named_with_its_argument(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "--timeout", "200ms", "--", "sleep", ":::", "0", "31.5")
    assert done.returncode == 1
    assert b"31.5: killed, TASK_TIMEOUT" in done.stderr


def test_ctrl_c_kills_running_tasks(cluster: LocalCluster) -> None:
    duration = f"600.{uuid.uuid4().int % 10**12:012d}"
    process = begin(cluster, "map", "--", "sleep", ":::", *[duration] * 50)
    wait_until(lambda: len(processes_with(duration)) >= 20, "tasks to run")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert processes_with(duration) == []
    assert b"KILLED_BY_FRAMEWORK" not in err
    assert err.count(b"killing") == 1


def test_no_arguments_are_no_work_and_no_error_but_a_note(cluster: LocalCluster) -> None:
    done = offerd(cluster, "map", "--", "true", ":::")
    said = b"offerd map: there are no arguments, so nothing was run\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", said)
